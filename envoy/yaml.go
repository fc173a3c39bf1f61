package envoy

import (
	"bytes"
	"fmt"
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const bootstrapHead = `Envoy in front of a model API, metered by tokenbudget.

Start it with: envoy -c this-file
Start "tokenbudget serve" before, at the address of the cluster tokenbudget_extproc.
Without it, requests are %s.

Clients use this listener's address as the base URL of the API. JWTs are checked by a
jwt_authn filter, which goes in front of ext_proc. The comments say what must stay as
it is for metering to be complete.`

const filterHead = `What an existing Envoy configuration takes over to be metered by tokenbudget.
Each part goes to the place that its key names; put the filter behind authentication
(jwt_authn) and directly in front of the router. On routes that are no model API, disable it:

typed_per_filter_config:
  envoy.filters.http.ext_proc:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute
    disabled: true

Clients in internal_address_config can cause retries (x-envoy-retry-on), which are spent
but not metered. Without the server, requests are %s.`

// comments explain settings where they stand, by the path of keys that ends at
// them: a key, or a key and the one it is in.
var comments = map[string]string{
	"early_header_mutation_extensions": "Only Envoy may set these: the client's copies go before any filter runs.",
	"failure_mode_allow":               "true: requests pass unmetered while the server cannot be reached.",
	"processing_mode":                  "These belong together: the decision before anything is sent, and an answer that can be cut.",
	"message_timeout":                  "Covers requests only. On answers the server watches itself.",
	"max_message_timeout":              "The server asks for so much while a request waits for a limit that throttles.",
	"forwarding_namespaces":            "Without it the server sees no JWT.",
	"receiving_namespaces":             "Without it what the server reports is dropped silently.",
	"request_body_buffer_limit":        "A longer request is answered with 413.",
	"route.timeout":                    "Answers take minutes; only silence ends them. No retries: they would be spent unmetered.",
	"retry_policy":                     "An exchange that could not begin at one server begins at another. The server has seen nothing of it.",
	"health_checks":                    "A server that is about to go says so here, before it takes nothing new.",
	"healthy_panic_threshold":          "Only when no server is healthy, any is tried.",
	"connection_keepalive":             "Notices a dead server; nothing else does while an answer is running.",
	"circuit_breakers":                 "Streams are long: the default of 1024 at a time would refuse others.",
	"headers_with_underscores_action":  "x_team could be taken for x-team behind Envoy.",
	"match_typed_subject_alt_names":    "Without it any certificate of these authorities would do.",
	"path_with_escaped_slashes_action": "Paths that Envoy and the upstream could read differently are refused.",
}

// BootstrapYAML returns [Bootstrap] as YAML with comments.
func BootstrapYAML(opts Options) ([]byte, error) {
	bootstrap, err := Bootstrap(opts)
	if err != nil {
		return nil, err
	}
	root, err := node(bootstrap)
	if err != nil {
		return nil, err
	}
	return encode(fmt.Sprintf(bootstrapHead, failure(opts)), root)
}

// FilterYAML returns the parts which an existing configuration takes over, each
// under the name of its place: http_connection_manager (with the filter),
// virtual_host, route and clusters. The document is YAML, but not a configuration
// by itself.
func FilterYAML(opts Options) ([]byte, error) {
	s, err := opts.resolve(false)
	if err != nil {
		return nil, err
	}
	filter, err := s.filter()
	if err != nil {
		return nil, err
	}
	early, err := s.earlyHeaderMutation()
	if err != nil {
		return nil, err
	}
	cluster, err := s.extProcCluster()
	if err != nil {
		return nil, err
	}
	manager := &hcmv3.HttpConnectionManager{HttpFilters: []*hcmv3.HttpFilter{filter}, EarlyHeaderMutationExtensions: early}
	readAlike(manager)
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, part := range []struct {
		place   string
		message proto.Message
	}{
		{"http_connection_manager", manager},
		{"virtual_host", s.virtualHostLimits()},
		{"route", s.routeTimeouts()},
		{"clusters", cluster},
	} {
		n, err := node(part.message)
		if err != nil {
			return nil, err
		}
		if part.place == "clusters" {
			n = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{n}}
		}
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: part.place}, n)
	}
	return encode(fmt.Sprintf(filterHead, failure(opts)), root)
}

// failure says what happens to requests without the server.
func failure(opts Options) string {
	if opts.FailOpen {
		return "passed on unmetered"
	}
	return "answered with 500 (failure_mode_allow: true\nin the filter would let them pass unmetered)"
}

// node returns a message as a YAML tree in block style. The detour over JSON is
// the mapping that Envoy itself reads; the fields keep the order of the proto
// file, in which a name comes before what it names.
func node(m proto.Message) (*yaml.Node, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil { // JSON is YAML
		return nil, fmt.Errorf("envoy: %w", err)
	}
	root := doc.Content[0]
	return root, block(root)
}

// block removes the JSON look. Strings are quoted if need be, which Encode
// decides with YAML 1.1 in mind: to Envoy's parser a bare no is false.
func block(n *yaml.Node) error {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		if err := n.Encode(n.Value); err != nil {
			return fmt.Errorf("envoy: %w", err)
		}
	}
	for _, child := range n.Content {
		if err := block(child); err != nil {
			return err
		}
	}
	return nil
}

// encode writes trees, each a document, with their comments.
func encode(head string, roots ...*yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	for line := range strings.Lines(head) {
		out.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
	out.WriteByte('\n')
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	for _, root := range roots {
		comment(root, "")
		if err := enc.Encode(root); err != nil {
			return nil, fmt.Errorf("envoy: %w", err)
		}
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("envoy: %w", err)
	}
	return out.Bytes(), nil
}

// comment attaches the comments to the keys within n, which is the value of
// parent.
func comment(n *yaml.Node, parent string) {
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content {
			comment(child, parent)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		for _, path := range []string{key.Value, parent + "." + key.Value} {
			if c, ok := comments[path]; ok && key.HeadComment == "" {
				key.HeadComment = "# " + c
			}
		}
		comment(n.Content[i+1], key.Value)
	}
}
