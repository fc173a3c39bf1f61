//go:build unix

package envoyrun

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const simulated = `Reading package lists...
The following NEW packages will be installed:
  libjemalloc2 redis-server redis-tools
Inst libjemalloc2 (5.3.0-1 Debian:12.15/oldstable [amd64])
Inst redis-tools [5:7.0.15-1] (5:7.0.15-1~deb12u10 Debian-Security:12/oldstable-security [amd64])
Inst libc6:i386 (2.36-9 Debian:12.15/oldstable [i386])
Conf libjemalloc2 (5.3.0-1 Debian:12.15/oldstable [amd64])
`

func TestToInstall(t *testing.T) {
	got, err := toInstall(simulated)
	if want := []string{"libjemalloc2", "redis-tools", "libc6:i386"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, error %v, want %q", got, err, want)
	}
	for name, text := range map[string]string{
		"nothing": "", "installed": "redis-server is already the newest version.\n", "an option": "Inst --force-yes (1)\n", "a path": "Inst ../x (1)\n",
		"too many": strings.Repeat("Inst many (1)\n", maxDebianPackages+1),
	} {
		if got, err := toInstall(text); err == nil {
			t.Errorf("%s: %q is to be installed", name, got)
		}
	}
}

// What is found goes to a command: there is something, there is not too much, and nothing is an option.
func FuzzToInstall(f *testing.F) {
	f.Add(simulated)
	f.Add("Inst -x")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := toInstall(text)
		if (err == nil) != (len(got) > 0) || len(got) > maxDebianPackages {
			t.Fatalf("%d packages, error %v", len(got), err)
		}
		for _, name := range got {
			if name[0] == '-' || strings.ContainsAny(name, "/ =") {
				t.Fatalf("%q", name)
			}
		}
	})
}

// script puts a program of the shell into a folder.
func script(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nset -e\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// A package and what it needs are unpacked once, and found again; a program on PATH comes first.
func TestDebianProgram(t *testing.T) {
	ownCache(t)
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	script(t, bin, "apt-get", `
if [ "$1" = install ]; then echo "Inst liblittle (1)"; echo "Inst made-up-server (2)"; exit; fi
[ "$1 $2 $3 $4" = "download --quiet liblittle made-up-server" ]
: > liblittle_1.deb
: > made-up-server_2.deb
`)
	script(t, bin, "dpkg-deb", `
[ "$1" = --extract ]
mkdir -p "$3/usr/bin" "$3/usr/lib/any-linux-gnu"
case $2 in
*made-up-server*) printf '#!/bin/sh\necho "$LD_LIBRARY_PATH"' > "$3/usr/bin/made-up-server"; chmod +x "$3/usr/bin/made-up-server" ;;
esac
`)
	p, err := DebianProgram(t.Context(), "made-up-server")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(filepath.Dir(filepath.Dir(p.Path)))
	if out, err := p.Command().Output(); err != nil || strings.TrimSpace(string(out)) != filepath.Join(dir, "usr", "lib", "any-linux-gnu") {
		t.Errorf("error %v, its libraries are in %q", err, out)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "downloads")); err == nil {
		t.Errorf("%d downloads are left", len(left))
	}

	script(t, bin, "apt-get", "exit 1")
	if again, err := DebianProgram(t.Context(), "made-up-server"); err != nil || again.Path != p.Path {
		t.Errorf("the second time: %q, error %v", again.Path, err)
	}
	script(t, bin, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
	if _, err := DebianProgram(t.Context(), "other-server"); err == nil || !strings.Contains(err.Error(), "Unable to locate") || !strings.Contains(err.Error(), "run apt-get update once") {
		t.Errorf("without lists of packages: %v", err)
	}
	script(t, bin, "other-server", "")
	if p, err := DebianProgram(t.Context(), "other-server"); err != nil || p.Path != filepath.Join(bin, "other-server") || p.Command().Env == nil {
		t.Errorf("on PATH: %+v, error %v", p, err)
	}
	if _, err := DebianProgram(t.Context(), "../x"); err == nil {
		t.Error("a path was accepted")
	}
}

func TestGoProgram(t *testing.T) {
	ownCache(t)
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	script(t, bin, "go", `
[ "$1 $2 $3" = "install -trimpath example.org/tool/cmd/made@v1.2.3" ]
mkdir -p "$GOBIN"
: > "$GOBIN/made"
`)
	path, err := GoProgram(t.Context(), "tool", "example.org/tool/cmd/made", "v1.2.3")
	if err != nil || filepath.Base(path) != "made" || !strings.Contains(path, "tool-v1.2.3") {
		t.Fatalf("%q, error %v", path, err)
	}
	script(t, bin, "go", "echo no such version >&2; exit 1")
	if again, err := GoProgram(t.Context(), "tool", "example.org/tool/cmd/made", "v1.2.3"); err != nil || again != path {
		t.Errorf("the second time: %q, error %v", again, err)
	}
	if _, err := GoProgram(t.Context(), "tool", "example.org/tool/cmd/made", "v1.2.4"); err == nil || !strings.Contains(err.Error(), "no such version") || !strings.Contains(err.Error(), "module proxy") {
		t.Errorf("a version that is not there: %v", err)
	}
	if _, err := GoProgram(t.Context(), "../x", "example.org/x", "v1.0.0"); err == nil {
		t.Error("a path was accepted")
	}
}
