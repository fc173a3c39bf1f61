package examples

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/config"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// namespace is where all examples for Istio live.
const namespace = "llm"

// object is a Kubernetes object, as far as the tests look at it.
type object struct {
	Kind     string `yaml:"kind"`
	Version  string `yaml:"apiVersion"`
	Metadata struct {
		Name      string            `yaml:"name"`
		Namespace string            `yaml:"namespace"`
		Labels    map[string]string `yaml:"labels"`
	} `yaml:"metadata"`
	Data map[string]string `yaml:"data"`
	Spec yaml.Node         `yaml:"spec"`
}

// readObjects reads the documents of a file in examples/istio. A key that occurs
// twice is an error.
func readObjects(t *testing.T, file string) (objects []object) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("istio", file))
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatalf("%s: document %d: %v", file, len(objects)+1, err)
		}
		if o.Kind == "" || o.Version == "" || o.Metadata.Name == "" {
			t.Errorf("%s: document %d lacks kind, apiVersion or name", file, len(objects)+1)
		}
		if o.Kind != "Namespace" && o.Metadata.Namespace != namespace {
			t.Errorf("%s: %s %s is in namespace %q, the others are in %q", file, o.Kind, o.Metadata.Name, o.Metadata.Namespace, namespace)
		}
		var all any
		if err := o.Spec.Decode(&all); err != nil {
			t.Errorf("%s: %s %s: %v", file, o.Kind, o.Metadata.Name, err)
		}
		objects = append(objects, o)
	}
}

// find returns the only object of a kind, with its spec decoded into spec.
func find(t *testing.T, objects []object, kind string, spec any) object {
	t.Helper()
	var found []object
	for _, o := range objects {
		if o.Kind == kind {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s, want one", len(found), kind)
	}
	if spec != nil {
		if err := found[0].Spec.Decode(spec); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	return found[0]
}

// envoyFilter is the spec of an EnvoyFilter. What an example does not use is
// unknown here, and an error.
type envoyFilter struct {
	WorkloadSelector struct {
		Labels map[string]string `yaml:"labels"`
	} `yaml:"workloadSelector"`
	ConfigPatches []struct {
		ApplyTo string `yaml:"applyTo"`
		Match   struct {
			Context  string `yaml:"context"`
			Listener struct {
				FilterChain struct {
					Filter struct {
						Name      string `yaml:"name"`
						SubFilter struct {
							Name string `yaml:"name"`
						} `yaml:"subFilter"`
					} `yaml:"filter"`
				} `yaml:"filterChain"`
			} `yaml:"listener"`
		} `yaml:"match"`
		Patch struct {
			Operation string         `yaml:"operation"`
			Value     map[string]any `yaml:"value"`
		} `yaml:"patch"`
	} `yaml:"configPatches"`
}

// patches are the values of an EnvoyFilter as the messages that Istio makes of them.
type patches struct {
	filter  *hcmv3.HttpFilter
	cluster *clusterv3.Cluster
	host    *routev3.VirtualHost
	route   *routev3.Route
}

// load reads the patches strictly: a field that Envoy does not know is an error.
func (f envoyFilter) load(t *testing.T) patches {
	t.Helper()
	p := patches{new(hcmv3.HttpFilter), new(clusterv3.Cluster), new(routev3.VirtualHost), new(routev3.Route)}
	into := map[string]struct {
		operation string
		message   proto.Message
	}{
		"HTTP_FILTER":  {"INSERT_BEFORE", p.filter},
		"CLUSTER":      {"ADD", p.cluster},
		"VIRTUAL_HOST": {"MERGE", p.host},
		"HTTP_ROUTE":   {"MERGE", p.route},
	}
	seen := make(map[string]bool)
	for _, c := range f.ConfigPatches {
		to, ok := into[c.ApplyTo]
		if !ok || seen[c.ApplyTo] {
			t.Fatalf("unexpected patch of %s", c.ApplyTo)
		}
		seen[c.ApplyTo] = true
		if c.Patch.Operation != to.operation {
			t.Errorf("%s: operation %s, want %s", c.ApplyTo, c.Patch.Operation, to.operation)
		}
		if c.Match.Context != "GATEWAY" {
			t.Errorf("%s: context %q, want GATEWAY", c.ApplyTo, c.Match.Context)
		}
		before := c.Match.Listener.FilterChain.Filter
		if c.ApplyTo == "HTTP_FILTER" && (before.Name != "envoy.filters.network.http_connection_manager" || before.SubFilter.Name != "envoy.filters.http.router") {
			t.Errorf("the filter goes in front of %q in %q, want the router of the connection manager", before.SubFilter.Name, before.Name)
		}
		raw, err := json.Marshal(c.Patch.Value)
		if err != nil {
			t.Fatal(err)
		}
		if err := protojson.Unmarshal(raw, to.message); err != nil {
			t.Errorf("%s: %v", c.ApplyTo, err)
		}
	}
	if len(seen) != len(into) {
		t.Fatalf("patches of %q, want one of each of %q", slices.Sorted(maps.Keys(seen)), slices.Sorted(maps.Keys(into)))
	}
	return p
}

// rendered are the same messages as tokenbudget renders them.
func rendered(t *testing.T, opts envoy.Options) patches {
	t.Helper()
	filter, err := envoy.Filter(opts)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := envoy.FilterYAML(opts)
	if err != nil {
		t.Fatal(err)
	}
	var parts struct {
		Manager  map[string]any   `yaml:"http_connection_manager"`
		Host     map[string]any   `yaml:"virtual_host"`
		Route    map[string]any   `yaml:"route"`
		Clusters []map[string]any `yaml:"clusters"`
	}
	if err := yaml.Unmarshal(doc, &parts); err != nil {
		t.Fatal(err)
	}
	// How paths and headers are read is the mesh's to set, see the README.
	for _, name := range []string{"normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "common_http_protocol_options"} {
		if _, ok := parts.Manager[name]; !ok {
			t.Errorf("%s is not rendered any more: the README speaks of it in vain", name)
		}
		delete(parts.Manager, name)
	}
	if len(parts.Manager) != 1 {
		t.Fatalf("the connection manager needs more than the filter; the EnvoyFilters have no patch for that: %v", slices.Sorted(maps.Keys(parts.Manager)))
	}
	if len(parts.Clusters) != 1 {
		t.Fatalf("%d clusters, want one", len(parts.Clusters))
	}
	p := patches{filter, new(clusterv3.Cluster), new(routev3.VirtualHost), new(routev3.Route)}
	for _, part := range []struct {
		value   map[string]any
		message proto.Message
	}{{parts.Clusters[0], p.cluster}, {parts.Host, p.host}, {map[string]any{"route": parts.Route}, p.route}} {
		raw, err := json.Marshal(part.value)
		if err != nil {
			t.Fatal(err)
		}
		if err := protojson.Unmarshal(raw, part.message); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// compare reports each field in which two messages differ.
func compare(t *testing.T, what string, got, want proto.Message) {
	t.Helper()
	for _, d := range differences(what, fieldsOf(t, got), fieldsOf(t, want)) {
		t.Error(d)
	}
}

func fieldsOf(t *testing.T, m proto.Message) (v any) {
	t.Helper()
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// differences compares two JSON values field by field.
func differences(path string, got, want any) (found []string) {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			break
		}
		keys := slices.Collect(maps.Keys(want))
		for k := range got {
			if _, ok := want[k]; !ok {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			found = append(found, differences(path+"."+k, got[k], want[k])...)
		}
		return found
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			break
		}
		for i := range want {
			found = append(found, differences(path+"["+strconv.Itoa(i)+"]", got[i], want[i])...)
		}
		return found
	}
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		found = append(found, fmt.Sprintf("%s is %s, rendered is %s", path, g, w))
	}
	return found
}

// TestIstio: the EnvoyFilters are what this version renders for the configuration
// beside them, and all addresses agree.
func TestIstio(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		// address is where the gateway reaches the server.
		address func(t *testing.T, c *config.Config, objects []object) string
	}{
		{"own pod", []string{"tokenbudget.yaml", "envoyfilter.yaml"}, serviceAddress},
		{"sidecar", []string{"sidecar.yaml"}, func(_ *testing.T, c *config.Config, _ []object) string { return c.Listen.ExtProc }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var objects []object
			for _, file := range tt.files {
				objects = append(objects, readObjects(t, file)...)
			}
			configMap := find(t, objects, "ConfigMap", nil)
			c, err := config.Parse("config.yaml", []byte(configMap.Data["config.yaml"]), nil)
			if err != nil {
				t.Fatal(err)
			}
			checkPod(t, objects, c)

			var f envoyFilter
			o := find(t, objects, "EnvoyFilter", nil)
			strict := yaml.NewDecoder(bytes.NewReader(remarshal(t, o.Spec)))
			strict.KnownFields(true)
			if err := strict.Decode(&f); err != nil {
				t.Fatal(err)
			}
			opts := options(c)
			opts.ExtProc = tt.address(t, c, objects)
			got, want := f.load(t), rendered(t, opts)
			compare(t, "HTTP_FILTER", got.filter, want.filter)
			compare(t, "CLUSTER", got.cluster, want.cluster)
			compare(t, "VIRTUAL_HOST", got.host, want.host)
			compare(t, "HTTP_ROUTE", got.route, want.route)
			if t.Failed() || testing.Short() {
				return
			}
			if err := envoyrun.Validate(t.Context(), got.bootstrap(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

func remarshal(t *testing.T, n yaml.Node) []byte {
	t.Helper()
	raw, err := yaml.Marshal(&n)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// serviceAddress is the Service's name and port, if they lead to the server.
func serviceAddress(t *testing.T, c *config.Config, objects []object) string {
	t.Helper()
	var spec struct {
		Selector map[string]string `yaml:"selector"`
		Ports    []struct {
			Port       int `yaml:"port"`
			TargetPort int `yaml:"targetPort"`
		} `yaml:"ports"`
	}
	service := find(t, objects, "Service", &spec)
	if len(spec.Ports) != 1 {
		t.Fatalf("the Service has %d ports, want one", len(spec.Ports))
	}
	if _, port, err := net.SplitHostPort(c.Listen.ExtProc); err != nil || port != strconv.Itoa(spec.Ports[0].TargetPort) {
		t.Errorf("the Service leads to port %d, the server listens on %s", spec.Ports[0].TargetPort, c.Listen.ExtProc)
	}
	if labels := podLabels(t, objects); !contains(labels, spec.Selector) {
		t.Errorf("the Service selects %v, the pod has %v", spec.Selector, labels)
	}
	host := service.Metadata.Name + "." + service.Metadata.Namespace + ".svc.cluster.local"
	return net.JoinHostPort(host, strconv.Itoa(spec.Ports[0].Port))
}

// deployment is the spec of a Deployment as far as it matters here.
type deployment struct {
	Replicas int `yaml:"replicas"`
	Strategy struct {
		Type string `yaml:"type"`
	} `yaml:"strategy"`
	Selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	} `yaml:"selector"`
	Template struct {
		Metadata struct {
			Labels map[string]string `yaml:"labels"`
		} `yaml:"metadata"`
		Spec struct {
			Grace      int `yaml:"terminationGracePeriodSeconds"`
			Containers []struct {
				Name   string   `yaml:"name"`
				Args   []string `yaml:"args"`
				Mounts []struct {
					Name string `yaml:"name"`
					Path string `yaml:"mountPath"`
				} `yaml:"volumeMounts"`
			} `yaml:"containers"`
			Volumes []struct {
				Name      string `yaml:"name"`
				ConfigMap struct {
					Name string `yaml:"name"`
				} `yaml:"configMap"`
				Claim struct {
					Name string `yaml:"claimName"`
				} `yaml:"persistentVolumeClaim"`
			} `yaml:"volumes"`
		} `yaml:"spec"`
	} `yaml:"template"`
}

// checkPod checks what would go wrong only on a cluster: a store that is not on a
// volume, two servers with one store, an end before the drain's.
func checkPod(t *testing.T, objects []object, c *config.Config) {
	t.Helper()
	var d deployment
	find(t, objects, "Deployment", &d)
	if d.Replicas != 1 || d.Strategy.Type != "Recreate" {
		t.Errorf("%d replicas, strategy %s: a store belongs to one server at a time", d.Replicas, d.Strategy.Type)
	}
	if !contains(d.Template.Metadata.Labels, d.Selector.MatchLabels) {
		t.Errorf("the Deployment selects %v, its pods have %v", d.Selector.MatchLabels, d.Template.Metadata.Labels)
	}
	if least := c.Timeouts.Drain.Seconds() + 10; float64(d.Template.Spec.Grace) < least {
		t.Errorf("the pod is killed after %d s; the drain and the last write need %.0f s", d.Template.Spec.Grace, least)
	}
	claim := find(t, objects, "PersistentVolumeClaim", nil).Metadata.Name
	settings := find(t, objects, "ConfigMap", nil).Metadata.Name
	mounted := make(map[string]string) // path → claim or config map
	for _, container := range d.Template.Spec.Containers {
		if container.Name != "tokenbudget" {
			continue
		}
		for _, m := range container.Mounts {
			for _, v := range d.Template.Spec.Volumes {
				if v.Name == m.Name {
					mounted[m.Path] = v.Claim.Name + v.ConfigMap.Name
				}
			}
		}
		if want := []string{"serve", "-config", "/etc/tokenbudget/config.yaml"}; !slices.Equal(container.Args, want) {
			t.Errorf("args are %q, want %q", container.Args, want)
		}
	}
	if mounted[c.Store.File.Dir] != claim {
		t.Errorf("store.file.dir %s is not on the volume %s; mounted are %v", c.Store.File.Dir, claim, mounted)
	}
	if mounted["/etc/tokenbudget"] != settings {
		t.Errorf("the configuration is not mounted; mounted are %v", mounted)
	}
}

func podLabels(t *testing.T, objects []object) map[string]string {
	t.Helper()
	var d deployment
	find(t, objects, "Deployment", &d)
	return d.Template.Metadata.Labels
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return len(some) > 0
}

// bootstrap puts the patches where Istio puts them, into an Envoy that has a
// listener and an upstream of its own.
func (p patches) bootstrap(t *testing.T) []byte {
	t.Helper()
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		t.Fatal(err)
	}
	host := proto.CloneOf(p.host)
	host.Name, host.Domains = "llm.example.com:80", []string{"*"}
	route := proto.CloneOf(p.route)
	route.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	route.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "own"}
	host.Routes = []*routev3.Route{route}
	manager, err := anypb.New(&hcmv3.HttpConnectionManager{
		StatPrefix: "own",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			VirtualHosts: []*routev3.VirtualHost{host},
		}},
		HttpFilters: []*hcmv3.HttpFilter{p.filter, {
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// The rest of the bootstrap is of no interest; it is written as JSON.
	listener, err := protojson.Marshal(manager)
	if err != nil {
		t.Fatal(err)
	}
	var b bootstrapv3.Bootstrap
	if err := protojson.Unmarshal(fmt.Appendf(nil, `{"static_resources": {
		"listeners": [{"address": {"pipe": {"path": %q}}, "filter_chains": [{"filters": [{"name": "own", "typed_config": %s}]}]}],
		"clusters": [{"name": "own"}]
	}}`, filepath.Join(t.TempDir(), "own"), listener), &b); err != nil {
		t.Fatal(err)
	}
	b.StaticResources.Clusters = append(b.StaticResources.Clusters, p.cluster)
	raw, err := protojson.Marshal(&b)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestIstioParses: the other manifests are YAML of the right outer form.
func TestIstioParses(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("istio", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 4 {
		t.Fatalf("only %q found", files)
	}
	for _, file := range files {
		if len(readObjects(t, filepath.Base(file))) == 0 {
			t.Errorf("%s is empty", file)
		}
	}
}

// TestDifferences: the comparison sees what it must.
func TestDifferences(t *testing.T) {
	for _, tt := range []struct {
		got, want string
		differ    []string
	}{
		{`{"a": {"b": [1, "x"]}}`, `{"a": {"b": [1, "x"]}}`, nil},
		{`{"a": 1}`, `{"a": "1"}`, []string{`.a is 1, rendered is "1"`}},
		{`{"a": {}}`, `{}`, []string{`.a is map[string]interface {}{}, rendered is <nil>`}},
		{`{}`, `{"a": false}`, []string{`.a is <nil>, rendered is false`}},
		{`{"a": [1, 2]}`, `{"a": [1, 3]}`, []string{`.a[1] is 2, rendered is 3`}},
		{`{"a": [1]}`, `{"a": []}`, []string{`.a is []interface {}{1}, rendered is []interface {}{}`}},
	} {
		var got, want any
		if err := errors.Join(json.Unmarshal([]byte(tt.got), &got), json.Unmarshal([]byte(tt.want), &want)); err != nil {
			t.Fatal(err)
		}
		if d := differences("", got, want); !slices.Equal(d, tt.differ) {
			t.Errorf("%s and %s: %q, want %q", tt.got, tt.want, d, tt.differ)
		}
	}
}
