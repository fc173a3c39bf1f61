package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The module of GoReleaser, with its checksum as in a go.sum. The go command downloads it; it is no
// dependency. The version is the Makefile's.
const (
	goreleaser    = "github.com/goreleaser/goreleaser/v2"
	goreleaserSum = "h1:qgg9Y4JfURDRnt43eA76QRkzlWCYIph/yz4jyQdczMs="
)

// fields are the keys of a struct of GoReleaser's configuration by the name of the type, with the
// types of their values.
type fields map[string]map[string]ast.Expr

// readFields reads the configuration's types from their source.
func readFields(dir string) (fields, error) {
	files, err := filepath.Glob(filepath.Join(dir, "pkg", "config", "*.go"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, errors.New("GoReleaser's source has no pkg/config"))
	}
	all, inline := fields{}, map[string][]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			structure, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			keys := map[string]ast.Expr{}
			for _, f := range structure.Fields.List {
				if f.Tag == nil {
					continue
				}
				tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml")
				switch name, options, _ := strings.Cut(tag, ","); {
				case strings.Contains(options, "inline"):
					if id, ok := f.Type.(*ast.Ident); ok {
						inline[spec.Name.Name] = append(inline[spec.Name.Name], id.Name)
					}
				case name != "" && name != "-":
					keys[name] = f.Type
				}
			}
			all[spec.Name.Name] = keys
			return true
		})
	}
	for name, parts := range inline {
		for _, part := range parts {
			maps.Copy(all[name], all[part])
		}
	}
	return all, nil
}

// unknown are the keys of a value that a type does not have.
func (f fields) unknown(path string, kind ast.Expr, v any) (found []string) {
	switch k := kind.(type) {
	case *ast.StarExpr:
		return f.unknown(path, k.X, v)
	case *ast.ArrayType:
		list, ok := v.([]any)
		if !ok { // one of some types may stand for a list
			return f.unknown(path, k.Elt, v)
		}
		for i, item := range list {
			found = append(found, f.unknown(fmt.Sprintf("%s[%d]", path, i), k.Elt, item)...)
		}
	case *ast.Ident:
		keys, known := f[k.Name]
		values, mapping := v.(map[string]any)
		if !known || !mapping {
			return nil
		}
		for name, value := range values {
			if kind, ok := keys[name]; ok {
				found = append(found, f.unknown(path+"."+name, kind, value)...)
			} else {
				found = append(found, path+"."+name)
			}
		}
	}
	return found
}

// TestGoReleaser: GoReleaser knows every key of .goreleaser.yaml. It would refuse the file for one
// that it does not know, at the release.
func TestGoReleaser(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads GoReleaser's source")
	}
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(makefile), "GORELEASER_VERSION    := ")
	version, _, _ = strings.Cut(version, "\n")
	cmd := exec.Command("go", "mod", "download", "-json", goreleaser+"@"+version)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.Output()
	var got struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr != nil || got.Error != "" {
		t.Fatalf("%v: %v: %s", err, jsonErr, got.Error)
	}
	if got.Sum != goreleaserSum {
		t.Fatalf("%s@%s has the checksum %s, want %s", goreleaser, version, got.Sum, goreleaserSum)
	}
	known, err := readFields(got.Dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join("..", "..", ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) []string {
		t.Helper()
		var v map[string]any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		return known.unknown("", ast.NewIdent("Project"), v)
	}
	if found := check(string(raw)); len(found) > 0 {
		t.Errorf("GoReleaser %s does not know %q", version, found)
	}
	for old, changed := range map[string]string{
		"snapshot:\n": "snapshots:\n", "mod_timestamp:": "mod_time:", "formats: [zip]": "formatz: [zip]", "{owner:": "{ownr:", "artifacts:": "artefacts:",
	} {
		if found := check(strings.Replace(string(raw), old, changed, 1)); len(found) != 1 {
			t.Errorf("%s in place of %s: found %q", changed, old, found)
		}
	}
}
