package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
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
	Store  *Process        // where the server counts, if that is a process of its own
}

// NewSide starts an Envoy in front of an upstream, which may speak HTTP/2, and a server, which may be nil: then Envoy is without the
// ext_proc filter. The server is the side's from now on; it is closed if there is an error.
func NewSide(ctx context.Context, name, upstream string, http2 bool, server *Process, extProc string) (*Side, error) {
	s := &Side{Name: name, Server: server}
	o := envoy.Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: upstream, UpstreamHTTP2: http2, ExtProc: extProc}
	var bootstrap []byte
	var err error
	if server == nil {
		bootstrap, err = withoutFilter(o)
	} else {
		bootstrap, err = envoy.BootstrapYAML(o)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s.start(ctx, bootstrap)
}

// start starts the side's Envoy. If there is an error, the side is closed.
func (s *Side) start(ctx context.Context, bootstrap []byte) (_ *Side, err error) {
	if s.Envoy, err = envoyrun.Start(ctx, envoyrun.Options{Bootstrap: bootstrap}); err == nil {
		s.Addr, err = s.Envoy.ListenerAddr(ctx, envoy.ListenerName)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// withoutFilter is the same configuration of Envoy without ext_proc.
func withoutFilter(o envoy.Options) ([]byte, error) {
	return withOtherFilters(o, func(b *bootstrapv3.Bootstrap) ([]*hcmv3.HttpFilter, error) {
		for i, c := range b.StaticResources.Clusters {
			if c.Name == envoy.ExtProcCluster {
				b.StaticResources.Clusters = append(b.StaticResources.Clusters[:i], b.StaticResources.Clusters[i+1:]...)
				break
			}
		}
		return nil, nil
	})
}

// withOtherFilters is the same configuration of Envoy with others in the place of ext_proc. They may change the
// rest of it, too.
func withOtherFilters(o envoy.Options, others func(*bootstrapv3.Bootstrap) ([]*hcmv3.HttpFilter, error)) ([]byte, error) {
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
	filters, err := others(b)
	if err != nil {
		return nil, err
	}
	manager.HttpFilters = slices.Concat(filters, manager.HttpFilters[1:])
	if err := config.MarshalFrom(&manager); err != nil {
		return nil, err
	}
	return protojson.Marshal(b)
}

// Close ends Envoy, then the server, then its store.
func (s *Side) Close() (err error) {
	if s == nil {
		return nil
	}
	if s.Envoy != nil {
		err = s.Envoy.Close()
	}
	return errors.Join(err, s.Server.Close(), s.Store.Close())
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
