package envoyrun

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports that systems give neither to connections nor to listeners that ask for any (Linux does from 32768 on,
// net.ipv4.ip_local_port_range; IANA has 49152).
const (
	firstPort = 15_000
	lastPort  = 31_999
)

// FreeAddress returns an address of loopback on which nobody listens, for a program that must be told one. What
// can listen on port 0 should: only there is nobody else in between. Here only somebody who chooses the same port
// at random could be; a connection could have any port that a listener on port 0 had before.
func FreeAddress() (string, error) {
	var err error
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1)))
		var lis net.Listener
		if lis, err = net.Listen("tcp", addr); err == nil {
			return addr, lis.Close()
		}
	}
	return "", errors.Join(fmt.Errorf("envoyrun: no port from %d to %d of 127.0.0.1 was free", firstPort, lastPort), err)
}
