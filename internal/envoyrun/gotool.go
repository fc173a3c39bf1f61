package envoyrun

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// GoProgram returns the path of a program that is built from its Go module, at a version such as v1.4.0. It is built
// on first use, without cgo, and kept in the user's cache directory. It needs the go command and a module proxy.
func GoProgram(ctx context.Context, name, pkg, version string) (string, error) {
	name += "-" + version
	if !venvName.MatchString(name) {
		return "", fmt.Errorf("envoyrun: program %q: use lower-case letters, digits, '.', '_' and '-'", name)
	}
	probe := func(dir string) (string, error) {
		file := filepath.Join(dir, path.Base(pkg))
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("envoyrun: %w", err)
		}
		return file, nil
	}
	dir, err := install(ctx, name, probe, func(ctx context.Context, dir string) error {
		env := append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOOS=", "GOARCH=")
		if err := runIn(ctx, "", env, "go", "install", "-trimpath", pkg+"@"+version); err != nil {
			return fmt.Errorf("%w\nthe Go module proxy must be reachable once, to build %s", err, pkg)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return probe(dir)
}
