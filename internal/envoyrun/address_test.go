package envoyrun

import (
	"net"
	"strconv"
	"testing"
)

// TestFreeAddress: it is of loopback, below the ports that connections get, and free; and no two are the same.
func TestFreeAddress(t *testing.T) {
	seen := make(map[string]bool)
	for range 20 {
		addr, err := FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		host, port, err := net.SplitHostPort(addr)
		n, convErr := strconv.Atoi(port)
		if err != nil || convErr != nil || host != "127.0.0.1" || n < firstPort || n > lastPort {
			t.Fatalf("%q, %v, %v", addr, err, convErr)
		}
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer lis.Close()
		if seen[addr] { // it is listened on
			t.Errorf("%s came twice", addr)
		}
		seen[addr] = true
	}
}
