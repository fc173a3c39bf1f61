package envoy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

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
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	found := map[string]*jsonschema.Schema{}
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
func readDefinitions(file string, found map[string]*jsonschema.Schema) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	for {
		var crd struct {
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
		if err := d.Decode(&crd); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if crd.Kind != "CustomResourceDefinition" {
			continue
		}
		for _, v := range crd.Spec.Versions {
			name := crd.Spec.Group + "/" + v.Name + " " + crd.Spec.Names.Kind
			// By way of JSON, for the numbers that the compiler expects.
			properties, _ := v.Schema.Open["properties"].(map[string]any)
			text, err := json.Marshal(strict(properties["spec"]))
			if err != nil {
				return err
			}
			schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				return err
			}
			c := jsonschema.NewCompiler()
			url := "crd:///" + strings.ReplaceAll(name, " ", "/")
			if err := c.AddResource(url, schema); err != nil {
				return err
			}
			if found[name], err = c.Compile(url); err != nil {
				return err
			}
		}
	}
}

// strict makes a schema of Kubernetes' one of JSON Schema that refuses unknown fields, as kubectl
// does. Rules in CEL (x-kubernetes-validations) are not checked.
func strict(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = strict(v[i])
		}
	case map[string]any:
		properties, isObject := v["properties"].(map[string]any)
		if _, isSchema := v["type"].(string); isObject && isSchema && v["x-kubernetes-preserve-unknown-fields"] == nil {
			if v["additionalProperties"] == nil {
				v["additionalProperties"] = false
			}
		}
		delete(v, "format") // int32 and the like
		delete(v, "default")
		for name := range properties {
			properties[name] = strict(properties[name])
		}
		for _, key := range []string{"items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"} {
			if child, ok := v[key]; ok {
				v[key] = strict(child)
			}
		}
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
		schema := known[version+" "+kind]
		if schema == nil {
			t.Errorf("%s: there is no %s %s", name, version, kind)
			continue
		}
		kinds = append(kinds, kind)
		raw, err := json.Marshal(o["spec"])
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
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
		if kinds := checkManifests(t, m.name, got); len(kinds) < 4 {
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
		{istioNetworking + " VirtualService", `{"http": [{"retry": {}}]}`},
		{"networking.istio.io/v1alpha3 EnvoyFilter", `{"configPatches": [{"applyTo": "HTTP_FILTERS"}]}`},
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(tt.spec))
		if err != nil {
			t.Fatal(err)
		}
		if known[tt.kind] == nil || known[tt.kind].Validate(value) == nil {
			t.Errorf("%s may be %s", tt.kind, tt.spec)
		}
	}
}
