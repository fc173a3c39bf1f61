package cluster

import (
	"errors"
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
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// changes are single values, beside the files that the chart's own tests know.
var changes = map[string]string{
	"account":  "{serviceAccount: {create: false}}",
	"admin":    "{admin: {expose: true, port: 9103}, serviceMonitor: {enabled: true}}",
	"balances": "{persistence: {existingClaim: balances}}",
	"headless": "{service: {headless: true}}",
	"labels":   "{commonLabels: {team: a}, podLabels: {tier: b}}",
	"name":     "{fullnameOverride: budgets}",
	"port":     "{extproc: {port: 9102}}",
	"size":     "{persistence: {size: 5Gi}}",
	"type":     "{service: {type: LoadBalancer}}",
	"volume":   "{persistence: {enabled: false}}",
}

// refused are changes that Kubernetes does not allow to an object that exists, and the way out that
// the chart's README gives: to delete the object before. Back says why the change back is refused;
// that of a Service is not, but has no effect.
var refused = map[string]struct{ kind, there, back, readme string }{
	"balances": {"StatefulSet", claims, claims, orphan},
	"headless": {"Service", "may not change once set", "", "kubectl delete service NAME"},
	"replicas": {"Service", "may not change once set", "", "kubectl delete service NAME"},
	"size":     {"StatefulSet", claims, claims, orphan},
}

const (
	claims = "spec.volumeClaimTemplates"
	orphan = "kubectl delete statefulset NAME --cascade=orphan"
)

// TestChart: each set of values can be installed, and the defaults can be upgraded to it and back;
// there is then what the release says, its pods may run where Pod Security is strictest, and
// nothing is left of it in the end.
func TestChart(t *testing.T) {
	high, err := read([]byte("{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}, value: 1}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := api.create(t.Context(), high[0].Unstructured, nil); err != nil {
		t.Fatal(err)
	}
	all := maps.Clone(changes)
	files, err := filepath.Glob("../../charts/testdata/*.values.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("there are only %q (%v)", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".values.yaml")] = string(raw)
	}
	readme, err := os.ReadFile("../../charts/tokenbudget/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, no := range refused {
		if all[name] == "" || !strings.Contains(string(readme), no.readme) {
			t.Errorf("%s is no change, or README.md does not say %q", name, no.readme)
		}
	}
	for name, values := range all {
		t.Run(name, func(t *testing.T) {
			h := newHelm(t, "chart-"+name)
			h.is(t, h.install(t, values))
			h.uninstall(t)

			h.install(t, "{}")
			no := refused[name]
			h.is(t, h.upgrade(t, load(t), values, no.kind, no.there))
			next := load(t)
			next.Metadata.Version, next.Metadata.AppVersion = "99.0.0", "99.0.0"
			h.is(t, h.upgrade(t, next, "{}", no.kind, no.back))
			h.uninstall(t)
		})
	}
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
	flags := genericclioptions.NewConfigFlags(false)
	flags.APIServer, flags.Namespace = &api.config.Host, &namespace
	flags.WrapConfigFn = func(*rest.Config) *rest.Config { return rest.CopyConfig(api.config) }
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

// parse reads values anew each time, since Helm may change those that it is given.
func parse(t *testing.T, values string) chartutil.Values {
	t.Helper()
	v, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// install does what helm install does.
func (h helm) install(t *testing.T, values string) *release.Release {
	t.Helper()
	do := action.NewInstall(h.Configuration)
	do.ReleaseName, do.Namespace, do.Timeout = releaseName, h.namespace, patience
	r, err := do.RunWithContext(t.Context(), load(t), parse(t, values))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// upgrade does what helm upgrade --reset-values does. Where an object has to be deleted for it, that
// is its kind, and what an upgrade without that is refused for.
func (h helm) upgrade(t *testing.T, c *chart.Chart, values string, kind, because string) *release.Release {
	t.Helper()
	do := action.NewUpgrade(h.Configuration)
	do.Namespace, do.ResetValues, do.Timeout = h.namespace, true, patience
	r, err := do.RunWithContext(t.Context(), releaseName, c, parse(t, values))
	if (err == nil) != (because == "") || err != nil && !strings.Contains(err.Error(), because) {
		t.Fatalf("%v\nwant %q", err, because)
	}
	if kind == "" {
		return r
	}
	for _, o := range objectsOf(t, r) {
		if o.GetKind() == kind {
			if err := api.remove(t.Context(), o.Unstructured); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r, err = do.RunWithContext(t.Context(), releaseName, c, parse(t, values)); err != nil {
		t.Fatal(err)
	}
	return r
}

// uninstall does what helm uninstall does, after which the namespace is empty.
func (h helm) uninstall(t *testing.T) {
	t.Helper()
	do := action.NewUninstall(h.Configuration)
	do.Timeout = patience
	if _, err := do.Run(releaseName); err != nil {
		t.Fatalf("uninstall: %v", err)
	}
	if left, err := api.left(t.Context(), h.namespace); err != nil || len(left) > 0 {
		t.Errorf("uninstall leaves %q (%v)", left, err)
	}
}

// objectsOf are those that a release consists of.
func objectsOf(t *testing.T, r *release.Release) []object {
	t.Helper()
	all, err := read([]byte(r.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// is fails the test unless the namespace has just what the release consists of, with one pod,
// which may run, and no field that is unknown: Helm's change of an object has none of them refused.
func (h helm) is(t *testing.T, r *release.Release) {
	t.Helper()
	api.warnings.none(t, "helm")
	var want []string
	pods := 0
	for _, o := range objectsOf(t, r) {
		want = append(want, o.String())
		got, err := api.apply(t.Context(), o, dry)
		if err != nil {
			t.Errorf("%s: %v", o, err)
			continue
		}
		if o.GetKind() == "Service" && headless(got) != headless(o.Unstructured) {
			t.Errorf("that %s is headless is %v, want %v", o, headless(got), headless(o.Unstructured))
		}
		runner := o.Unstructured
		if patch, found, _ := unstructured.NestedString(o.Object, "data", "patch.yaml"); found {
			runner = h.patch(t, patch)
		}
		if runs, err := api.run(t.Context(), runner); err != nil {
			t.Errorf("the pod of %s: %v", o, err)
		} else if runs {
			pods++
		}
		api.warnings.none(t, o.String())
	}
	left, err := api.left(t.Context(), h.namespace)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(left, func(o string) bool { return strings.HasPrefix(o, "Secret sh.helm.release.v1.") })
	slices.Sort(want)
	if !slices.Equal(got, want) || pods != 1 {
		t.Errorf("there is %q with %d pods\nwant     %q with one", got, pods, want)
	}
}

// headless says whether a Service is.
func headless(o *unstructured.Unstructured) bool {
	ip, _, _ := unstructured.NestedString(o.Object, "spec", "clusterIP")
	return ip == "None"
}

// patch puts the sidecar into a Deployment, as kubectl patch does, and takes that away again.
func (h helm) patch(t *testing.T, patch string) *unstructured.Unstructured {
	t.Helper()
	objects, err := read(fmt.Appendf(nil, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: llm-gateway, namespace: %s}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {%s}}}}", h.namespace, harmless))
	if err != nil {
		t.Fatal(err)
	}
	before, err := api.apply(t.Context(), objects[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	resource, err := api.of(before)
	raw, rawErr := yaml.YAMLToJSON([]byte(patch))
	if err := errors.Join(err, rawErr); err != nil {
		t.Fatal(err)
	}
	after, err := resource.Patch(t.Context(), before.GetName(), types.StrategicMergePatchType, raw, meta1.PatchOptions{FieldValidation: meta1.FieldValidationStrict})
	if err := errors.Join(err, api.remove(t.Context(), before)); err != nil {
		t.Fatal(err)
	}
	containers, _, _ := unstructured.NestedSlice(after.Object, "spec", "template", "spec", "containers")
	first, _, _ := unstructured.NestedSlice(after.Object, "spec", "template", "spec", "initContainers")
	if len(containers)+len(first) != 2 {
		t.Errorf("patched there are %d containers", len(containers)+len(first))
	}
	return after
}
