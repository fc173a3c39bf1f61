package charts

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

// chartDir is the chart.
const chartDir = "tokenbudget"

// rendered is what a release consists of.
type rendered struct {
	files map[string]string // by the template's name, those that came out empty left out
	notes string
}

// render does what helm template does: it merges values into the chart's, checks them by the
// schema and runs the templates.
func render(values string) (rendered, error) {
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		return rendered{}, err
	}
	v, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return rendered{}, err
	}
	release := chartutil.ReleaseOptions{Name: "tokenbudget", Namespace: "llm", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, v, release, chartutil.DefaultCapabilities)
	if err != nil {
		return rendered{}, err
	}
	out, err := engine.Render(c, all)
	if err != nil {
		return rendered{}, err
	}
	r := rendered{files: make(map[string]string)}
	for name, text := range out {
		switch base := path.Base(name); {
		case base == "NOTES.txt":
			r.notes = strings.TrimSpace(text) + "\n"
		case strings.HasSuffix(base, ".yaml") && strings.TrimSpace(text) != "":
			r.files[base] = strings.TrimSpace(text) + "\n"
		}
	}
	return r, nil
}

// mustRender is render for values that are right.
func mustRender(t *testing.T, values string) rendered {
	t.Helper()
	r, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// String is the release as one text, for the golden files.
func (r rendered) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		fmt.Fprintf(&b, "--- # %s\n%s", name, r.files[name])
	}
	for line := range strings.Lines(r.notes) {
		b.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
	return b.String()
}

// objects are the release's Kubernetes objects; what is not made is nil.
type objects struct {
	config      *core.ConfigMap
	sidecar     *core.ConfigMap
	service     *core.Service
	account     *core.ServiceAccount
	stateful    *apps.StatefulSet
	deployment  *apps.Deployment
	network     *networking.NetworkPolicy
	monitor     *monitoring.ServiceMonitor
	disruption  *policy.PodDisruptionBudget
	autoscaler  *autoscaling.HorizontalPodAutoscaler
	patch       *apps.Deployment // what is in sidecar
	pod         *core.PodTemplateSpec
	replicas    *int32
	tokenbudget *core.Container
}

// decode reads the objects, strictly: a field that Kubernetes does not know is an error, in
// other letter case, too.
func decode(t *testing.T, r rendered) objects {
	t.Helper()
	var o objects
	for name, text := range r.files {
		var head struct {
			Kind     string `json:"kind"`
			Version  string `json:"apiVersion"`
			Metadata struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if head.Metadata.Name == "" || head.Metadata.Namespace != "llm" {
			t.Errorf("%s: name %q, namespace %q", name, head.Metadata.Name, head.Metadata.Namespace)
		}
		var err error
		switch kind := head.Version + " " + head.Kind; kind {
		case "v1 ConfigMap":
			if strings.HasSuffix(head.Metadata.Name, "-sidecar") {
				o.sidecar, err = strict[core.ConfigMap](text)
			} else {
				o.config, err = strict[core.ConfigMap](text)
			}
		case "v1 Service":
			o.service, err = strict[core.Service](text)
		case "v1 ServiceAccount":
			o.account, err = strict[core.ServiceAccount](text)
		case "apps/v1 StatefulSet":
			o.stateful, err = strict[apps.StatefulSet](text)
		case "apps/v1 Deployment":
			o.deployment, err = strict[apps.Deployment](text)
		case "networking.k8s.io/v1 NetworkPolicy":
			o.network, err = strict[networking.NetworkPolicy](text)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			o.monitor, err = strict[monitoring.ServiceMonitor](text)
		case "policy/v1 PodDisruptionBudget":
			o.disruption, err = strict[policy.PodDisruptionBudget](text)
		case "autoscaling/v2 HorizontalPodAutoscaler":
			o.autoscaler, err = strict[autoscaling.HorizontalPodAutoscaler](text)
		default:
			t.Errorf("%s: %s is not expected", name, kind)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
	}
	if o.config == nil {
		t.Fatal("there is no ConfigMap")
	}
	switch {
	case o.stateful != nil:
		o.pod, o.replicas = &o.stateful.Spec.Template, o.stateful.Spec.Replicas
	case o.deployment != nil:
		o.pod, o.replicas = &o.deployment.Spec.Template, o.deployment.Spec.Replicas
	case o.sidecar != nil:
		var err error
		if o.patch, err = strict[apps.Deployment](o.sidecar.Data["patch.yaml"]); err != nil {
			t.Fatalf("the patch: %v", err)
		}
		o.pod = &o.patch.Spec.Template
	default:
		t.Fatal("there is neither a workload nor a patch")
	}
	for _, c := range slices.Concat(o.pod.Spec.InitContainers, o.pod.Spec.Containers) {
		if c.Name == "tokenbudget" {
			o.tokenbudget = &c
		}
	}
	if o.tokenbudget == nil {
		t.Fatal("there is no container")
	}
	return o
}

// strict decodes one object.
func strict[T any](text string) (*T, error) {
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	v := new(T)
	faults, err := json.UnmarshalStrict(raw, v)
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("%v", faults)
	}
	return v, nil
}

// TestStrict: the decoding finds what is wrong.
func TestStrict(t *testing.T) {
	good := mustRender(t, "").files["workload.yaml"]
	for old, changed := range map[string]string{
		"readOnlyRootFilesystem": "readOnlyRootFileSystem",
		"containerPort: 9002":    `containerPort: "9002"`,
		"serviceName":            "servicename",
		"replicas: 1":            "replicas: 1\n  replicas: 2",
		"livenessProbe":          "liveProbe",
	} {
		if !strings.Contains(good, old) {
			t.Fatalf("there is no %q to break", old)
		}
		if _, err := strict[apps.StatefulSet](strings.Replace(good, old, changed, 1)); err == nil {
			t.Errorf("%q in place of %q is not found", changed, old)
		}
	}
	if _, err := strict[apps.StatefulSet](good); err != nil {
		t.Errorf("unbroken: %v", err)
	}
}
