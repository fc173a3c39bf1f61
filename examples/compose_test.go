package examples

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

// composeModule carries the schema of the Compose specification, with its checksum as in a
// go.sum. The go command downloads it; it is no dependency.
const (
	composeModule = "github.com/compose-spec/compose-go/v2@v2.16.2"
	composeSum    = "h1:pTp1DqQwJzFd85GzlWsSszKA1ABrV/ySqsClujIcWA8="
)

// composeSchema is the schema of compose files.
func composeSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", composeModule)
	cmd.Dir, cmd.Env = os.TempDir(), append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.Output()
	var got struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr != nil || got.Error != "" {
		t.Fatalf("go mod download %s: %v, %s", composeModule, err, got.Error)
	}
	if got.Sum != composeSum {
		t.Fatalf("%s has the checksum %s, want %s", composeModule, got.Sum, composeSum)
	}
	raw, err := os.ReadFile(filepath.Join(got.Dir, "schema", "compose-spec.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("compose-spec.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("compose-spec.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// compose is a compose file, as far as the tests look at it.
type compose struct {
	Services map[string]struct {
		Image   string         `yaml:"image"`
		Build   string         `yaml:"build"`
		User    string         `yaml:"user"`
		Command []string       `yaml:"command"`
		Ports   []string       `yaml:"ports"`
		Volumes []string       `yaml:"volumes"`
		Needs   map[string]any `yaml:"depends_on"`
		Grace   string         `yaml:"stop_grace_period"`
		Other   map[string]any `yaml:",inline"`
	} `yaml:"services"`
	Volumes map[string]any `yaml:"volumes"`
}

// mount returns what a service has at a path: a volume's name or a file.
func (c compose) mount(service, path string) string {
	for _, v := range c.Services[service].Volumes {
		if parts := strings.Split(v, ":"); len(parts) > 1 && parts[1] == path {
			return parts[0]
		}
	}
	return ""
}

// TestComposeSchema: compose.yaml is what the specification allows, and what it does not
// allow is found.
func TestComposeSchema(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads the schema")
	}
	schema := composeSchema(t)
	text, err := os.ReadFile(filepath.Join("docker-compose", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		old, new string
		ok       bool
	}{
		{"", "", true},
		{"depends_on:", "depend_on:", false},
		{"service_healthy", "service_health", false},
		{"stop_grace_period: 40s", "stop_grace_period: [40]", false},
		{"cap_drop: [ALL]", "cap_drop: ALL", false},
	} {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(strings.Replace(string(text), tt.old, tt.new, 1)), &doc); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != tt.ok {
			t.Errorf("%q → %q: %v", tt.old, tt.new, err)
		}
	}
}

// TestCompose: the containers have the files, users and paths that the configurations and the
// Dockerfile need, and Envoy's configuration is rendered from the server's.
func TestCompose(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("docker-compose", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(filepath.Join("docker-compose", "tokenbudget.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	opts := options(settings)
	opts.Listen, opts.Upstream = "0.0.0.0:10000", "http://upstream:8000"
	bootstrap, err := envoy.BootstrapYAML(opts)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, filepath.Join("docker-compose", "envoy.yaml"), bootstrap)

	socket, isSocket := strings.CutPrefix(settings.Listen.ExtProc, "unix:")
	if folder := filepath.Dir(socket); !isSocket || c.mount("envoy", folder) == "" || c.mount("envoy", folder) != c.mount("tokenbudget", folder) {
		t.Errorf("Envoy and the server do not share the folder of %s", settings.Listen.ExtProc)
	}
	dockerfile, err := os.ReadFile(filepath.Join("..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	user := regexp.MustCompile(`(?m)^USER (\S+)$`).FindSubmatch(dockerfile)
	if user == nil || c.Services["envoy"].User != string(user[1]) || c.Services["tokenbudget"].User != "" {
		t.Errorf("Envoy runs as %q, the image of the server as %q; the socket can be written by its owner only", c.Services["envoy"].User, user)
	}
	if owner := c.Services["owner"].Command; len(owner) < 2 || owner[1] != string(user[1]) || !slices.Contains(owner, filepath.Dir(socket)) || !slices.Contains(owner, settings.Store.File.Dir) {
		t.Errorf("the volumes are given to the wrong user, or not all: %q", owner)
	}
	if _, isVolume := c.Volumes[c.mount("tokenbudget", settings.Store.File.Dir)]; !isVolume {
		t.Errorf("the balances in %s are on no volume", settings.Store.File.Dir)
	}
	for name, s := range c.Services {
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") || name != "envoy" {
				t.Errorf("%s: port %s is open to the network", name, p)
			}
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, isVolume := c.Volumes[from]; isVolume {
				continue
			}
			if _, err := os.Stat(filepath.Join("docker-compose", from)); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
		for other := range s.Needs {
			if _, found := c.Services[other]; !found {
				t.Errorf("%s needs %s, which is not there", name, other)
			}
		}
	}
	for _, service := range []string{"envoy", "tokenbudget"} { // the last word of -c and -config
		command := c.Services[service].Command
		at := slices.IndexFunc(command, func(s string) bool { return s == "-c" || s == "-config" })
		if at < 0 || c.mount(service, command[at+1]) == "" {
			t.Errorf("%s does not mount the configuration that it reads: %q", service, command)
		}
	}
	if _, err := os.Stat(filepath.Join("docker-compose", c.Services["tokenbudget"].Build, "Dockerfile")); err != nil {
		t.Error(err)
	}
}
