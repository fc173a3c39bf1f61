package envoyrun

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// installTimeout bounds the wait for another process's installation and our own.
const installTimeout = 10 * time.Minute

// venvName keeps a venv inside the cache directory, whatever it is called.
var venvName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// PythonVenv returns the Python interpreter of a virtual environment which has
// the requirements, such as openai==3.54.0, installed. It is made on first use
// and kept in the user's cache directory, one for each set of requirements.
//
// Run installed programs as modules (python -m …): the scripts in the
// environment's bin directory name a directory that no longer exists.
func PythonVenv(ctx context.Context, name string, requirements ...string) (string, error) {
	if !venvName.MatchString(name) {
		return "", fmt.Errorf("envoyrun: venv name %q: use lower-case letters, digits, '.', '_' and '-'", name)
	}
	dir, err := installVenv(ctx, name+"-"+digest(requirements), venvPython, requirements...)
	if err != nil {
		return "", err
	}
	return venvPython(dir)
}

// digest tells sets of requirements apart.
func digest(requirements []string) string {
	sum := sha256.Sum256([]byte(strings.Join(requirements, "\n")))
	return hex.EncodeToString(sum[:6])
}

// venvPython returns the interpreter of a venv; it fails when the Python that
// the venv was made with is gone.
func venvPython(venv string) (string, error) {
	python := filepath.Join(venv, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		return "", fmt.Errorf("envoyrun: %w", err)
	}
	return python, nil
}

// installVenv returns the directory of a venv in the cache with the requirements
// installed. A directory for which probe fails counts as absent.
func installVenv(ctx context.Context, name string, probe func(dir string) (string, error), requirements ...string) (string, error) {
	return install(ctx, name, probe, func(ctx context.Context, dir string) error {
		if err := run(ctx, "python3", "-m", "venv", dir); err != nil {
			return fmt.Errorf("%w\nPython 3 with its venv module is needed (Debian: apt install python3-venv)", err)
		}
		if len(requirements) == 0 {
			return nil
		}
		python := filepath.Join(dir, "bin", "python")
		args := append([]string{"-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"}, requirements...)
		if err := run(ctx, python, args...); err != nil {
			return fmt.Errorf("%w\nthe package index must be reachable once, to install %s", err, strings.Join(requirements, ", "))
		}
		return nil
	})
}

// install returns a directory in the cache, which build fills on first use. A
// directory for which probe fails counts as absent. It appears by a rename: whoever
// sees it sees all of it.
func install(ctx context.Context, name string, probe func(dir string) (string, error), build func(ctx context.Context, dir string) error) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name)
	if _, err := probe(dir); err == nil {
		return dir, nil
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", fmt.Errorf("envoyrun: waiting to install %s: %w", name, err)
	}
	defer unlock()
	if _, err := probe(dir); err == nil {
		return dir, nil // somebody else has installed it meanwhile
	}

	// A fixed name, so that what a killed process left is cleared away.
	building := dir + ".building"
	if err := errors.Join(os.RemoveAll(building), os.RemoveAll(dir)); err != nil {
		return "", fmt.Errorf("envoyrun: %w", err)
	}
	defer os.RemoveAll(building)
	if err := build(ctx, building); err != nil {
		return "", err
	}
	if _, err := probe(building); err != nil {
		return "", err
	}
	if err := os.Rename(building, dir); err != nil {
		return "", fmt.Errorf("envoyrun: %w", err)
	}
	return dir, nil
}

// cacheDir returns the directory for what is installed, and makes it.
func cacheDir() (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("envoyrun: no cache directory to install into: %w; set HOME", err)
	}
	dir := filepath.Join(user, "tokenbudget")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("envoyrun: %w", err)
	}
	return dir, nil
}

// run runs a command and puts the end of its output into the error.
func run(ctx context.Context, name string, args ...string) error {
	return runIn(ctx, "", nil, name, args...)
}

// runIn is run in a directory, which may be empty for the present one, with an environment, which may be nil for the present one.
func runIn(ctx context.Context, dir string, env []string, name string, args ...string) error {
	out := newTail(2 << 10)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = pipeTimeout
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("envoyrun: %s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
