package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestOperations: what the alert rules of docs/operations.md look at is on /metrics of a server that has
// just begun, since a metric that is missing alarms nobody; and the statistics of Envoy's that
// the page names are those of a real one.
func TestOperations(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```yaml\ngroups:")
	block, _, _ = strings.Cut(block, "```")
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr, For string }
		}
	}
	if err := yaml.Unmarshal([]byte("groups:"+block), &rules); err != nil {
		t.Fatal(err)
	}
	up := startMeshUpstream(t)
	m := newMesh(t, up.URL())
	n := m.node(t, meshFile)
	e := m.envoy(t, n, n.extProc)

	resp, err := meshAdmin.Get("http://" + n.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	checked := 0
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			names := regexp.MustCompile(`\b(tokenbudget|go|process)_[a-z_]+(\{[^}]*result="failed"[^}]*\})?`).FindAllString(r.Expr, -1)
			if len(names) == 0 && !strings.HasPrefix(r.Expr, "up{") {
				t.Errorf("%s looks at no metric", r.Alert)
			}
			for _, name := range names {
				checked++
				name, label, _ := strings.Cut(name, "{")
				label = strings.TrimSuffix(label, "}")
				found := regexp.MustCompile(`(?m)^` + name + `(\{[^}]*` + label + `[^}]*\})? `)
				// Certificates are served on one listener here, and a server without them has no such metric.
				if !found.Match(page) {
					t.Errorf("%s: %s{%s} is not on /metrics", r.Alert, name, label)
				}
			}
		}
	}
	if checked < 9 {
		t.Errorf("%d metrics of alert rules checked", checked)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, envoyURL(t, e)+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err != nil { // Envoy has statistics of what was used
		t.Fatal(err)
	} else {
		_ = resp.Body.Close()
	}
	stats := envoyStats(t, e, "tokenbudget")
	named := regexp.MustCompile("`((?:http|cluster)\\.tokenbudget[a-z_.0-9]*)`").FindAllStringSubmatch(string(text), -1)
	for _, m := range named {
		if _, ok := stats[m[1]]; !ok {
			t.Errorf("docs/operations.md names %s, which Envoy does not have", m[1])
		}
	}
	if len(named) < 4 {
		t.Errorf("%d statistics of Envoy's found in the page", len(named))
	}
	envoyGone(t, e)
	n.terminate(t)
}
