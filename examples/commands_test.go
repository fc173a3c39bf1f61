package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// renderCommand is a command of a README that renders a file.
var renderCommand = regexp.MustCompile(`tokenbudget (envoy (?:bootstrap|gateway) [^>\n]*)> (\w+\.yaml)`)

// TestRenderCommands: the commands of the READMEs render what lies beside them.
func TestRenderCommands(t *testing.T) {
	binary := buildServer(t)
	for _, tt := range []struct {
		folder string
		config string // the file, or the manifests with the ConfigMap
		want   string // the file, or the ConfigMap that has it
	}{
		{"envoy-static", "envoy-static/config.yaml", "envoy-static/envoy.yaml"},
		{"docker-compose", "docker-compose/tokenbudget.yaml", "docker-compose/envoy.yaml"},
		{"kubernetes", "kubernetes/tokenbudget.yaml", "kubernetes/envoy-config.yaml"},
		{"sidecar", "sidecar/application.yaml", "sidecar/envoy-config.yaml"},
		{"envoy-gateway", "kubernetes/tokenbudget.yaml", "envoy-gateway/gateway.yaml"},
	} {
		t.Run(tt.folder, func(t *testing.T) {
			readme, err := os.ReadFile(filepath.Join(tt.folder, "README.md"))
			if err != nil {
				t.Fatal(err)
			}
			commands := renderCommand.FindAllStringSubmatch(strings.ReplaceAll(string(readme), "\\\n", " "), -1)
			if len(commands) != 1 {
				t.Fatalf("%d commands render something, want one: %q", len(commands), commands)
			}
			dir := t.TempDir()
			name := "config.yaml" // as the READMEs call what is in a ConfigMap, too
			if tt.folder == "docker-compose" {
				name = "tokenbudget.yaml"
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content(t, tt.config, "config.yaml")), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), binary, strings.Fields(commands[0][1])...)
			cmd.Dir = dir
			var stderr strings.Builder
			cmd.Stderr = &stderr
			got, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s", commands[0][0], err, stderr.String())
			}
			if *update {
				rewrite(t, tt.want, "envoy.yaml", string(got))
			}
			if want := content(t, tt.want, "envoy.yaml"); string(got) != want {
				t.Errorf("%s renders something else than %s:\n%s", commands[0][0], tt.want, got)
			}
		})
	}
}

// content is the entry of the first ConfigMap in a file that has it, or the file itself.
func content(t *testing.T, file, key string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "kind: ConfigMap") {
		return string(raw)
	}
	for _, o := range readObjects(t, file) {
		if text := o.Data[key]; o.Kind == "ConfigMap" && text != "" {
			return text
		}
	}
	t.Fatalf("%s has no ConfigMap with %s", file, key)
	return ""
}

// rewrite puts another text in place of what [content] returns.
func rewrite(t *testing.T, file, key, text string) {
	t.Helper()
	indented := func(text string) string {
		var all strings.Builder
		for line := range strings.Lines(text) {
			if line != "\n" {
				line = "    " + line
			}
			all.WriteString(line)
		}
		return all.String()
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if old := content(t, file, key); old != string(raw) {
		text = strings.Replace(string(raw), indented(old), indented(text), 1)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
