package envoyrun

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAdminAnswer bounds what is read of one answer of the admin interface.
const maxAdminAnswer = 16 << 20

// adminClient gives up on an admin interface that does not answer. Connections
// are not kept: an idle one would outlive its Envoy.
var adminClient = &http.Client{
	Timeout:   time.Minute,
	Transport: &http.Transport{DisableKeepAlives: true},
}

// AdminAddr returns the host:port of the admin interface.
func (e *Envoy) AdminAddr() string { return e.admin }

// get asks the admin interface and returns the body of a 200.
func (e *Envoy) get(ctx context.Context, pathAndQuery string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.admin+pathAndQuery, nil)
	if err != nil {
		return nil, fmt.Errorf("envoyrun: %w", err)
	}
	resp, err := adminClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("envoyrun: admin interface: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("envoyrun: admin interface: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("envoyrun: admin interface answers %s with %s: %.200s", pathAndQuery, resp.Status, body)
	case len(body) > maxAdminAnswer:
		return nil, fmt.Errorf("envoyrun: the answer to %s exceeds %d bytes; use a narrower filter", pathAndQuery, maxAdminAnswer)
	}
	return body, nil
}

// ListenerAddr returns the address which the listener with the given name really
// has: host:port, or the path of a Unix socket. The error for an unknown name
// lists the listeners there are.
func (e *Envoy) ListenerAddr(ctx context.Context, name string) (string, error) {
	body, err := e.get(ctx, "/listeners?format=json")
	if err != nil {
		return "", err
	}
	// envoy.admin.v3.Listeners
	var listeners struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint16 `json:"port_value"`
				} `json:"socket_address"`
				Pipe struct {
					Path string `json:"path"`
				} `json:"pipe"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &listeners); err != nil {
		return "", fmt.Errorf("envoyrun: admin interface, /listeners: %w", err)
	}
	var names []string
	for _, l := range listeners.Statuses {
		if l.Name != name {
			names = append(names, l.Name)
			continue
		}
		if l.Address.Pipe.Path != "" {
			return l.Address.Pipe.Path, nil
		}
		return net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(int(l.Address.Socket.Port))), nil
	}
	return "", fmt.Errorf("envoyrun: no listener %q; there are: %s", name, strings.Join(names, ", "))
}

// Stats returns the counters and gauges whose names match filter, a regular
// expression (RE2) that matches anywhere in the name; empty for all. Histograms
// and texts are left out.
func (e *Envoy) Stats(ctx context.Context, filter string) (map[string]uint64, error) {
	body, err := e.get(ctx, "/stats?format=json&filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Stats []struct {
			Name  string          `json:"name"` // absent for the histograms' entry
			Value json.RawMessage `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("envoyrun: admin interface, /stats: %w", err)
	}
	stats := make(map[string]uint64, len(answer.Stats))
	for _, s := range answer.Stats {
		if v, err := strconv.ParseUint(string(s.Value), 10, 64); err == nil && s.Name != "" {
			stats[s.Name] = v
		}
	}
	return stats, nil
}
