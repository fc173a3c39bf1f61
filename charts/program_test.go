package charts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// program is the real one, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tokenbudget-charts-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "tokenbudget")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/tokenbudget")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	return bin, cmd.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// tokenbudget runs the program, with a value for each of some variables, and returns what it prints.
func tokenbudget(t *testing.T, env []core.EnvVar, args ...string) string {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = os.Environ()
	for _, e := range env {
		cmd.Env = append(cmd.Env, e.Name+"=x"+e.Value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("tokenbudget %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// here writes the configuration of a release to where the program of this machine finds it, with
// the files that it names.
func here(t *testing.T, o objects) string {
	t.Helper()
	dir := t.TempDir()
	text := strings.ReplaceAll(o.config.Data["config.yaml"], "/etc/tokenbudget/", dir+"/")
	text = strings.ReplaceAll(text, "/var/lib/tokenbudget", dir)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tokenbudget"}, DNSNames: []string{"budgets.llm.svc.cluster.local"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	// The paths are those of the projected volume.
	for _, v := range o.pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.Secret == nil {
				continue
			}
			for _, item := range s.Secret.Items {
				content := crt
				if item.Key == "tls.key" {
					content = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
				}
				file := filepath.Join(dir, item.Path)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestValidate: the program takes the configuration of each release, and what the notes say of
// Envoy can be done.
func TestValidate(t *testing.T) {
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			r := mustRender(t, values)
			o := decode(t, r)
			file := here(t, o)
			summary := tokenbudget(t, o.tokenbudget.Env, "validate", "-config", file)
			if !strings.Contains(summary, "balances in "+filepath.Dir(file)+"/data") {
				t.Errorf("the store is not on the volume:\n%s", summary)
			}

			before, command, found := strings.Cut(r.notes, "tokenbudget envoy ")
			command, _, end := strings.Cut(command, " > llm.yaml")
			if !found || !end {
				t.Fatalf("the notes have no command for Envoy:\n%s", r.notes)
			}
			var env []core.EnvVar
			for word := range strings.FieldsSeq(before[strings.LastIndex(before, "\n")+1:]) {
				name, value, _ := strings.Cut(word, "=")
				env = append(env, core.EnvVar{Name: name, Value: value})
			}
			// Where that is done there are neither certificates nor variables.
			file = filepath.Join(t.TempDir(), "tokenbudget.yaml")
			if err := os.WriteFile(file, []byte(o.config.Data["config.yaml"]), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"envoy"}
			for a := range strings.FieldsSeq(strings.ReplaceAll(command, "\\\n", " ")) {
				if a == "tokenbudget.yaml" {
					a = file
				}
				args = append(args, a)
			}
			address := "address: 127.0.0.1\n"
			if o.service != nil {
				address = "address: " + o.service.Name + "." + o.service.Namespace + ".svc.cluster.local\n"
			}
			if manifests := tokenbudget(t, env, args...); !strings.Contains(manifests, "kind: EnvoyFilter") || !strings.Contains(manifests, address) {
				t.Errorf("%q prints:\n%s\nwant an EnvoyFilter with %s", args, manifests, address)
			}
		})
	}
}

// TestInit: the file that the program begins with can be given as a text.
func TestInit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "budgets.yaml")
	tokenbudget(t, nil, "init", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values, err := yaml.Marshal(map[string]string{"configText": string(text)})
	if err != nil {
		t.Fatal(err)
	}
	o := decode(t, mustRender(t, string(values)))
	want, got := tokenbudget(t, nil, "validate", "-config", file), tokenbudget(t, nil, "validate", "-config", here(t, o))
	// The budgets, which come last, are the same; the addresses are the chart's.
	_, want, found := strings.Cut(want, "\n\n")
	if !found || !strings.HasSuffix(got, want) {
		t.Errorf("the chart makes of the file:\n%s\nwant:\n%s", got, want)
	}
}

// TestServes: the program serves by the configuration of a release, and the container's probe
// finds it ready.
func TestServes(t *testing.T) {
	o := decode(t, mustRender(t, fmt.Sprintf("config: {timeouts: {drain: 1s}}\nextproc: {port: %d}\nadmin: {port: %d}", freePort(t), freePort(t))))
	file := here(t, o)
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "-config", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	probe := o.tokenbudget.ReadinessProbe.Exec.Command
	if probe[0] != "/tokenbudget" {
		t.Fatalf("the probe is %q", probe)
	}
	deadline := time.After(time.Minute)
	for exec.Command(bin, probe[1:]...).Run() != nil {
		select {
		case err := <-ended:
			t.Fatalf("it has ended: %v", err)
		case <-deadline:
			_ = cmd.Process.Kill()
			t.Fatal("it is never ready")
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-deadline:
		_ = cmd.Process.Kill()
		t.Error("it does not end")
	}
}

// freePort is a port that nobody listens on, and below those that systems give to connections: somebody's could
// have it before the program does.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 15_000 + mathrand.IntN(17_000)
		if lis, err := net.Listen("tcp", fmt.Sprint(":", port)); err == nil {
			_ = lis.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// drainOf is the drain of a release in seconds, rounded up, by Go's own reading of it.
func drainOf(t *testing.T, o objects) int64 {
	t.Helper()
	var c struct {
		Timeouts struct {
			Drain string `json:"drain"`
		} `json:"timeouts"`
	}
	if err := yaml.Unmarshal([]byte(o.config.Data["config.yaml"]), &c); err != nil {
		t.Fatal(err)
	}
	if c.Timeouts.Drain == "" {
		return 25
	}
	d, err := time.ParseDuration(c.Timeouts.Drain)
	if err != nil {
		t.Fatal(err)
	}
	return int64((d + time.Second - 1) / time.Second)
}
