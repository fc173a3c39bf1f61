// Command tokenbudget enforces token budgets on LLM traffic behind Envoy.
//
// Every command is a function in a file of its own; this one finds and runs it.
// Exit codes: 0 success, 1 the command failed, 2 it was called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks; a second one, while the first is being obeyed, kills.
	context.AfterFunc(ctx, stop)
	return execute(ctx, env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:])
}

// env is what a command touches of the outside world, its files apart.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// command is one of the program's commands.
type command struct {
	name  string
	args  string // synopsis of flags and arguments
	short string // one line, for the list of commands
	long  string // what the help says beyond the flags
	// setup defines flags and returns what runs the command with what is left of
	// the arguments.
	setup func(*flag.FlagSet) func(ctx context.Context, e env, args []string) error
}

var commands = []command{serveCommand, initCommand, validateCommand, envoyCommand, countCommand, usageCommand, doctorCommand, hashKeyCommand, healthcheckCommand, versionCommand}

// errUsage is the error of a command that was called wrongly.
type errUsage struct{ message string }

func (e errUsage) Error() string { return e.message }

func usagef(format string, args ...any) error { return errUsage{fmt.Sprintf(format, args...)} }

// errSilent makes the program fail without another word: the command has said
// what there is to say.
var errSilent = errors.New("failed")

// execute runs the program and returns its exit code.
func execute(ctx context.Context, e env, args []string) int {
	if len(args) == 0 {
		help(e.stderr)
		return 2
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) == 0 {
			help(e.stdout)
			return 0
		}
		name, args = args[0], []string{"-h"}
	case "-version", "--version":
		name = "version"
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == name })
	if i < 0 {
		fmt.Fprintf(e.stderr, "tokenbudget: there is no command %q; tokenbudget help lists them\n", name)
		return 2
	}
	return commands[i].execute(ctx, e, args)
}

func (c command) execute(ctx context.Context, e env, args []string) int {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed below, in one form
	run := c.setup(fs)
	err := parseFlags(fs, args)
	if err == nil {
		err = run(ctx, e, fs.Args())
	}
	var usage errUsage
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		c.help(e.stdout, fs)
		return 0
	case errors.Is(err, errSilent):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(e.stderr, "tokenbudget %s: %v\nusage: %s\n", c.name, err, c.synopsis())
		return 2
	}
	fmt.Fprintf(e.stderr, "tokenbudget %s: %v\n", c.name, err)
	return 1
}

// parseFlags parses flags; a mistake in them is a usage error.
func parseFlags(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return errUsage{err.Error()}
	}
	return err
}

func help(w io.Writer) {
	fmt.Fprint(w, "tokenbudget enforces token budgets on LLM traffic, as a filter of Envoy.\n\nusage: tokenbudget COMMAND [flags]\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\ntokenbudget help COMMAND tells more. To begin:\n\n  tokenbudget init budgets.yaml\n  tokenbudget validate -config budgets.yaml\n  tokenbudget serve -config budgets.yaml\n")
}

func (c command) synopsis() string {
	return strings.TrimSpace("tokenbudget " + c.name + " " + c.args)
}

func (c command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "usage: %s\n\n%s\n", c.synopsis(), strings.TrimSpace(c.short+".\n\n"+c.long))
	flags := false
	fs.VisitAll(func(*flag.Flag) { flags = true })
	if flags {
		fmt.Fprintln(w, "\nflags:")
		fs.SetOutput(w)
		fs.PrintDefaults()
	}
}

// noArguments refuses arguments that a command would ignore.
func noArguments(args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// version is set by the linker in releases.
var version = ""

// buildVersion is the version of this binary: a release's, or what go install knows.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

var versionCommand = command{
	name: "version", args: "", short: "prints the version",
	setup: func(*flag.FlagSet) func(context.Context, env, []string) error {
		return func(_ context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			_, err := fmt.Fprintln(e.stdout, "tokenbudget", buildVersion())
			return err
		}
	},
}
