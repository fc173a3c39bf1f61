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
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	k8syaml "sigs.k8s.io/yaml"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

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

// readObjects reads the documents of a file. A key that occurs twice is an error, and so is
// another namespace than that of the first object.
func readObjects(t *testing.T, file string) (objects []object) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	namespace := ""
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
		in := o.Metadata.Namespace
		if o.Kind == "Namespace" {
			in = o.Metadata.Name
		}
		if namespace == "" {
			namespace = in
		}
		if in == "" || in != namespace {
			t.Errorf("%s: %s %s is in namespace %q, the others are in %q", file, o.Kind, o.Metadata.Name, in, namespace)
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
		raw, err := yaml.Marshal(&found[0].Spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := k8syaml.UnmarshalStrict(raw, spec); err != nil {
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
		{"own pod", "kubernetes/tokenbudget.yaml", "envoyfilter.yaml", envoy.Mesh{}, serviceAddress},
		{"sidecar", "istio/sidecar.yaml", "sidecar-envoyfilter.yaml", envoy.Mesh{}, func(_ *testing.T, c *config.Config, _ []object) string { return c.Listen.ExtProc }},
		{"applications", "kubernetes/tokenbudget.yaml", "application.yaml", envoy.Mesh{Name: "tokenbudget-apps", Sidecar: true}, serviceAddress},
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
// the example for Kubernetes, which is the same pod.
func TestGateway(t *testing.T) {
	objects := readObjects(t, "kubernetes/tokenbudget.yaml")
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
	var spec corev1.ServiceSpec
	service := find(t, objects, "Service", &spec)
	if len(spec.Ports) != 1 {
		t.Fatalf("the Service has %d ports, want one", len(spec.Ports))
	}
	if _, port, err := net.SplitHostPort(c.Listen.ExtProc); err != nil || port != spec.Ports[0].TargetPort.String() {
		t.Errorf("the Service leads to port %s, the server listens on %s", spec.Ports[0].TargetPort.String(), c.Listen.ExtProc)
	}
	if labels := podLabels(t, objects); !contains(labels, spec.Selector) {
		t.Errorf("the Service selects %v, the pod has %v", spec.Selector, labels)
	}
	host := service.Metadata.Name + "." + service.Metadata.Namespace + ".svc.cluster.local"
	return net.JoinHostPort(host, strconv.Itoa(int(spec.Ports[0].Port)))
}

// checkPod checks what would go wrong only on a cluster: a store that is not on a
// volume, two servers with one store, an end before the drain's.
func checkPod(t *testing.T, objects []object, c *config.Config) {
	t.Helper()
	var d appsv1.DeploymentSpec
	find(t, objects, "Deployment", &d)
	if d.Replicas == nil || *d.Replicas != 1 || d.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("%v replicas, strategy %s: a store belongs to one server at a time", d.Replicas, d.Strategy.Type)
	}
	if !contains(d.Template.Labels, d.Selector.MatchLabels) {
		t.Errorf("the Deployment selects %v, its pods have %v", d.Selector.MatchLabels, d.Template.Labels)
	}
	grace := d.Template.Spec.TerminationGracePeriodSeconds
	if least := c.Timeouts.Drain.Seconds() + 10; grace == nil || float64(*grace) < least {
		t.Errorf("the pod is killed after %v s; the drain and the last write need %.0f s", grace, least)
	}
	claim := find(t, objects, "PersistentVolumeClaim", nil).Metadata.Name
	settings := find(t, objects, "ConfigMap", nil).Metadata.Name
	mounted := make(map[string]string) // path → claim or config map
	for _, container := range slices.Concat(d.Template.Spec.InitContainers, d.Template.Spec.Containers) {
		if container.Name != "tokenbudget" {
			continue
		}
		for _, m := range container.VolumeMounts {
			for _, v := range d.Template.Spec.Volumes {
				switch {
				case v.Name != m.Name:
				case v.PersistentVolumeClaim != nil:
					mounted[m.MountPath] = v.PersistentVolumeClaim.ClaimName
				case v.ConfigMap != nil:
					mounted[m.MountPath] = v.ConfigMap.Name
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
	var d appsv1.DeploymentSpec
	find(t, objects, "Deployment", &d)
	return d.Template.Labels
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return len(some) > 0
}
