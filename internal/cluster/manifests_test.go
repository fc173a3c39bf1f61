package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestExamples: the server takes every manifest in examples.
func TestExamples(t *testing.T) { take(t, "../../examples/*/*.yaml", 4) }

// TestRendered: the server takes all that "tokenbudget envoy" prints for Istio and Envoy Gateway:
// the files that package envoy is held to render.
func TestRendered(t *testing.T) { take(t, "../../envoy/testdata/*.yaml", 0) }

// take applies each file of objects, creates its pods and removes all of it. There must be so many
// pods in all.
func take(t *testing.T, pattern string, pods int) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	taken, ran := 0, 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(append([]byte("\n"), raw...), []byte("\napiVersion: ")) { // Envoy's configuration, or ours
			continue
		}
		taken++
		t.Run(strings.TrimPrefix(file, "../../"), func(t *testing.T) {
			objects, err := read(raw)
			if err != nil {
				t.Fatal(err)
			}
			ran += takeObjects(t, objects)
		})
	}
	if taken < 8 || ran != pods {
		t.Errorf("%s: %d files with %d pods, want at least 8 and %d", pattern, taken, ran, pods)
	}
}

// takeObjects says how many of them have a pod.
func takeObjects(t *testing.T, objects []object) (pods int) {
	t.Helper()
	var applied []object
	namespaces := map[string]bool{}
	for _, o := range objects {
		if ns := o.GetNamespace(); ns != "" && !namespaces[ns] {
			namespaces[ns] = true
			if err := api.namespace(t.Context(), ns); err != nil {
				t.Fatal(err)
			}
		}
		got, err := api.apply(t.Context(), o, nil)
		if err != nil {
			t.Errorf("%s: %v", o, err)
			continue
		}
		if runs, err := api.run(t.Context(), got); err != nil {
			t.Errorf("the pod of %s: %v", o, err)
		} else if runs {
			pods++
		}
		api.warnings.none(t, o.String())
		if got.GetKind() != "Namespace" { // it would not end without its controller
			applied = append(applied, object{Unstructured: got})
		}
	}
	for _, o := range slices.Backward(applied) {
		if err := api.remove(t.Context(), o.Unstructured); err != nil {
			t.Errorf("%s is not removed: %v", o, err)
		}
	}
	for ns := range namespaces {
		if left, err := api.left(t.Context(), ns); err != nil || len(left) > 0 {
			t.Errorf("%s has yet %q (%v)", ns, left, err)
		}
	}
	return pods
}

// harmless is a pod that may run anywhere.
const harmless = "securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: envoy, image: a, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]"

// TestControl: what only the server finds wrong is refused, and for that reason. The same object
// without its fault is taken.
func TestControl(t *testing.T) {
	if err := api.namespace(t.Context(), "control"); err != nil {
		t.Fatal(err)
	}
	const meta = "metadata: {name: control, namespace: control"
	const deployment = "{apiVersion: apps/v1, kind: Deployment, " + meta + "}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: %s}}, spec: {" + harmless + "}}}}"
	const pod = "{apiVersion: apps/v1, kind: Deployment, " + meta + "}, spec: {template: {spec: {" + harmless + ", %s}}}}"
	for _, tt := range []struct{ name, document, right, wrong, want string }{
		{"two ports of one name", "{apiVersion: v1, kind: Service, " + meta + "}, spec: {ports: [{name: a, port: 1}, {name: %s, port: 2}]}}", "b", "a", "Duplicate value"},
		{"a label that is none", "{apiVersion: v1, kind: ConfigMap, " + meta + ", labels: {a: %s}}}", "b", "'b c'", "a valid label must"},
		{"an unknown field", "{apiVersion: v1, kind: ConfigMap, " + meta + "}, %s: {a: b}}", "data", "dat", "field not declared in schema"},
		{"a selector that finds no pod of its own", deployment, "b", "c", "`selector` does not match template `labels`"},
		{"a rule of Envoy Gateway's", "{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: EnvoyExtensionPolicy, " + meta + "}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: %s, name: a}]}}", "HTTPRoute", "Service", "this policy can only have a targetRefs[*].kind of"},
		{"a rule of Gateway API's", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, " + meta + "}, spec: {rules: [{timeouts: {request: 1s, backendRequest: %s}}]}}", "1s", "2s", "backendRequest timeout cannot be longer than request timeout"},
		{"a rule of Istio's", "{apiVersion: networking.istio.io/v1, kind: VirtualService, " + meta + "}, spec: {hosts: [a], http: [{timeout: %s, route: [{destination: {host: a}}]}]}}", "1s", "0s", "must be a valid duration greater than 1ms"},
		{"a pod with rights", pod, "hostNetwork: false", "hostNetwork: true", `violates PodSecurity "restricted:latest"`},
		{"a pod with a folder of its node", pod, "volumes: [{name: a, emptyDir: {}}]", "volumes: [{name: a, hostPath: {path: /}}]", "restricted volume types"},
		{"a pod with another's account", pod, "serviceAccountName: default", "serviceAccountName: another", `serviceaccount "another" not found`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			judge := func(value string) error {
				objects, err := read(fmt.Appendf(nil, tt.document, value))
				if err != nil {
					t.Fatal(err)
				}
				if tt.document == pod {
					_, err = api.run(t.Context(), objects[0].Unstructured)
				} else {
					_, err = api.apply(t.Context(), objects[0], dry)
				}
				return err
			}
			if err := judge(tt.right); err != nil {
				t.Errorf("nothing is wrong, but %v", err)
			}
			api.warnings.none(t, "what is right")
			if err := judge(tt.wrong); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %q", err, tt.want)
			}
		})
	}
}
