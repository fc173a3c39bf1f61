package release

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestSnapshot looks at what make release-check has made, in $RELEASE_DIST: archives for every
// platform, with everything in them, a program that knows its version, the list of modules, and
// checksums that are right.
func TestSnapshot(t *testing.T) {
	dist := os.Getenv("RELEASE_DIST")
	if dist == "" {
		t.Skip("there is no release to look at; make release-check makes one")
	}
	sums := checksums(t, dist)
	for _, platform := range []string{"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64", "windows_amd64", "windows_arm64"} {
		t.Run(platform, func(t *testing.T) {
			found, err := filepath.Glob(filepath.Join(dist, "tokenbudget_*_"+platform+".*"))
			if err != nil {
				t.Fatal(err)
			}
			archives := slices.DeleteFunc(slices.Clone(found), func(name string) bool { return strings.HasSuffix(name, ".json") })
			if len(archives) != 1 {
				t.Fatalf("found %q, want one archive", found)
			}
			for _, name := range found {
				raw, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if sum := sha256.Sum256(raw); sums[filepath.Base(name)] != hex.EncodeToString(sum[:]) {
					t.Errorf("the checksum of %s is missing or wrong", filepath.Base(name))
				}
			}
			files := unpack(t, archives[0])
			for _, name := range []string{"LICENSE", "THIRD_PARTY_LICENSES.txt", "README.md", "CHANGELOG.md", "docs/configuration.schema.json"} {
				if len(files[name]) == 0 {
					t.Errorf("%s is not in it", name)
				}
			}
			program := files["tokenbudget"]
			if strings.HasPrefix(platform, "windows") {
				program = files["tokenbudget.exe"]
			}
			if len(program) < 1<<20 {
				t.Fatalf("the program has %d bytes", len(program))
			}
			modules(t, archives[0]+".sbom.json")
			if platform == runtime.GOOS+"_"+runtime.GOARCH {
				version(t, archives[0], program)
			}
		})
	}
}

// checksums are what checksums.txt says, by name.
func checksums(t *testing.T, dist string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]string)
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		sum, name, _ := strings.Cut(s.Text(), "  ")
		sums[name] = sum
	}
	return sums
}

// unpack reads an archive whole.
func unpack(t *testing.T, name string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, r io.Reader, err error) {
		var content []byte
		if err == nil {
			content, err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		files[name] = content
	}
	if strings.HasSuffix(name, ".zip") {
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			r, err := f.Open()
			read(f.Name, r, err)
		}
		return files
	}
	g, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for a := tar.NewReader(g); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		read(h.Name, a, nil)
	}
}

// modules checks that an SBOM in SPDX lists what the program is made of.
func modules(t *testing.T, name string) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		Packages []struct {
			Name    string `json:"name"`
			Version string `json:"versionInfo"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(raw, &sbom); err != nil {
		t.Fatal(err)
	}
	versions := make(map[string]string)
	for _, p := range sbom.Packages {
		versions[p.Name] = p.Version
	}
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{"google.golang.org/grpc", "github.com/dgraph-io/ristretto/v2", "go.uber.org/zap"} {
		m := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(module) + ` (\S+)$`).FindSubmatch(mod)
		if m == nil || versions[module] != string(m[1]) {
			t.Errorf("%s: %s is %q in it, go.mod has %q", filepath.Base(name), module, versions[module], m)
		}
	}
}

// version runs the program and compares its version with the archive's.
func version(t *testing.T, archive string, program []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokenbudget")
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(file, "-version").CombinedOutput()
	_, want, _ := strings.Cut(filepath.Base(archive), "_")
	want, _, _ = strings.Cut(want, "_")
	if err != nil || string(out) != "tokenbudget v"+want+"\n" {
		t.Errorf("-version: %v, %q, want v%s", err, out, want)
	}
}
