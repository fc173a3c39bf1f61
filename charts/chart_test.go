package charts

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write golden files, the table of README.md and the schema anew")

// cases are the values in testdata, by name.
func cases(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("only %q found: %v", files, err)
	}
	all := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".values.yaml")] = string(text)
	}
	return all
}

// equal compares a file with what it should be, after -update has written it.
func equal(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what is made now; run go test . -update in charts and look at the difference. Made:\n%s", file, want)
	}
}

// TestGolden: what each file of values comes to.
func TestGolden(t *testing.T) {
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			equal(t, filepath.Join("testdata", name+".golden.yaml"), mustRender(t, values).String())
		})
	}
}

// TestLint is helm lint --strict.
func TestLint(t *testing.T) {
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			v, err := chartutil.ReadValues([]byte(values))
			if err != nil {
				t.Fatal(err)
			}
			linter := lint.AllWithKubeVersion(chartDir, v, "llm", &chartutil.KubeVersion{Version: "v1.33.0", Major: "1", Minor: "33"})
			for _, m := range linter.Messages {
				if m.Severity >= support.WarningSev {
					t.Error(m)
				}
			}
		})
	}
}

// TestPod: what Kubernetes would take, and would go wrong later.
func TestPod(t *testing.T) {
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			o := decode(t, mustRender(t, values))
			restricted(t, o)
			mounted(t, o)
			if o.pod.Spec.TerminationGracePeriodSeconds == nil || *o.pod.Spec.TerminationGracePeriodSeconds < 10+drainOf(t, o) {
				t.Errorf("the pod is killed after %v s, the drain alone takes %d", *o.pod.Spec.TerminationGracePeriodSeconds, drainOf(t, o))
			}
			if _, set := o.tokenbudget.Resources.Limits[core.ResourceCPU]; set {
				t.Error("a limit of CPU delays streams")
			}
			for _, e := range o.tokenbudget.Env {
				if e.Name == "GOMEMLIMIT" || e.Name == "GOMAXPROCS" {
					t.Errorf("%s is set, which the server does better", e.Name)
				}
			}
			if o.patch == nil {
				reachable(t, o)
			}
		})
	}
}

// restricted is what the Pod Security Standard "restricted" asks for, and a root file system that
// cannot be written.
func restricted(t *testing.T, o objects) {
	t.Helper()
	s := o.tokenbudget.SecurityContext
	switch {
	case s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != 65532:
		t.Error("it does not run as 65532")
	case s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation:
		t.Error("privileges can grow")
	case s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem:
		t.Error("the root file system can be written")
	case s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || len(s.Capabilities.Add) > 0:
		t.Error("capabilities are not dropped")
	case s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault:
		t.Error("there is no seccomp profile")
	}
	if g := o.pod.Spec.SecurityContext; g == nil || g.FSGroup == nil || *g.FSGroup != 65532 {
		t.Error("volumes cannot be written by 65532")
	}
	if token := o.pod.Spec.AutomountServiceAccountToken; o.patch == nil && (token == nil || *token) {
		t.Error("the pod has a token")
	}
}

// mounted checks that each mount has its volume or claim, and the other way round.
func mounted(t *testing.T, o objects) {
	t.Helper()
	have := make(map[string]bool)
	for _, v := range o.pod.Spec.Volumes {
		have[v.Name] = true
	}
	if o.stateful != nil {
		for _, c := range o.stateful.Spec.VolumeClaimTemplates {
			if have[c.Name] {
				t.Errorf("the volume %s is there twice", c.Name)
			}
			have[c.Name] = true
		}
	}
	paths := make(map[string]bool)
	for _, m := range o.tokenbudget.VolumeMounts {
		if !have[m.Name] {
			t.Errorf("%s is mounted at %s, but there is none", m.Name, m.MountPath)
		}
		if m.SubPath != "" {
			t.Errorf("%s is mounted by subPath: changes of it are never seen", m.Name)
		}
		delete(have, m.Name)
		paths[m.MountPath] = true
	}
	for name := range have {
		t.Errorf("the volume %s is mounted nowhere", name)
	}
	if !paths["/etc/tokenbudget"] || !paths["/var/lib/tokenbudget"] {
		t.Errorf("mounted are %v", paths)
	}
}

// reachable checks that Service, policies and monitor lead to the pod and its ports.
func reachable(t *testing.T, o objects) {
	t.Helper()
	ports := make(map[string]bool)
	for _, p := range o.tokenbudget.Ports {
		if len(p.Name) > 15 {
			t.Errorf("the name of port %s is too long", p.Name)
		}
		ports[p.Name] = true
	}
	selectors := map[string]map[string]string{"Service": o.service.Spec.Selector}
	for _, p := range o.service.Spec.Ports {
		if !ports[p.TargetPort.StrVal] {
			t.Errorf("the Service leads to port %s, the container has %v", p.TargetPort.String(), ports)
		}
	}
	if o.stateful != nil {
		selectors["StatefulSet"] = o.stateful.Spec.Selector.MatchLabels
		if o.stateful.Spec.ServiceName != o.service.Name {
			t.Errorf("serviceName is %s, the Service %s", o.stateful.Spec.ServiceName, o.service.Name)
		}
	} else {
		selectors["Deployment"] = o.deployment.Spec.Selector.MatchLabels
	}
	if o.network != nil {
		selectors["NetworkPolicy"] = o.network.Spec.PodSelector.MatchLabels
		for _, rule := range o.network.Spec.Ingress {
			if len(rule.From) == 0 || len(rule.Ports) != 1 || !ports[rule.Ports[0].Port.StrVal] {
				t.Errorf("a rule lets %v in to %v", rule.From, rule.Ports)
			}
		}
		if len(o.network.Spec.PolicyTypes) != 2 || len(o.network.Spec.Egress) != 0 {
			t.Error("the server could call others")
		}
	}
	if o.disruption != nil {
		selectors["PodDisruptionBudget"] = o.disruption.Spec.Selector.MatchLabels
	}
	if o.monitor != nil {
		selectors["ServiceMonitor"] = o.monitor.Spec.Selector.MatchLabels
		if !contains(o.service.Labels, o.monitor.Spec.Selector.MatchLabels) {
			t.Error("the ServiceMonitor does not find the Service")
		}
		if e := o.monitor.Spec.Endpoints; len(e) != 1 || !ports[e[0].Port] {
			t.Errorf("the ServiceMonitor reads %v", e)
		}
	}
	for who, labels := range selectors {
		if !contains(o.pod.Labels, labels) {
			t.Errorf("the %s selects %v, the pod has %v", who, labels, o.pod.Labels)
		}
	}
	if o.autoscaler != nil {
		name := o.autoscaler.Spec.ScaleTargetRef.Kind + "/" + o.autoscaler.Spec.ScaleTargetRef.Name
		if o.replicas != nil || o.stateful == nil || name != "StatefulSet/"+o.stateful.Name {
			t.Errorf("the autoscaler scales %s, whose replicas are %v", name, o.replicas)
		}
	}
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return len(some) > 0
}

// TestOneStore: a store that is kept belongs to a kind that never runs two pods of it at a time.
func TestOneStore(t *testing.T) {
	o := decode(t, mustRender(t, ""))
	if o.stateful == nil || o.deployment != nil || *o.replicas != 1 || len(o.stateful.Spec.VolumeClaimTemplates) != 1 {
		t.Errorf("a kept store is not that of one pod of a StatefulSet: %+v", o.stateful)
	}
	o = decode(t, mustRender(t, "persistence: {enabled: false}"))
	if o.deployment == nil || o.stateful != nil {
		t.Error("without a volume it is not a Deployment")
	}
}

// TestRestart: pods are replaced only if something changes that is not loaded while they run.
func TestRestart(t *testing.T) {
	annotation := func(values string) string {
		t.Helper()
		return decode(t, mustRender(t, values)).pod.Annotations["tokenbudget/restart"]
	}
	first := annotation("")
	if first == "" {
		t.Fatal("there is no annotation")
	}
	for _, values := range []string{
		"config: {budgets: [{name: a, limit: 1k tokens, period: day}]}",
		"config: {unknown_api: pass, output_cap: never}",
		"config: {overload: {max_delay: 2s}}",
		"config: {timeouts: {idle: 1m, drain_delay: 3s}}",
	} {
		if annotation(values) != first {
			t.Errorf("%s restarts the server, which would load it", values)
		}
	}
	for _, values := range []string{
		"config: {max_request_body: 1MiB}", "config: {timeouts: {connection_age: 1m}}", "config: {store: {file: {fsync: os}}}", "config: {insecure: true}\nextproc: {port: 9999}",
		"admin: {expose: true}", "tls: {secretName: a}",
	} {
		if annotation(values) == first {
			t.Errorf("%s does not restart the server, which would not load it", values)
		}
	}
}

// TestGrace: the grace period follows the drain.
func TestGrace(t *testing.T) {
	for values, want := range map[string]int64{
		"":                                     45,
		"config: {timeouts: {drain: 0s}}":      20,
		"config: {timeouts: {drain: 0}}":       20,
		"config: {timeouts: {drain: 10m}}":     620,
		"config: {timeouts: {drain: 1m30s}}":   110,
		"config: {timeouts: {drain: 1500ms}}":  22,
		"config: {timeouts: {idle: 1m}}":       45,
		"terminationGracePeriodSeconds: 300":   300,
		"mode: sidecar":                        55,
		"config: {timeouts: {drain: '+1.5m'}}": 111,
	} {
		o := decode(t, mustRender(t, values))
		if got := *o.pod.Spec.TerminationGracePeriodSeconds; got != want {
			t.Errorf("%s: %d s, want %d", values, got, want)
		}
	}
}

// TestRefused: what is a mistake says so, and what to do.
func TestRefused(t *testing.T) {
	for values, want := range map[string]string{
		"replicas: 2":                                                                               "set replicas: 1",
		"autoscaling: {enabled: true}":                                                              "4 servers would each allow the whole of everyone-month, everyone-day",
		"replicas: 3\nbudgetsPerReplica: false":                                                     "budgetsPerReplica: true",
		"replicas: 2\npersistence: {enabled: false}":                                                "set replicas: 1",
		"replicas: 2\nbudgetsPerReplica: true\npersistence: {existingClaim: a}":                     "each gets a claim of its own",
		"persistence: {enabled: false, existingClaim: a}":                                           "set one of the two",
		"budgetsPerReplica: true\nautoscaling: {enabled: true, minReplicas: 5, maxReplicas: 2}":     "more than maxReplicas",
		"config: {listen: {extproc: 0.0.0.0:1}}":                                                    "is the chart's: set extproc.port",
		"configText: \"listen: {}\\nbudgets: [{name: a}]\"":                                         "is the chart's: set extproc.port",
		"config: {store: {file: {dir: /x}}}":                                                        "set persistence instead",
		"configText: \"a: b: c\"":                                                                   "tokenbudget validate",
		"configText: \"unknown_api: pass\"":                                                         "name at least one",
		"config: {budgets: []}":                                                                     "budgets",
		"config: {admin_token: secret}":                                                             "put it into a Secret",
		"config: {api_keys: {secret: 0123456789abcdef}}":                                            "api_keys.secret (of config or configText) would be readable",
		"commonLabels: {app.kubernetes.io/name: a}":                                                 "commonLabels: the label app.kubernetes.io/name is the chart's",
		"podLabels: {app.kubernetes.io/instance: a}":                                                "podLabels: the label app.kubernetes.io/instance is the chart's",
		"podAnnotations: {tokenbudget/restart: a}":                                                  "is the chart's",
		"networkPolicy: {envoy: null}":                                                              "lets everybody in",
		"service: {headless: true, type: NodePort}":                                                 "set service.type: ClusterIP",
		"budgetsPerReplica: true\nautoscaling: {enabled: true}\nresources: {requests: {cpu: null}}": "set resources.requests.cpu",
		"config: {timeouts: {drain: \"${D}\"}}":                                                     "write a time",
		"config: {insecure: false}":                                                                 "everybody in the cluster",
		"networkPolicy: {enabled: false}":                                                           "everybody in the cluster",
		"mode: sidecar\nadmin: {expose: true}":                                                      "everybody in the cluster",
		"networkPolicy: {envoy: []}":                                                                "minItems",
		"networkPolicy: {envoy: [{}]}":                                                              "minProperties",
		"tls: {clientCASecretName: a}":                                                              "name the Secret",
		"terminationGracePeriodSeconds: 34":                                                         "need 35",
		"serviceMonitor: {enabled: true}":                                                           "set admin.expose: true",
		"serviceMonitor: {enabled: true}\nadmin: {expose: true}\nnetworkPolicy: {prometheus: []}":   "name your Prometheus",
		"serviceMonitor: {enabled: true}\nadmin: {expose: true}\ntls: {secretName: a}":              "serviceMonitor.tlsConfig is needed",
		"mode: sidecar\nautoscaling: {enabled: true}":                                               "autoscaling.enabled is for mode: server",
		"mode: sidecar\ntls: {secretName: a}":                                                       "tls.secretName is for mode: server",
		"mode: daemonset":                                                                           "mode",
		"extproc: {port: 9003}":                                                                     "choose two",
		"extproc: {port: 80}":                                                                       "1,024",
		"replica: 1":                                                                                "replica",
		"persistence: {accessMode: ReadWriteMany}":                                                  "accessMode",
		"image: {digest: abc}":                                                                      "digest",
		"config: {budget: []}":                                                                      "budget",
		"config: {budgets: [{name: a, limit: 5 apples, period: day}]}":                              "limit",
		"env: [{name: A, value: 1000000}]":                                                          "env: the value of A is no text",
		"env: [{name: A, value: yes, valueFrom: {}}]":                                               "put it in quotes",
		"env: [{name: A, vaule: a}]":                                                                "vaule",
		"env: [{value: a}]":                                                                         "name",
		"extraVolumes: [{name: config, emptyDir: {}}]":                                              "config is the name of a volume",
		"mode: sidecar\nextraVolumes: [{name: tokenbudget-data, emptyDir: {}}]":                     "choose another",
		"tls: {secretName: a, clientCAKey: tls.crt}":                                                "is the server's own certificate",
		"tls: {secretName: a, clientCAKey: tls.key}":                                                "is a private key",
		"tls: {secretName: a, clientCASecretName: b, clientCAKey: tls.key}":                         "is a private key",
		"config: {timeouts: {dran: 1s}}":                                                            "dran",
	} {
		_, err := render(values)
		if err == nil {
			t.Errorf("%s is rendered", values)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q", values, err, want)
		}
	}
}

// TestDocuments: a text is one document, whatever stands around it; a second one would be lost.
func TestDocuments(t *testing.T) {
	const first, second = "budgets: [{name: a, limit: 1k tokens, period: day}]\n", "unknown_api: pass\n"
	for text, refused := range map[string]bool{
		first:                                   false,
		"# The file.\n%YAML 1.1\n---\n" + first: false,
		"--- # the file\n" + first + "...\n# the end\n": false,
		first + "---\n": false,
		first + "admin_token: |\n  ${A}\n  ---\n":                            false, // of a text, and refused for another reason
		"# ---\n" + first + " # ---\n":                                       false,
		first + "---\n" + second:                                             true,
		first + "--- {unknown_api: pass}\n":                                  true,
		"---\n" + first + "---\n# another\n" + second:                        true,
		first + "...\n" + second:                                             true,
		strings.ReplaceAll(first+"---\n"+second, "\n", "\r\n"):               true,
		"unknown_api: pass\n---\n" + first + "---\n" + "output_cap: never\n": true,
	} {
		values, err := yaml.Marshal(map[string]string{"configText": text})
		if err != nil {
			t.Fatal(err)
		}
		_, err = render(string(values))
		if told := err != nil && strings.Contains(err.Error(), "YAML documents"); told != refused {
			t.Errorf("%q: refused is %t, want %t: %v", text, told, refused, err)
		}
	}
}

// TestNotes: what is dangerous and allowed is said, and nothing else is.
func TestNotes(t *testing.T) {
	const multiplied, volatile, cleartext = "up to\nN times", "not on a volume", "there is no TLS"
	for values, want := range map[string][]string{
		"":                     {cleartext},
		"tls: {secretName: a}": nil,
		"mode: sidecar":        {"up to N times everyone-month, everyone-day", volatile},
		"mode: sidecar\npersistence: {existingClaim: a}":                                                             {"up to N times everyone-month"},
		"mode: sidecar\nconfig: {budgets: [{name: size, per: request, limit: 8k tokens}]}":                           nil,
		"mode: sidecar\nconfig: {budgets: [{name: size, per: [request], limit: 8k tokens}]}":                         nil,
		"mode: sidecar\nconfig: {budgets: [{name: a, per: request, limit: 8k tokens}, {name: b, limit: 2 streams}]}": {"times b.", volatile},
		"replicas: 2\nbudgetsPerReplica: true":                                                                       {multiplied, cleartext},
		"persistence: {enabled: false}":                                                                              {volatile, cleartext},
		"networkPolicy: {enabled: false}\nconfig: {insecure: true}":                                                  {cleartext, "Everybody in the cluster"},
	} {
		notes := mustRender(t, values).notes
		for _, w := range want {
			if !strings.Contains(notes, w) {
				t.Errorf("%s: %q is not said:\n%s", values, w, notes)
			}
		}
		if warned := strings.Contains(notes, "WARNING"); warned != (want != nil) {
			t.Errorf("%s: warned is %t:\n%s", values, warned, notes)
		}
		if !strings.Contains(values, "sidecar") && !strings.Contains(values, "volatile") && !strings.Contains(values, "enabled: false") && strings.Contains(notes, volatile) {
			t.Errorf("%s: %q is said without reason", values, volatile)
		}
	}
}

// TestLabels: a label that is given twice counts once, the narrower one.
func TestLabels(t *testing.T) {
	o := decode(t, mustRender(t, `
commonLabels: {team: all, cost: "1"}
podLabels: {team: pods}
admin: {expose: true}
serviceMonitor: {enabled: true, labels: {team: monitor}}`))
	for where, labels := range map[string]map[string]string{"pods": o.pod.Labels, "monitor": o.monitor.Labels} {
		if labels["team"] != where || labels["cost"] != "1" || labels["app.kubernetes.io/name"] != "tokenbudget" {
			t.Errorf("%s: labels %v", where, labels)
		}
	}
	if l := o.service.Labels["team"]; l != "all" {
		t.Errorf("the Service has team %q", l)
	}
}

// TestStorageClass: as a name, as none, and as the cluster's.
func TestStorageClass(t *testing.T) {
	for values, want := range map[string]string{"": "nil", "fast": "fast", "-": "", "123": "123"} {
		o := decode(t, mustRender(t, "persistence: {storageClass: \""+values+"\"}"))
		got := "nil"
		if class := o.stateful.Spec.VolumeClaimTemplates[0].Spec.StorageClassName; class != nil {
			got = *class
		}
		if got != want {
			t.Errorf("storageClass %q: %q, want %q", values, got, want)
		}
	}
}
