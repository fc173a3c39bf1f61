package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// manifests are the files of objects in a folder: what examples copy, and what package envoy is
// held to render.
func manifests(t *testing.T, pattern string) (files []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.FromSlash(pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(raw, []byte("apiVersion: ")) || bytes.Contains(raw, []byte("\napiVersion: ")) {
			files = append(files, file)
		}
	}
	if len(files) < 8 {
		t.Fatalf("%s has only %q", pattern, files)
	}
	return files
}

// TestExamples: the server takes every manifest in examples.
func TestExamples(t *testing.T) { take(t, manifests(t, "../../examples/*/*.yaml"), 3) }

// TestRendered: the server takes all that "tokenbudget envoy" prints for Istio and Envoy Gateway.
func TestRendered(t *testing.T) { take(t, manifests(t, "../../envoy/testdata/*.yaml"), 0) }

// take applies each file, creates its pods and removes all of it. There must be so many pods.
func take(t *testing.T, files []string, pods int) {
	t.Helper()
	for _, file := range files {
		t.Run(strings.TrimPrefix(filepath.ToSlash(file), "../../"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts, err := documents(raw)
			if err != nil {
				t.Fatal(err)
			}
			var applied []*unstructured.Unstructured
			namespaces := map[string]bool{}
			for _, part := range parts {
				o, err := decode(part)
				if err != nil {
					t.Fatal(err)
				}
				what := o.GetKind() + " " + o.GetName()
				if ns := o.GetNamespace(); ns != "" && !namespaces[ns] {
					namespaces[ns] = true
					if err := api.namespace(t.Context(), ns); err != nil {
						t.Fatal(err)
					}
				}
				first, err := api.apply(t.Context(), part, meta1.PatchOptions{})
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				api.warnings.none(t, what)
				again, err := api.apply(t.Context(), part, meta1.PatchOptions{})
				if err != nil || again.GetResourceVersion() != first.GetResourceVersion() {
					t.Errorf("%s, applied again, is not the same: %v", what, err)
				}
				if runs, err := api.runs(t.Context(), first); err != nil {
					t.Errorf("the pod of %s: %v", what, err)
				} else if runs {
					pods--
				}
				api.warnings.none(t, "the pod of "+what)
				if first.GetKind() != "Namespace" {
					applied = append(applied, first)
				}
			}
			for _, o := range slices.Backward(applied) {
				if err := api.remove(t.Context(), o); err != nil {
					t.Errorf("%s %s is not removed: %v", o.GetKind(), o.GetName(), err)
				}
			}
			for ns := range namespaces {
				if left, err := api.left(t.Context(), ns); err != nil || len(left) > 0 {
					t.Errorf("%s has yet %q (%v)", ns, left, err)
				}
			}
		})
	}
	if pods > 0 {
		t.Errorf("%d pods more were expected", pods)
	}
}

// TestControl: what only the server finds wrong is refused, and for that reason. The same object
// without its fault is taken.
func TestControl(t *testing.T) {
	if err := api.namespace(t.Context(), "control"); err != nil {
		t.Fatal(err)
	}
	const meta = "metadata: {name: control, namespace: control"
	for _, tt := range []struct{ name, document, right, wrong, want string }{
		{"two ports of one name", "{apiVersion: v1, kind: Service, " + meta + "}, spec: {ports: [{name: a, port: 1}, {name: %s, port: 2}]}}", "b", "a", "Duplicate value"},
		{"a label that is none", "{apiVersion: v1, kind: ConfigMap, " + meta + ", labels: {a: %s}}}", "b", "'b c'", "a valid label must"},
		{"an unknown field", "{apiVersion: v1, kind: ConfigMap, " + meta + "}, %s: {a: b}}", "data", "dat", "field not declared in schema"},
		{"a selector that finds no pod of its own", "{apiVersion: apps/v1, kind: Deployment, " + meta + "}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: %s}}, spec: {" + harmless + "}}}}", "b", "c", "`selector` does not match template `labels`"},
		{"a rule of Envoy Gateway's", "{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: EnvoyExtensionPolicy, " + meta + "}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: %s, name: a}]}}", "HTTPRoute", "Service", "supported kinds are"},
		{"a rule of Gateway API's", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, " + meta + "}, spec: {rules: [{timeouts: {request: 1s, backendRequest: %s}}]}}", "1s", "2s", "backendRequest timeout cannot be longer than request timeout"},
		{"a schema of Istio's", "{apiVersion: networking.istio.io/v1, kind: VirtualService, " + meta + "}, spec: {hosts: [a], http: [{timeout: %s, route: [{destination: {host: a}}]}]}}", "1s", "0s", "must be a valid duration greater than 1ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dry := meta1.PatchOptions{DryRun: []string{meta1.DryRunAll}}
			if _, err := api.apply(t.Context(), fmt.Appendf(nil, tt.document, tt.right), dry); err != nil {
				t.Errorf("nothing is wrong, but %v", err)
			}
			if _, err := api.apply(t.Context(), fmt.Appendf(nil, tt.document, tt.wrong), dry); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %q", err, tt.want)
			}
		})
	}
	api.warnings.none(t, "what is right")
}

// harmless is a pod that may run anywhere.
const harmless = "securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: envoy, image: a, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]"

// TestControlPods: Pod Security is at work.
func TestControlPods(t *testing.T) {
	if err := api.namespace(t.Context(), "control"); err != nil {
		t.Fatal(err)
	}
	const deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: control, namespace: control}, spec: {template: {spec: {%s}}}}"
	for spec, want := range map[string]string{
		harmless:                                                    "",
		"containers: [{name: envoy, image: a}]":                     `violates PodSecurity "restricted:latest"`,
		strings.ReplaceAll(harmless, "ALL", "CHOWN"):                "unrestricted capabilities",
		harmless + ", serviceAccountName: another":                  `serviceaccount "another" not found`,
		harmless + ", volumes: [{name: host, hostPath: {path: /}}]": "restricted volume types",
		harmless + ", initContainers: [{name: envoy, image: a}]":    "Duplicate value",
	} {
		o, err := decode(fmt.Appendf(nil, deployment, spec))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.runs(t.Context(), o); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %q", spec, err, want)
		}
	}
	api.warnings.none(t, "what is right")
}
