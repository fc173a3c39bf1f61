package examples

import (
	"bytes"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	k8syaml "sigs.k8s.io/yaml"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

// kinds are Kubernetes' own types of the objects in the examples.
var kinds = map[string]any{
	"v1 Namespace":                       corev1.Namespace{},
	"v1 ConfigMap":                       corev1.ConfigMap{},
	"v1 Service":                         corev1.Service{},
	"v1 PersistentVolumeClaim":           corev1.PersistentVolumeClaim{},
	"apps/v1 Deployment":                 appsv1.Deployment{},
	"policy/v1 PodDisruptionBudget":      policyv1.PodDisruptionBudget{},
	"networking.k8s.io/v1 NetworkPolicy": networkingv1.NetworkPolicy{},
}

// otherVersions are those of Istio, Gateway API and Envoy Gateway, which the tests of package
// envoy check against their definitions.
var otherVersions = regexp.MustCompile(`^\w+\.istio\.io/|^gateway\.networking\.k8s\.io/|^gateway\.envoyproxy\.io/`)

// TestObjects: every manifest decodes strictly into Kubernetes' types: no unknown field, no
// field twice, no value of another type.
func TestObjects(t *testing.T) {
	for _, folder := range []string{"kubernetes", "sidecar", "istio", "envoy-gateway"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no manifests (%v)", folder, err)
		}
		for _, file := range files {
			if len(readObjects(t, file)) == 0 {
				t.Errorf("%s is empty", file)
			}
			for document := range documents(t, file) {
				if err := decodeStrictly(document); err != "" {
					t.Errorf("%s: %s", file, err)
				}
			}
		}
	}
}

// documents are the texts of a file's manifests.
func documents(t *testing.T, file string) iter.Seq[string] {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitSeq(string(raw), "\n---\n")
}

// decodeStrictly says what is wrong with a manifest; "" for nothing.
func decodeStrictly(document string) string {
	var head struct {
		Version string `json:"apiVersion"`
		Kind    string `json:"kind"`
	}
	if err := k8syaml.Unmarshal([]byte(document), &head); err != nil {
		return err.Error()
	}
	if otherVersions.MatchString(head.Version) {
		return ""
	}
	zero, known := kinds[head.Version+" "+head.Kind]
	if !known {
		return "there is no " + head.Version + " " + head.Kind
	}
	if err := k8syaml.UnmarshalStrict([]byte(document), reflect.New(reflect.TypeOf(zero)).Interface()); err != nil {
		return head.Kind + ": " + err.Error()
	}
	return ""
}

// TestObjectsStrict: what is wrong is found.
func TestObjectsStrict(t *testing.T) {
	for _, document := range []string{
		"{apiVersion: v1, kind: Service, spec: {port: 80}}",
		"{apiVersion: v1, kind: Service, spec: {ports: 80}}",
		"{apiVersion: apps/v1, kind: Deployment, spec: {replicas: one}}",
		"{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1, replicas: 2}}",
		"{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [{name: a, livenesProbe: {}}]}}}}",
		"{apiVersion: v1, kind: Deployment}",
		"{apiVersion: policy/v1beta1, kind: PodDisruptionBudget}",
	} {
		if decodeStrictly(document) == "" {
			t.Errorf("nothing is wrong with %s", document)
		}
	}
}

// pod is an example in which Envoy and the server are ours.
type pod struct {
	folder string
	server string // the file with the server's objects
	proxy  string // the file with Envoy's Deployment
	name   string // of Envoy's ConfigMap
	listen string
	budget string // which is used up first
}

var pods = []pod{
	{"kubernetes", "tokenbudget.yaml", "gateway.yaml", "llm-gateway", "0.0.0.0:10000", "user-minute"},
	{"sidecar", "application.yaml", "application.yaml", "envoy", "127.0.0.1:10000", "app-minute"},
}

// TestPods: Envoy's configuration is what this version renders for the server's, and what would
// go wrong only on a cluster is right.
func TestPods(t *testing.T) {
	for _, p := range pods {
		t.Run(p.folder, func(t *testing.T) {
			objects := readObjects(t, filepath.Join(p.folder, p.server))
			c, err := config.Parse("config.yaml", []byte(content(t, filepath.Join(p.folder, p.server), "config.yaml")), nil)
			if err != nil {
				t.Fatal(err)
			}
			checkPod(t, objects, c)
			opts := options(c)
			opts.Listen, opts.Upstream = p.listen, "https://api.openai.com"
			if !strings.HasPrefix(c.Listen.ExtProc, "unix:") {
				opts.ExtProc = serviceAddress(t, c, objects)
			}
			bootstrap, err := envoy.BootstrapYAML(opts)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, filepath.Join(p.folder, "envoy-config.yaml"), configMap(p.name, objects[0].Metadata.Name, bootstrap))
			checkProxy(t, p, c)
		})
	}
}

// configMap wraps Envoy's configuration.
func configMap(name, namespace string, bootstrap []byte) []byte {
	var b bytes.Buffer
	b.WriteString("# What Envoy reads. The README says how it is made anew after changes of the server's configuration.\n" +
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n  namespace: " + namespace + "\ndata:\n  envoy.yaml: |\n")
	for line := range strings.Lines(string(bootstrap)) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return b.Bytes()
}

// checkProxy checks that Envoy reads its ConfigMap, has time to end, and can use the server's
// socket, if there is one.
func checkProxy(t *testing.T, p pod, c *config.Config) {
	t.Helper()
	var d appsv1.DeploymentSpec
	find(t, readObjects(t, filepath.Join(p.folder, p.proxy)), "Deployment", &d)
	volumes := map[string]corev1.Volume{}
	for _, v := range d.Template.Spec.Volumes {
		volumes[v.Name] = v
	}
	mounts := map[string]map[string]string{} // container → path → volume
	for _, container := range slices.Concat(d.Template.Spec.InitContainers, d.Template.Spec.Containers) {
		mounts[container.Name] = map[string]string{}
		for _, m := range container.VolumeMounts {
			mounts[container.Name][m.MountPath] = m.Name
		}
		if s := container.SecurityContext; s == nil || s.RunAsUser != nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
			t.Errorf("%s: must run without rights, as the pod's user: %+v", container.Name, s)
		}
		if l := container.Lifecycle; l != nil && *d.Template.Spec.TerminationGracePeriodSeconds < l.PreStop.Sleep.Seconds+10 {
			t.Errorf("%s sleeps %d s, and is killed %d s after it was told to end", container.Name, l.PreStop.Sleep.Seconds, *d.Template.Spec.TerminationGracePeriodSeconds)
		}
	}
	if v := volumes[mounts["envoy"]["/etc/envoy"]].ConfigMap; v == nil || v.Name != p.name {
		t.Errorf("envoy does not mount the ConfigMap %s: %+v", p.name, v)
	}
	socket, isSocket := strings.CutPrefix(c.Listen.ExtProc, "unix:")
	if !isSocket {
		return
	}
	one, other := mounts["envoy"][filepath.Dir(socket)], mounts["tokenbudget"][filepath.Dir(socket)]
	if one == "" || one != other || volumes[one].EmptyDir == nil {
		t.Errorf("the socket %s is on the volume %q for envoy, on %q for the server", socket, one, other)
	}
	if s := d.Template.Spec.SecurityContext; s == nil || s.RunAsUser == nil {
		t.Errorf("the pod names no user; the socket can be written by its owner only: %+v", s)
	}
}

// TestPodsRun: the two configurations, with addresses and paths of this machine, run as a real
// server and a real Envoy, and an answer is cut.
func TestPodsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a real Envoy")
	}
	binary := buildServer(t)
	for _, p := range pods {
		t.Run(p.folder, func(t *testing.T) {
			var server map[string]any
			text := content(t, filepath.Join(p.folder, p.server), "config.yaml")
			if err := yaml.Unmarshal([]byte(text), &server); err != nil {
				t.Fatal(err)
			}
			proxy := content(t, filepath.Join(p.folder, "envoy-config.yaml"), "envoy.yaml")
			cutHere(t, binary, server, proxy, p.budget)
		})
	}
}
