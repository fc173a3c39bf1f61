// Command licenses writes the licenses of everything that is in the program: of each module, and of
// Go's standard library. Who hands the program on must hand these on, too; so archives and image have
// the file.
//
//	go run ./internal/release/licenses -o FILE
//
// The modules are those of Linux, macOS and Windows together. Where a module has code of others in it, with
// terms of its own in a folder below the module's, these belong to what is handed on if the code does.
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
		terms, err := m.terms()
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
	name     string   // with its version
	dir      string   // of its source
	packages []string // folders in dir whose code is in the program
}

// terms returns all that a module says of its terms, and of those of the code in it.
func (m module) terms() (string, error) {
	text, err := read(m.dir)
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", errors.New("it has no file with its license") // it could not be handed on
	}
	for _, below := range m.below() {
		more, err := read(filepath.Join(m.dir, below))
		if err != nil {
			return "", err
		}
		if more != "" {
			text += "Of " + filepath.ToSlash(below) + ":\n\n" + more
		}
	}
	return text, nil
}

// below are the folders of the packages, and those that they lie in, without the module's own.
func (m module) below() (all []string) {
	for _, p := range m.packages {
		for below, err := filepath.Rel(m.dir, p); err == nil && below != "."; below = filepath.Dir(below) {
			all = append(all, below)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// list returns what the program is made of, by name, the standard library first.
func list() ([]module, error) {
	root, err := command("", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	all := []module{{name: "Go " + runtime.Version(), dir: strings.TrimSpace(root)}}
	var others []module
	for _, system := range []string{"linux", "darwin", "windows"} {
		lines, err := command(system, "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}\t{{$.Dir}}{{end}}{{end}}", program)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(lines) {
			words := strings.Split(strings.TrimSpace(line), "\t")
			if len(words) != 3 {
				continue
			}
			i := slices.IndexFunc(others, func(m module) bool { return m.name == words[0] })
			if i < 0 {
				i, others = len(others), append(others, module{name: words[0], dir: words[1]})
			}
			others[i].packages = append(others[i].packages, words[2])
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

// read returns all that the files of a folder say of terms; "" if there are none.
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
	return text.String(), nil
}
