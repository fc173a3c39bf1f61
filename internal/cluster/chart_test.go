package cluster

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	scheduling "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// cases are the values that the chart's own tests know, by name.
func cases(t *testing.T) map[string]chartutil.Values {
	t.Helper()
	files, err := filepath.Glob("../../charts/testdata/*.values.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("there are only %q (%v)", files, err)
	}
	all := map[string]chartutil.Values{}
	for _, file := range files {
		v, err := chartutil.ReadValuesFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".values.yaml")] = v
	}
	return all
}

// helm is Helm for one namespace, where there is one release.
type helm struct {
	*action.Configuration
	namespace string
}

const releaseName = "tokenbudget"

// newHelm makes the namespace.
func newHelm(t *testing.T, namespace string) helm {
	t.Helper()
	if err := api.namespace(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	_, err := api.SchedulingV1().PriorityClasses().Create(t.Context(), &scheduling.PriorityClass{ObjectMeta: meta1.ObjectMeta{Name: "high"}, Value: 1}, meta1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &api.kubeconfig, &namespace
	flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.QPS, c.WarningHandler = -1, api.warnings
		return c
	}
	h := helm{new(action.Configuration), namespace}
	if err := h.Init(flags, namespace, "secret", func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	return h
}

// load reads the chart.
func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir("../../charts/tokenbudget")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// install does what helm install does.
func (h helm) install(t *testing.T, values chartutil.Values) (*release.Release, error) {
	t.Helper()
	do := action.NewInstall(h.Configuration)
	do.ReleaseName, do.Namespace, do.Timeout = releaseName, h.namespace, patience
	return do.RunWithContext(t.Context(), load(t), copied(t, values))
}

// upgrade does what helm upgrade --reset-values does.
func (h helm) upgrade(t *testing.T, c *chart.Chart, values chartutil.Values) (*release.Release, error) {
	t.Helper()
	do := action.NewUpgrade(h.Configuration)
	do.Namespace, do.ResetValues, do.Timeout = h.namespace, true, patience
	return do.RunWithContext(t.Context(), releaseName, c, copied(t, values))
}

// uninstall does what helm uninstall does, after which the namespace is empty.
func (h helm) uninstall(t *testing.T) {
	t.Helper()
	do := action.NewUninstall(h.Configuration)
	do.Timeout = patience
	if _, err := do.Run(releaseName); err != nil {
		t.Errorf("uninstall: %v", err)
	}
	if left, err := api.left(t.Context(), h.namespace); err != nil || len(left) > 0 {
		t.Errorf("uninstall leaves %q (%v)", left, err)
	}
}

// is fails the test unless the namespace has just what a release consists of.
func (h helm) is(t *testing.T, r *release.Release) {
	t.Helper()
	var want, got []string
	for _, o := range objectsOf(t, r) {
		want = append(want, o.GetKind()+" "+o.GetName())
	}
	left, err := api.left(t.Context(), h.namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range left {
		if !strings.HasPrefix(o, "Secret sh.helm.release.v1.") {
			got = append(got, o)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("there is:%s\nwant:%s", lines(got), lines(want))
	}
}

// copied is for Helm, which may change the values that it is given.
func copied(t *testing.T, values chartutil.Values) chartutil.Values {
	t.Helper()
	raw, err := values.YAML()
	if err != nil {
		t.Fatal(err)
	}
	v, err := chartutil.ReadValues([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// objectsOf are those that a release consists of.
func objectsOf(t *testing.T, r *release.Release) (all []*unstructured.Unstructured) {
	t.Helper()
	parts, err := documents([]byte(r.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		o, err := decode(part)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// TestChart: each set of values can be installed, its pod may run where Pod Security is strictest,
// the same again changes nothing, and nothing is left of it.
func TestChart(t *testing.T) {
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			h := newHelm(t, "chart-"+name)
			r, err := h.install(t, values)
			if err != nil {
				t.Fatal(err)
			}
			api.warnings.none(t, "install")
			h.is(t, r)
			pods := 0
			for _, o := range objectsOf(t, r) {
				what := o.GetKind() + " " + o.GetName()
				// Helm sends no question for unknown fields with a change.
				how := meta1.PatchOptions{DryRun: []string{meta1.DryRunAll}, Force: new(bool)}
				*how.Force = true
				if _, err := api.apply(t.Context(), toJSON(o), how); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if runs, err := api.runs(t.Context(), o); err != nil {
					t.Errorf("the pod of %s: %v", what, err)
				} else if runs {
					pods++
				}
				if patch, found, _ := unstructured.NestedString(o.Object, "data", "patch.yaml"); found {
					h.patch(t, patch)
					pods++
				}
				api.warnings.none(t, what)
			}
			if pods != 1 {
				t.Errorf("it has %d pods", pods)
			}
			before := h.versions(t, r)
			if r, err = h.upgrade(t, load(t), values); err != nil {
				t.Fatal(err)
			}
			if after := h.versions(t, r); !maps.Equal(before, after) {
				t.Errorf("the same again changes %v to %v", before, after)
			}
			h.uninstall(t)
		})
	}
}

// versions are those of the release's objects in the server.
func (h helm) versions(t *testing.T, r *release.Release) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range objectsOf(t, r) {
		resource, err := api.of(o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := resource.Get(t.Context(), o.GetName(), meta1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all[o.GetKind()+" "+o.GetName()] = got.GetResourceVersion()
	}
	return all
}

// patch puts the sidecar into a Deployment, as kubectl patch does.
func (h helm) patch(t *testing.T, patch string) {
	t.Helper()
	document := fmt.Appendf(nil, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: llm-gateway, namespace: %s}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {%s}}}}", h.namespace, harmless)
	o, err := api.apply(t.Context(), document, meta1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resource, err := api.of(o)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	patched, err := resource.Patch(t.Context(), o.GetName(), types.StrategicMergePatchType, raw, meta1.PatchOptions{FieldValidation: meta1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	all, _, _ := unstructured.NestedSlice(patched.Object, "spec", "template", "spec", "containers")
	first, _, _ := unstructured.NestedSlice(patched.Object, "spec", "template", "spec", "initContainers")
	if len(all)+len(first) != 2 {
		t.Errorf("patched there are %d containers", len(all)+len(first))
	}
	if _, err := api.runs(t.Context(), patched); err != nil {
		t.Errorf("the patched pod: %v", err)
	}
	if err := api.remove(t.Context(), patched); err != nil {
		t.Error(err)
	}
}

// TestChartUpgrades: from each set of values to each other, and to the next version of the chart.
func TestChartUpgrades(t *testing.T) {
	all := cases(t)
	for from, to := range pairs(all) {
		t.Run(from+" to "+to, func(t *testing.T) {
			h := newHelm(t, "from-"+from+"-to-"+to)
			if _, err := h.install(t, all[from]); err != nil {
				t.Fatal(err)
			}
			c := load(t)
			c.Metadata.Version, c.Metadata.AppVersion = "99.0.0", "99.0.0"
			r, err := h.upgrade(t, c, all[to])
			if err != nil {
				t.Error(err)
			} else {
				h.is(t, r)
			}
			api.warnings.none(t, "upgrade")
			h.uninstall(t)
		})
	}
}

// pairs are all of two names, and each with itself.
func pairs(all map[string]chartutil.Values) func(func(string, string) bool) {
	names := slices.Sorted(maps.Keys(all))
	return func(yield func(string, string) bool) {
		for _, from := range names {
			for _, to := range names {
				if !yield(from, to) {
					return
				}
			}
		}
	}
}

// TestChartChanges: single values that are changed, each from the defaults and back. What
// Kubernetes refuses is what the chart's README says.
func TestChartChanges(t *testing.T) {
	readme, err := os.ReadFile("../../charts/tokenbudget/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, values, refused, said string }{
		{"labels", "{commonLabels: {team: a}, podLabels: {tier: b}}", "", ""},
		{"admin", "{admin: {expose: true, port: 9103}, serviceMonitor: {enabled: true}}", "", ""},
		{"port", "{extproc: {port: 9102}}", "", ""},
		{"volume", "{persistence: {enabled: false}}", "", ""},
		{"claim", "{persistence: {existingClaim: balances}}", "updates to statefulset spec for fields other than", "`volumeClaimTemplates` cannot be changed"},
		{"size", "{persistence: {size: 5Gi}}", "updates to statefulset spec for fields other than", "`volumeClaimTemplates` cannot be changed"},
		{"headless", "{service: {headless: true}}", "may not change once set", "headless"},
		{"type", "{service: {type: LoadBalancer}}", "", ""},
		{"name", "{fullnameOverride: budgets}", "", ""},
		{"account", "{serviceAccount: {create: false}}", "", ""},
		{"sidecar", "{mode: sidecar}", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			values, err := chartutil.ReadValues([]byte(tt.values))
			if err != nil {
				t.Fatal(err)
			}
			h := newHelm(t, "change-"+tt.name)
			defer h.uninstall(t)
			if _, err := h.install(t, nil); err != nil {
				t.Fatal(err)
			}
			r, err := h.upgrade(t, load(t), values)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("%v\nwant %q", err, tt.refused)
				}
				if !strings.Contains(string(readme), tt.said) {
					t.Errorf("README.md does not say %q", tt.said)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			h.is(t, r)
			if r, err = h.upgrade(t, load(t), nil); err != nil {
				t.Fatal(err)
			}
			h.is(t, r)
			api.warnings.none(t, "upgrade")
		})
	}
}
