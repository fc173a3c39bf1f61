package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

// definitions are Go modules that carry CustomResourceDefinitions, with their checksums as in a
// go.sum. Those of Istio and Envoy Gateway, which has Gateway API's, are of the versions that
// envoy/crd_test.go names, too (TestDefinitions); that of the Prometheus operator is older than the
// types that the chart's tests know. They are downloaded by the go command, and no dependency.
var definitions = []struct{ module, sum, files string }{
	{"istio.io/api@v1.31.4", "h1:AcnncYrlDj1PJkym7h88Gggkef4MAra8QpGaXRMsr+E=", "kubernetes/customresourcedefinitions.gen.yaml"},
	{"github.com/envoyproxy/gateway@v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=", "charts/gateway-helm/charts/crds/crds/*.yaml"},
	{"github.com/envoyproxy/gateway@v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=", "charts/gateway-helm/charts/crds/crds/generated/*.yaml"},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=", "example/prometheus-operator-crd/*_servicemonitors.yaml"},
}

// TestDefinitions: package envoy renders for the same versions.
func TestDefinitions(t *testing.T) {
	raw, err := os.ReadFile("../../envoy/crd_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions[:3] {
		if !strings.Contains(string(raw), fmt.Sprintf("{%q, %q, %q}", d.module, d.sum, d.files)) {
			t.Errorf("envoy/crd_test.go has another version than %s, or other files of it than %s", d.module, d.files)
		}
	}
}

// define gives the server the definitions, and waits until it serves them.
func (c *cluster) define(ctx context.Context) error {
	var all []object
	for _, d := range definitions {
		files, err := filesOf(d.module, d.sum, d.files)
		if err != nil {
			return err
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			objects, err := read(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			all = append(all, objects...)
		}
	}
	for _, o := range all {
		if _, err := c.apply(ctx, o, nil); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	crds := c.objects.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, o := range all {
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			got, err := crds.Get(ctx, o.GetName(), meta1.GetOptions{})
			if err != nil {
				return false, err
			}
			conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
			return slices.ContainsFunc(conditions, func(c any) bool {
				is, _ := c.(map[string]any)
				return is["type"] == "Established" && is["status"] == "True"
			}), nil
		})
		if err != nil {
			return fmt.Errorf("%s is not established: %w", o, err)
		}
	}
	c.mapper.Reset()
	return nil
}

// filesOf downloads a module and finds files in it.
func filesOf(module, sum, pattern string) ([]string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir, cmd.Env = os.TempDir(), append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.Output()
	var got struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr != nil || got.Error != "" {
		return nil, errors.Join(err, jsonErr, errors.New("go mod download "+module+": "+got.Error))
	}
	if got.Sum != sum {
		return nil, errors.New(module + " has the checksum " + got.Sum + ", want " + sum)
	}
	files, err := filepath.Glob(filepath.Join(got.Dir, filepath.FromSlash(pattern)))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, errors.New(module+" has no "+pattern))
	}
	return files, nil
}
