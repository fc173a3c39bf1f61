package examples

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/config"
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

// TestIstio: the objects for Istio are what this version renders for the configuration
// beside them, and all addresses agree.
func TestIstio(t *testing.T) {
	for _, tt := range []struct {
		name     string
		pod      string // with the configuration
		rendered string
		mesh     envoy.Mesh
		// address is where Envoy reaches the server.
		address func(t *testing.T, c *config.Config, objects []object) string
	}{
		{"own pod", "tokenbudget.yaml", "envoyfilter.yaml", envoy.Mesh{}, serviceAddress},
		{"sidecar", "sidecar.yaml", "sidecar-envoyfilter.yaml", envoy.Mesh{}, func(_ *testing.T, c *config.Config, _ []object) string { return c.Listen.ExtProc }},
		{"applications", "tokenbudget.yaml", "application.yaml", envoy.Mesh{Name: "tokenbudget-apps", Sidecar: true}, serviceAddress},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects := readObjects(t, tt.pod)
			configMap := find(t, objects, "ConfigMap", nil)
			c, err := config.Parse("config.yaml", []byte(configMap.Data["config.yaml"]), nil)
			if err != nil {
				t.Fatal(err)
			}
			checkPod(t, objects, c)
			opts := options(c)
			opts.ExtProc, opts.Upstream = tt.address(t, c, objects), "https://api.openai.com"
			got, err := envoy.IstioYAML(opts, tt.mesh)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, filepath.Join("istio", tt.rendered), got)
		})
	}
}

// TestGateway: the objects for Envoy Gateway are what this version renders for the server of
// the Istio example, which is the same pod.
func TestGateway(t *testing.T) {
	objects := readObjects(t, "tokenbudget.yaml")
	c, err := config.Parse("config.yaml", []byte(find(t, objects, "ConfigMap", nil).Data["config.yaml"]), nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := options(c)
	opts.ExtProc, opts.Upstream = serviceAddress(t, c, objects), "https://api.openai.com"
	got, err := envoy.GatewayYAML(opts, envoy.Mesh{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, filepath.Join("envoy-gateway", "gateway.yaml"), got)
}

// equal compares a file with what is rendered now, after -update has written it.
func equal(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what is rendered now; run go test ./examples -update and look at the difference. Rendered:\n%s", file, got)
	}
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
