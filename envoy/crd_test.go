package envoy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	celref "cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// crdModules are Go modules that carry the definitions of the objects rendered here, with their
// checksums as in a go.sum. They are downloaded by the go command, and no dependency: what they
// import is of no interest.
var crdModules = []struct{ module, sum, files string }{
	{"istio.io/api@v1.31.4", "h1:AcnncYrlDj1PJkym7h88Gggkef4MAra8QpGaXRMsr+E=", "kubernetes/customresourcedefinitions.gen.yaml"},
	{"github.com/envoyproxy/gateway@v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=", "charts/gateway-helm/charts/crds/crds/*.yaml"},
	{"github.com/envoyproxy/gateway@v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=", "charts/gateway-helm/charts/crds/crds/generated/*.yaml"},
}

// schemas are the schemas of the specs of the platforms' objects by apiVersion and kind.
var schemas = sync.OnceValues(func() (map[string]crd, error) {
	found := map[string]crd{}
	for _, m := range crdModules {
		cmd := exec.Command("go", "mod", "download", "-json", m.module)
		cmd.Dir, cmd.Env = os.TempDir(), append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.Output()
		var got struct{ Dir, Sum, Error string }
		if jsonErr := json.Unmarshal(out, &got); jsonErr != nil || got.Error != "" {
			return nil, errors.Join(err, jsonErr, errors.New("go mod download "+m.module+": "+got.Error))
		}
		if got.Sum != m.sum {
			return nil, errors.New(m.module + " has the checksum " + got.Sum + ", want " + m.sum)
		}
		files, err := filepath.Glob(filepath.Join(got.Dir, filepath.FromSlash(m.files)))
		if err != nil || len(files) == 0 {
			return nil, errors.Join(err, errors.New(m.module+" has no "+m.files))
		}
		for _, file := range files {
			if err := readDefinitions(file, found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
})

// readDefinitions adds the schemas of a file of CustomResourceDefinitions.
func readDefinitions(file string, found map[string]crd) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	for {
		var def struct {
			Kind string `yaml:"kind"`
			Spec struct {
				Group string `yaml:"group"`
				Names struct {
					Kind string `yaml:"kind"`
				} `yaml:"names"`
				Versions []struct {
					Name   string `yaml:"name"`
					Schema struct {
						Open map[string]any `yaml:"openAPIV3Schema"`
					} `yaml:"schema"`
				} `yaml:"versions"`
			} `yaml:"spec"`
		}
		if err := d.Decode(&def); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if def.Kind != "CustomResourceDefinition" {
			continue
		}
		for _, v := range def.Spec.Versions {
			name := def.Spec.Group + "/" + v.Name + " " + def.Spec.Names.Kind
			// By way of JSON, for the numbers that the compiler expects.
			properties, _ := v.Schema.Open["properties"].(map[string]any)
			open, _ := properties["spec"].(map[string]any)
			text, err := json.Marshal(strict(open))
			if err != nil {
				return err
			}
			schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				return err
			}
			c := jsonschema.NewCompiler()
			at := "crd:///" + strings.ReplaceAll(name, " ", "/")
			if err := c.AddResource(at, schema); err != nil {
				return err
			}
			compiled, err := c.Compile(at)
			if err != nil {
				return err
			}
			found[name] = crd{open, compiled}
		}
	}
}

// rules are the schemas' rules in CEL; what they say of self is checked beside the schema.
var rules = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(cel.Variable("self", cel.DynType), ext.Strings(), ext.Lists(), ext.Sets(), cel.OptionalTypes(),
		// Kubernetes' own library of URLs, as far as the rules use it: url(self).getScheme().
		cel.Function("url", cel.Overload("url_of_text", []*cel.Type{cel.DynType}, cel.StringType,
			cel.UnaryBinding(func(v celref.Val) celref.Val { return v }))),
		cel.Function("getScheme", cel.MemberOverload("scheme_of_text", []*cel.Type{cel.StringType}, cel.StringType,
			cel.UnaryBinding(func(v celref.Val) celref.Val {
				u, err := url.Parse(fmt.Sprint(v.Value()))
				if err != nil {
					return types.WrapErr(err)
				}
				return types.String(u.Scheme)
			}))),
	)
})

// crd is the definition of one kind's spec.
type crd struct {
	open   map[string]any     // as Kubernetes writes it
	schema *jsonschema.Schema // of it, strictly
}

// check validates a spec, against the schema and its rules. Defaults are filled in between, as
// Kubernetes does.
func (c crd) check(spec any) error {
	raw, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if err := c.schema.Validate(value); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &spec); err != nil { // numbers as CEL knows them
		return err
	}
	return obeys(c.open, spec, "spec")
}

// obeys runs the rules of a schema and of those within it.
func obeys(schema map[string]any, v any, path string) (err error) {
	properties, _ := schema["properties"].(map[string]any)
	switch v := v.(type) {
	case map[string]any:
		others, _ := schema["additionalProperties"].(map[string]any)
		for name, p := range properties {
			if _, set := v[name]; !set {
				if d, ok := p.(map[string]any)["default"]; ok {
					v[name] = d
				}
			}
		}
		for name, child := range v {
			if p, ok := properties[name].(map[string]any); ok {
				err = errors.Join(err, obeys(p, child, path+"."+name))
			} else if others != nil {
				err = errors.Join(err, obeys(others, child, path+"."+name))
			}
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		for _, child := range v {
			err = errors.Join(err, obeys(items, child, path+"[]"))
		}
	}
	all, _ := schema["x-kubernetes-validations"].([]any)
	for _, r := range all {
		rule, _ := r.(map[string]any)["rule"].(string)
		if strings.Contains(rule, "oldSelf") { // for changes
			continue
		}
		env, envErr := rules()
		if envErr != nil {
			return envErr
		}
		ast, issues := env.Compile(rule)
		if issues.Err() != nil {
			return issues.Err()
		}
		program, programErr := env.Program(ast)
		if programErr != nil {
			return programErr
		}
		if got, _, evalErr := program.Eval(map[string]any{"self": v}); evalErr != nil || got.Value() != true {
			err = errors.Join(err, evalErr, errors.New(path+": "+fmt.Sprint(r.(map[string]any)["message"])))
		}
	}
	return err
}

// strict makes a schema of Kubernetes' one of JSON Schema that refuses unknown fields, as kubectl
// does. It leaves the schema that it is given as it is.
func strict(v any) any {
	switch v := v.(type) {
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = strict(out[i])
		}
		return out
	case map[string]any:
		out := maps.Clone(v)
		properties, isObject := v["properties"].(map[string]any)
		if _, isSchema := v["type"].(string); isObject && isSchema && v["x-kubernetes-preserve-unknown-fields"] == nil {
			if v["additionalProperties"] == nil {
				out["additionalProperties"] = false
			}
		}
		delete(out, "format") // int32 and the like
		delete(out, "default")
		if isObject {
			properties = maps.Clone(properties)
			for name := range properties {
				properties[name] = strict(properties[name])
			}
			out["properties"] = properties
		}
		for _, key := range []string{"items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"} {
			if child, ok := v[key]; ok {
				out[key] = strict(child)
			}
		}
		return out
	}
	return v
}

// checkManifests validates each document against its platform's schema, and returns the kinds.
func checkManifests(t *testing.T, name string, manifests []byte) (kinds []string) {
	t.Helper()
	known, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(manifests))
	for {
		var o map[string]any
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return kinds
		} else if err != nil {
			t.Fatal(err)
		}
		kind, _ := o["kind"].(string)
		version, _ := o["apiVersion"].(string)
		definition, ok := known[version+" "+kind]
		if !ok {
			t.Errorf("%s: there is no %s %s", name, version, kind)
			continue
		}
		kinds = append(kinds, kind)
		if err := definition.check(o["spec"]); err != nil {
			t.Errorf("%s: %s: %v", name, kind, err)
		}
	}
}

// TestManifests: the objects are what Istio's and Envoy Gateway's own definitions allow.
func TestManifests(t *testing.T) {
	needEnvoy(t) // not Envoy, but the network once, as for Envoy
	for _, m := range manifests {
		got, err := m.render(m.opts, m.mesh)
		if err != nil {
			t.Fatal(err)
		}
		if kinds := checkManifests(t, m.name, got); len(kinds) < 3 {
			t.Errorf("%s has only %q", m.name, kinds)
		}
	}
}

// TestManifestsStrict: the schemas find what is wrong.
func TestManifestsStrict(t *testing.T) {
	needEnvoy(t)
	known, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ kind, spec string }{
		{egVersion + " EnvoyExtensionPolicy", `{"extProc": [{"processingMode": {"response": {"body": "Full"}}}]}`},
		{egVersion + " EnvoyExtensionPolicy", `{"extProc": [{"messageTimeouts": "1s"}]}`},
		{egVersion + " ClientTrafficPolicy", `{"connection": {"bufferLimit": "much"}}`},
		{egVersion + " EnvoyExtensionPolicy", `{"targetRef": {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "a"}, "extProc": [{"failOpen": true, "processingMode": {"response": {"body": "FullDuplexStreamed"}}}]}`},
		{istioNetworking + " VirtualService", `{"http": [{"retry": {}}]}`},
		{istioNetworking + " VirtualService", `{"http": [{"timeout": "0s"}]}`},
		{"networking.istio.io/v1alpha3 EnvoyFilter", `{"configPatches": [{"applyTo": "HTTP_FILTERS"}]}`},
	} {
		var spec any
		if err := json.Unmarshal([]byte(tt.spec), &spec); err != nil {
			t.Fatal(err)
		}
		if definition, ok := known[tt.kind]; !ok || definition.check(spec) == nil {
			t.Errorf("%s may be %s", tt.kind, tt.spec)
		}
	}
}
