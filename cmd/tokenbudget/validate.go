package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

var validateCommand = command{
	name:  "validate",
	args:  "-config FILE",
	short: "checks a configuration",
	long: `It prints a summary and warnings, and exits with 0; or it prints every mistake
as file:line:column with a hint, and exits with 1.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		path := configFlag(fs)
		return func(_ context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			c, err := loadConfig(e, *path)
			if err != nil {
				return err
			}
			return summary(e.stdout, c)
		}
	},
}

func configFlag(fs *flag.FlagSet) *string {
	return fs.String("config", "", "the configuration `FILE`")
}

// loadConfig reads the configuration; its mistakes are printed as they are, a line
// each.
func loadConfig(e env, path string) (*config.Config, error) {
	return loadWith(config.Load, e, path)
}

// loadRemote is loadConfig for commands that need nothing of the certificates that the
// server serves.
func loadRemote(e env, path string) (*config.Config, error) {
	return loadWith(config.LoadRemote, e, path)
}

func loadWith(load func(string) (*config.Config, error), e env, path string) (*config.Config, error) {
	if path == "" {
		return nil, usagef("-config is missing")
	}
	c, err := load(path)
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		fmt.Fprintln(e.stderr, mistakes.Error())
		return nil, errSilent
	}
	return c, err
}

func summary(w io.Writer, c *config.Config) error {
	for _, warning := range c.Warnings() {
		fmt.Fprintln(w, "warning:", warning)
	}
	fmt.Fprintf(w, "ext_proc on %s%s", c.Listen.ExtProc, secured(c.Listen.ExtProcTLS))
	if c.Listen.Admin != "" {
		fmt.Fprintf(w, ", admin on %s%s", c.Listen.Admin, secured(c.Listen.AdminTLS))
	}
	fmt.Fprintf(w, ", balances in %s\n\n", c.Store.File.Dir)
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	heading, some, acts := "BUDGET\tLIMIT\tPERIOD\tPER", false, false
	for _, b := range c.Budgets {
		some = some || len(b.Match) > 0
		acts = acts || actionText(b) != budget.ActionCut.String()
	}
	if acts {
		heading += "\tACTION"
	}
	if some {
		heading += "\tMATCH"
	}
	fmt.Fprintln(t, heading)
	// A line with fewer cells would end the columns to its right, and those below it
	// would get another width.
	columns := strings.Count(heading, "\t")
	for _, b := range c.Budgets {
		fmt.Fprintf(t, "%s\t%d %s\t%s\t%s", b.Name, b.Amount, b.Unit, period(b), perWhom(c, b))
		if acts {
			fmt.Fprint(t, "\t", actionText(b))
		}
		if some {
			fmt.Fprint(t, "\t", matchText(b))
		}
		fmt.Fprintln(t)
		for i, o := range b.Overrides {
			if i == shownOverrides {
				fmt.Fprintf(t, "\t(and %d more)%s\n", len(b.Overrides)-i, strings.Repeat("\t", columns-1))
				break
			}
			fmt.Fprintf(t, "\t%d %s\t\t%s%s\n", o.Amount, b.Unit, subjectText(o.Subject), strings.Repeat("\t", columns-3))
		}
	}
	if len(c.Models) > 0 {
		fmt.Fprintln(t, "\nMODEL\tCOUNTED")
		for _, m := range c.Models {
			fmt.Fprintf(t, "%s\t%s\n", strings.Join(m.Match, " or "), m.How())
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	return printShares(w, c)
}

// secured says what TLS an address has.
func secured(f *certs.Files) string {
	switch {
	case f == nil:
		return ""
	case f.ClientCA == "":
		return " (TLS)"
	}
	return " (mTLS)"
}

// shownOverrides is how many overrides of a budget a summary shows.
const shownOverrides = 20

func period(b budget.Limit) string {
	if b.Period == 0 {
		return "-"
	}
	return b.Period.String()
}

func perWhom(c *config.Config, b budget.Limit) string {
	switch {
	case b.PerRequest && b.Unit != budget.OutputTokens && slices.Contains(c.Truncate, b.Name):
		return "request, truncated"
	case b.PerRequest:
		return "request"
	case len(b.Per) == 0:
		return "all together"
	}
	return strings.Join(b.Per, " and ")
}

// actionText says what a budget does once it is used up, and what it holds of answers if
// that is not the default: throttle up to 10s, admission full.
func actionText(b budget.Limit) string {
	text := b.Action.String()
	if b.Action == budget.ActionThrottle {
		text += " up to " + b.MaxDelay.String()
	}
	if b.Admission != budget.AdmitPredict {
		text += ", admission " + b.Admission.String()
	}
	return text
}

// matchText says which requests a budget concerns: team=search, model=o1|o3.
func matchText(b budget.Limit) string {
	if len(b.Match) == 0 {
		return "every request"
	}
	parts := make([]string, len(b.Match))
	for i, m := range b.Match {
		name := map[budget.Property]string{
			budget.OfIdentity: m.Name, budget.OfModel: budget.ByModel, budget.OfPath: budget.ByPath, budget.OfHeader: "header " + m.Name,
		}[m.Property]
		parts[i] = name + "=" + strings.Join(m.Any, "|")
	}
	return strings.Join(parts, ", ")
}

func subjectText(ids []budget.Identity) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = printable(id.Name + "=" + id.Value)
	}
	return strings.Join(parts, ", ")
}

var initCommand = command{
	name:  "init",
	args:  "[FILE]",
	short: "writes a commented starter configuration with conservative limits",
	long:  "FILE must not exist yet; without it the configuration goes to standard output.",
	setup: func(*flag.FlagSet) func(context.Context, env, []string) error {
		return func(_ context.Context, e env, args []string) error {
			switch len(args) {
			case 0:
				_, err := e.stdout.Write(config.Starter())
				return err
			case 1:
			default:
				return usagef("one FILE at most")
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("%s exists already; nothing was written", args[0])
			}
			if err != nil {
				return err
			}
			if _, err := f.Write(config.Starter()); err != nil {
				return errors.Join(err, f.Close())
			}
			if err := f.Close(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "wrote %s; next: tokenbudget validate -config %[1]s\n", args[0])
			return err
		}
	},
}
