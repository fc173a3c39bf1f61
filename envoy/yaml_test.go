package envoy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// TestYAMLIsTheMessage: what is read back from the YAML is the message it was made
// from, which is valid by its own rules. Envoy's parser has no objection either.
func TestYAMLIsTheMessage(t *testing.T) {
	odd := full
	odd.Upstream = "http://127.0.0.1:8000"
	odd.ExtProc = "unix:/run/yes: no # \"it's\" \\ 1.0\t\u00e9"
	odd.ExtProcTLS = nil
	odd.PassPaths = []string{"/null", "/~", "/*", "/a: b", "/'"}
	odd.StripHeaders = []string{"null", "true", "1e3", "0x10", "~", "no", "on", "0o17", "017", "2001-01-01", "x'y"}
	odd.Identities = []string{"null", "yes", "1"}
	for _, opts := range []Options{full, odd, {Upstream: api}, {Upstream: "http://[::1]:1", UpstreamHTTP2: true}} {
		want, err := Bootstrap(opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.ValidateAll(); err != nil {
			t.Errorf("%+v: %v", opts, err)
		}
		text, err := BootstrapYAML(opts)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := yaml.Unmarshal(text, &tree); err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		raw, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var got bootstrapv3.Bootstrap
		if err := protojson.Unmarshal(raw, &got); err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		if !reflect.DeepEqual(plain(t, &got), plain(t, want)) {
			t.Errorf("differs when read back:\n%s", text)
		}
		if opts.ExtProcTLS == nil && !testing.Short() { // its files are not there
			if err := envoyrun.Validate(t.Context(), text); err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		}
	}
}

// plain returns a message as values that can be compared. The messages packed in
// it cannot be compared as they are: their maps are in any order.
func plain(t *testing.T, m proto.Message) (tree any) {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestComments: each is used, for a key that no configuration has explains nothing.
func TestComments(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for key, comment := range comments {
		if !strings.Contains(all.String(), "# "+comment) {
			t.Errorf("the comment on %s is in no file of testdata", key)
		}
	}
}
