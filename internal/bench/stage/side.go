package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// Side is a road from the clients to the upstream.
type Side struct {
	Name   string
	Addr   string          // where clients connect to
	Envoy  *envoyrun.Envoy // nil if there is none
	Server *Process        // nil if there is none
}

// NewSide starts an Envoy in front of an upstream, which may speak HTTP/2, and a server, which may be nil: then Envoy is without the
// ext_proc filter. The server is the side's from now on; it is closed if there is an error.
func NewSide(ctx context.Context, name, upstream string, http2 bool, server *Process, extProc string) (s *Side, err error) {
	s = &Side{Name: name, Server: server}
	defer func() {
		if err != nil {
			s, err = nil, errors.Join(err, s.Close())
		}
	}()
	o := envoy.Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: upstream, UpstreamHTTP2: http2, ExtProc: extProc}
	var bootstrap []byte
	if server == nil {
		bootstrap, err = withoutFilter(o)
	} else {
		bootstrap, err = envoy.BootstrapYAML(o)
	}
	if err != nil {
		return s, err
	}
	if s.Envoy, err = envoyrun.Start(ctx, envoyrun.Options{Bootstrap: bootstrap}); err != nil {
		return s, err
	}
	s.Addr, err = s.Envoy.ListenerAddr(ctx, envoy.ListenerName)
	return s, err
}

// withoutFilter is the same configuration of Envoy without ext_proc.
func withoutFilter(o envoy.Options) ([]byte, error) {
	b, err := envoy.Bootstrap(o)
	if err != nil {
		return nil, err
	}
	config := b.StaticResources.Listeners[0].FilterChains[0].Filters[0].GetTypedConfig()
	var manager hcmv3.HttpConnectionManager
	if err := config.UnmarshalTo(&manager); err != nil {
		return nil, err
	}
	if len(manager.HttpFilters) != 2 || manager.HttpFilters[0].Name != envoy.FilterName {
		return nil, errors.New("the rendered filters are not ext_proc and the router; look for ext_proc where it is now")
	}
	manager.HttpFilters = manager.HttpFilters[1:]
	if err := config.MarshalFrom(&manager); err != nil {
		return nil, err
	}
	for i, c := range b.StaticResources.Clusters {
		if c.Name == envoy.ExtProcCluster {
			b.StaticResources.Clusters = append(b.StaticResources.Clusters[:i], b.StaticResources.Clusters[i+1:]...)
			break
		}
	}
	return protojson.Marshal(b)
}

// Close ends Envoy and then the server.
func (s *Side) Close() (err error) {
	if s == nil {
		return nil
	}
	if s.Envoy != nil {
		err = s.Envoy.Close()
	}
	return errors.Join(err, s.Server.Close())
}

// Exchanges is what Envoy has had to do with the server since it was started.
type Exchanges struct {
	Started, Failed uint64
	Sent, Received  uint64 // messages to the server and from it
}

// Exchanges asks Envoy. Of a side without Envoy or a server, all are zero.
func (s *Side) Exchanges(ctx context.Context) (e Exchanges, err error) {
	if s.Server == nil || s.Envoy == nil {
		return e, nil
	}
	stats, err := s.Envoy.Stats(ctx, `\.ext_proc\..*\.stream(s_started|s_failed|_msgs_sent|_msgs_received)$`)
	if err != nil {
		return e, fmt.Errorf("%s: %w", s.Name, err)
	}
	for name, n := range stats {
		switch name[strings.LastIndexByte(name, '.')+1:] {
		case "streams_started":
			e.Started += n
		case "streams_failed":
			e.Failed += n
		case "stream_msgs_sent":
			e.Sent += n
		case "stream_msgs_received":
			e.Received += n
		}
	}
	return e, nil
}
