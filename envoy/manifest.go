package envoy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

// Mesh says where in a Kubernetes cluster the rendered objects belong. Zero values
// mean the default.
type Mesh struct {
	Name      string // of the objects; default tokenbudget
	Namespace string // of the objects; default llm
	// Labels choose the pods whose proxy is metered, with [IstioYAML]: those of a gateway, or with
	// Sidecar those of applications. Default app: llm-gateway, or app: llm-client.
	Labels map[string]string
	// Host is the name under which clients reach the gateway; default llm.example.com. With Sidecar
	// they call the model API by its own name.
	Host string
	// Sidecar meters what leaves applications through their own sidecars, instead of a gateway.
	Sidecar bool
	// GatewayClass of Envoy Gateway; default eg.
	GatewayClass string
}

// kubernetesName is a DNS label, which all kinds of objects accept as a name (RFC 1123).
var kubernetesName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// hostName is a DNS name.
var hostName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// label is the value of a label, or the name of its key, with an optional domain.
var label = regexp.MustCompile(`^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

// resolve fills in the defaults. The error names every mistake.
func (m Mesh) resolve() (Mesh, error) {
	setDefault(&m.Name, "tokenbudget")
	setDefault(&m.Namespace, "llm")
	setDefault(&m.Host, "llm.example.com")
	setDefault(&m.GatewayClass, "eg")
	if len(m.Labels) == 0 {
		m.Labels = map[string]string{"app": "llm-gateway"}
		if m.Sidecar {
			m.Labels = map[string]string{"app": "llm-client"}
		}
	}
	var errs []error
	for field, name := range map[string]string{"Name": m.Name, "Namespace": m.Namespace, "GatewayClass": m.GatewayClass} {
		if !kubernetesName.MatchString(name) {
			errs = append(errs, fmt.Errorf("envoy: %s: %q is not a name of small letters, digits and -, of 63 characters at most", field, name))
		}
	}
	if len(m.Host) > 253 || !hostName.MatchString(m.Host) {
		errs = append(errs, fmt.Errorf("envoy: Host: %q is not a host name such as llm.example.com", m.Host))
	}
	for k, v := range m.Labels {
		if !label.MatchString(k) || v != "" && !label.MatchString(v) {
			errs = append(errs, fmt.Errorf("envoy: Labels: %q is not a label such as app=llm-gateway", k+"="+v))
		}
	}
	return m, errors.Join(errs...)
}

// field is a key of a manifest. Its value is a message of Envoy's, an object, a list, a
// text, a number or a truth value; nil leaves the field out.
type field struct {
	key     string
	value   any
	comment string // why
}

// object is a mapping whose keys keep their order.
type object []field

// list is a sequence.
type list []any

// texts makes a list of strings.
func texts[S ~[]string](all S) (l list) {
	for _, s := range all {
		l = append(l, s)
	}
	return l
}

// node returns an object as a YAML tree. The wrappers are written out by hand: Istio's and
// Envoy Gateway's own Go types would bring their platforms' libraries along, for some dozen fields
// that tests check against the platforms' schemas.
func (o object) node() (*yaml.Node, error) { return tree(o) }

func tree(v any) (*yaml.Node, error) {
	scalar := func(tag, value string) (*yaml.Node, error) {
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
		return n, block(n)
	}
	switch v := v.(type) {
	case string:
		return scalar("!!str", v)
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	case int:
		return scalar("!!int", strconv.Itoa(v))
	case time.Duration:
		return scalar("!!str", seconds(v))
	case map[string]string:
		var o object
		for _, k := range slices.Sorted(maps.Keys(v)) {
			o = append(o, field{key: k, value: v[k]})
		}
		return tree(o)
	case proto.Message:
		return node(v)
	case list:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			child, err := tree(item)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		return n, nil
	case object:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range v {
			if f.value == nil {
				continue
			}
			child, err := tree(f.value)
			if err != nil {
				return nil, err
			}
			key, err := scalar("!!str", f.key)
			if err != nil {
				return nil, err
			}
			if f.comment != "" {
				key.HeadComment = "# " + f.comment
			}
			n.Content = append(n.Content, key, child)
		}
		return n, nil
	}
	return nil, fmt.Errorf("envoy: a manifest cannot hold a %T", v)
}

// seconds writes a duration as both Istio and the Gateway API read it: whole seconds, or
// milliseconds, with five digits at most each.
func seconds(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%ds%dms", d/time.Second, d%time.Second/time.Millisecond)
}

// manifest is a Kubernetes object in the mesh's namespace.
func (m Mesh) manifest(apiVersion, kind, name string, spec object) object {
	return object{
		{key: "apiVersion", value: apiVersion},
		{key: "kind", value: kind},
		{key: "metadata", value: object{{key: "name", value: name}, {key: "namespace", value: m.Namespace}}},
		{key: "spec", value: spec},
	}
}

// encodeObjects writes Kubernetes objects, one a document.
func encodeObjects(head string, objects []object) ([]byte, error) {
	var roots []*yaml.Node
	for _, o := range objects {
		root, err := o.node()
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	return encode(head, roots...)
}
