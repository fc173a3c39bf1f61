// Command licenses writes the licenses of everything that is in the program: of each module, and of
// Go's standard library. Who hands the program on must hand these on, too; so archives and image have
// the file.
//
//	go run ./internal/release/licenses -o FILE
//
// The modules are those of Linux, macOS and Windows together.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

const program = "./cmd/tokenbudget"

func main() {
	out := flag.String("o", "", "`FILE` to write")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	if out == "" {
		return errors.New("-o is missing: name the file to write")
	}
	modules, err := list()
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("What is in tokenbudget besides its own code, and under which terms.\n")
	for _, m := range modules {
		terms, err := read(m.dir)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		line := strings.Repeat("=", 80)
		fmt.Fprintf(&text, "\n%s\n%s\n%s\n\n%s", line, m.name, line, terms)
	}
	return os.WriteFile(out, []byte(text.String()), 0o644) //nolint:gosec // it is there to be read by everybody
}

// module is a part of the program.
type module struct {
	name string // with its version
	dir  string // of its source
}

// list returns what the program is made of, by name, the standard library first.
func list() ([]module, error) {
	root, err := command("", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	all := []module{{"Go " + runtime.Version(), strings.TrimSpace(root)}}
	var others []module
	for _, system := range []string{"linux", "darwin", "windows"} {
		lines, err := command(system, "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", program)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(lines) {
			name, dir, found := strings.Cut(strings.TrimSpace(line), "\t")
			if m := (module{name, dir}); found && !slices.Contains(others, m) {
				others = append(others, m)
			}
		}
	}
	if len(others) == 0 {
		return nil, errors.New("go list names no module: run this in the repository's root")
	}
	slices.SortFunc(others, func(a, b module) int { return strings.Compare(a.name, b.name) })
	return append(all, others...), nil
}

// command runs the go command, for a system if one is named.
func command(system string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if system != "" {
		cmd.Env = append(cmd.Env, "GOOS="+system)
	}
	out, err := cmd.Output()
	return string(out), err
}

// terms are the files in which modules have them.
var terms = regexp.MustCompile(`(?i)^(licen[cs]e|notice|copying|patents)(\.(txt|md))?$`)

// read returns all that a module says of its terms. To say nothing is an error: it could not be
// handed on.
func read(dir string) (string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, f := range files {
		if !f.Type().IsRegular() || !terms.MatchString(f.Name()) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return "", err
		}
		text.WriteString(strings.TrimSpace(string(raw)) + "\n\n")
	}
	if text.Len() == 0 {
		return "", errors.New("it has no file with its license")
	}
	return text.String(), nil
}
