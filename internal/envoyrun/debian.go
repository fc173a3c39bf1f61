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
)

// maxDebianPackages bounds what one program may bring with it.
const maxDebianPackages = 40

// Program is a program, and where its libraries are if they are not the system's.
type Program struct {
	Path      string
	libraries []string // directories
}

// Command is a run of the program, with the system's environment.
func (p Program) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.Path, args...)
	cmd.Env = os.Environ()
	if len(p.libraries) > 0 {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+strings.Join(p.libraries, ":"))
	}
	return cmd
}

// DebianProgram returns a program of that name, from PATH, else from the Debian package of that name: it and the
// packages which it needs and the system lacks are downloaded on first use and unpacked into the user's cache
// directory. Nothing is installed, so nobody needs to be root; apt's lists of packages must be there.
func DebianProgram(ctx context.Context, name string) (Program, error) {
	if path, err := exec.LookPath(name); err == nil {
		return Program{Path: path}, nil
	}
	if !venvName.MatchString(name) {
		return Program{}, fmt.Errorf("envoyrun: program %q: use lower-case letters, digits, '.', '_' and '-'", name)
	}
	probe := func(dir string) (string, error) {
		file := filepath.Join(dir, "usr", "bin", name)
		if _, err := os.Stat(file); err != nil { // what a symbolic link leads to, too
			return "", fmt.Errorf("envoyrun: the package %s has no such program: %w", name, err)
		}
		return file, nil
	}
	dir, err := install(ctx, "debian-"+name, probe, func(ctx context.Context, dir string) error {
		return unpackDebian(ctx, name, dir)
	})
	if err != nil {
		return Program{}, fmt.Errorf("%w\n%s is not on PATH: install it, or, on Debian and Ubuntu, run apt-get update once, as root", err, name)
	}
	p := Program{}
	if p.Path, err = probe(dir); err != nil {
		return Program{}, err
	}
	for _, pattern := range []string{"usr/lib/*-linux-*", "lib/*-linux-*"} {
		found, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
		if err != nil {
			return Program{}, err
		}
		p.libraries = append(p.libraries, found...)
	}
	return p, nil
}

// unpackDebian downloads a package with those that it needs, and unpacks all of them into dir.
func unpackDebian(ctx context.Context, name, dir string) error {
	downloads := filepath.Join(dir, "downloads")
	if err := os.MkdirAll(downloads, 0o755); err != nil {
		return fmt.Errorf("envoyrun: %w", err)
	}
	cmd := exec.CommandContext(ctx, "apt-get", "install", "--simulate", "--no-install-recommends", name)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = pipeTimeout
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return fmt.Errorf("envoyrun: apt-get install --simulate %s: %w\n%.500s", name, err, exit.Stderr)
		}
		return fmt.Errorf("envoyrun: %w", err)
	}
	packages, err := toInstall(string(out))
	if err != nil {
		return fmt.Errorf("envoyrun: apt-get install --simulate %s: %w", name, err)
	}
	if err := runIn(ctx, downloads, nil, "apt-get", append([]string{"download", "--quiet"}, packages...)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(downloads, "*.deb"))
	if err != nil {
		return err
	}
	if len(files) != len(packages) {
		return fmt.Errorf("envoyrun: %d packages were to be downloaded, and %d files are there", len(packages), len(files))
	}
	for _, file := range files {
		if err := run(ctx, "dpkg-deb", "--extract", file, dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(downloads)
}

// debianPackage is a name, with its architecture if that is not the system's (Debian Policy, 5.6.1).
var debianPackage = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?$`)

// toInstall reads which packages a simulated installation would unpack: lines that begin with Inst.
func toInstall(simulated string) ([]string, error) {
	var packages []string
	for line := range strings.Lines(simulated) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "Inst" {
			continue
		}
		if !debianPackage.MatchString(fields[1]) {
			return nil, fmt.Errorf("%.60q is no name of a package", fields[1])
		}
		packages = append(packages, fields[1])
	}
	switch {
	case len(packages) == 0:
		return nil, errors.New("nothing is to be installed")
	case len(packages) > maxDebianPackages:
		return nil, fmt.Errorf("%d packages are to be installed, more than %d", len(packages), maxDebianPackages)
	}
	return packages, nil
}
