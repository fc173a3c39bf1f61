package extproc

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"

	"github.com/tokenbudget/tokenbudget/internal/certs"
)

// transport is TLS that logs why a connection did not come about, which gRPC keeps to
// itself. To Envoy's user, a certificate that is missing or signed by another looks like
// a server that is away.
type transport struct {
	credentials.TransportCredentials
	log      *zap.Logger
	refusals certs.Refusals
}

func newTransport(c *tls.Config, log *zap.Logger) *transport {
	return &transport{TransportCredentials: credentials.NewTLS(c), log: log}
}

// ServerHandshake implements [credentials.TransportCredentials].
func (t *transport) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := t.TransportCredentials.ServerHandshake(conn)
	if err == nil || errors.Is(err, io.EOF) { // a probe that only connects was not refused
		return secured, info, err
	}
	if n, tell := t.refusals.Tell(time.Now()); tell {
		t.log.Warn("a connection to listen.extproc was refused in the TLS handshake",
			zap.Stringer("from", conn.RemoteAddr()), zap.Error(err), zap.Int64("refused", n))
	}
	return secured, info, err
}
