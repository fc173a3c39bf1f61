package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

var usageCommand = command{
	name:  "usage",
	args:  "[-admin H:P | -config FILE] [-json] [-watch]",
	short: "shows who has spent, holds and has left what",
	long: `It asks a running server. With -config it reads the store of one that is stopped, or
asks the one that runs with that file, at listen.admin, with the token and TLS that
the file names. Numbers are in the budget's unit; "held" is reserved by requests
under way.

` + adminHelp,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		admins := newAdminFlags(fs, defaultAdmin)
		path := fs.String("config", "", "the server's configuration `FILE`")
		asJSON := fs.Bool("json", false, "print JSON, as GET /v1/budgets does")
		watch := fs.Bool("watch", false, "show it again every two seconds")
		return func(ctx context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			switch {
			case *path != "" && admins.addr != "":
				return usagef("-admin and -config exclude each other")
			case *path != "" && *watch:
				return usagef("-watch needs a running server (-admin)")
			}
			read := func() (admin.Budgets, error) { return readBudgets(ctx, e, *path, admins) }
			if *path == "" {
				client, err := admins.client()
				if err != nil {
					return err
				}
				read = func() (admin.Budgets, error) { return askBudgets(ctx, client) }
			}
			for {
				b, err := read()
				if err != nil {
					return err
				}
				if err := printBudgets(e.stdout, b, *asJSON, time.Now()); err != nil || !*watch {
					return err
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(2 * time.Second):
				}
				if !*asJSON {
					fmt.Fprintln(e.stdout) // so that one table is told from the next
				}
			}
		}
	},
}

// askBudgets asks a running server.
func askBudgets(ctx context.Context, c *adminClient) (b admin.Budgets, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := c.get(ctx, "/v1/budgets")
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return b, fmt.Errorf("the server at %s answers %s (give -cert and -key, or set %s; see tokenbudget help usage)", c.addr, resp.Status, tokenVariable)
	case http.StatusBadRequest: // the request has nothing that could be wrong, but its scheme
		return b, fmt.Errorf("the server at %s answers %s (if it has TLS, ask it as https://%[1]s)", c.addr, resp.Status)
	default:
		return b, fmt.Errorf("the server at %s answers %s", c.addr, resp.Status)
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<30)).Decode(&b)
	return b, err
}

// readBudgets reads the store of a server that does not run, or asks the one that does.
func readBudgets(ctx context.Context, e env, path string, flags *adminFlags) (out admin.Budgets, err error) {
	c, err := loadRemote(e, path)
	if err != nil {
		return out, err
	}
	store, err := budget.OpenReadOnly(c.Store.File.Dir, budget.WithReport(func(err error) { fmt.Fprintln(e.stderr, err) }))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return out, fmt.Errorf("there is no store yet: %w (a relative store.file.dir counts from the working directory)", err)
	case errors.Is(err, budget.ErrLocked):
		client, err := flags.of(c, true)
		if err != nil {
			return out, fmt.Errorf("the server runs, and is to be asked: %w", err)
		}
		return askBudgets(ctx, client)
	case err != nil:
		return out, err
	}
	set, err := loadOverrides(c.Store.File.Dir)
	if err != nil {
		return out, errors.Join(err, store.Close())
	}
	ledger, err := openLedger(ctx, c, set, store, nil, nil)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, ledger.Close(context.WithoutCancel(ctx))) }()
	balances, err := ledger.Balances(ctx)
	if err != nil {
		return out, err
	}
	return admin.FromBalances(balances), nil
}

func printBudgets(w io.Writer, b admin.Budgets, asJSON bool, now time.Time) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(b)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	heading := "BUDGET\tSUBJECT\tUNIT\tSPENT\tHELD\tLIMIT\tREMAINING\tDEBT\tRESETS"
	tied := slices.ContainsFunc(b.Budgets, func(row admin.Budget) bool { return row.Parent != "" })
	if tied {
		heading += "\tPARENT"
	}
	fmt.Fprintln(t, heading)
	for _, row := range b.Budgets {
		resets := "never"
		if row.WindowEnd != nil {
			resets = row.WindowEnd.Format(time.RFC3339) + " (in " + max(row.WindowEnd.Sub(now), 0).Round(time.Second).String() + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s", printable(row.Name), subject(row.Subject), printable(row.Unit), row.Spent, row.Held, row.Limit, row.Remaining, row.Debt, resets)
		if tied {
			fmt.Fprint(t, "\t", printable(cmp.Or(row.Parent, "-")))
		}
		fmt.Fprintln(t)
	}
	if len(b.Budgets) == 0 {
		fmt.Fprintln(t, "(nothing was used in the windows that are running)")
	}
	return t.Flush()
}

func subject(values map[string]string) string {
	if len(values) == 0 {
		return "all"
	}
	parts := make([]string, 0, len(values))
	for name, value := range values {
		parts = append(parts, printable(name+"="+value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// printable returns s with everything escaped that could steer a terminal: clients
// may choose the values of identities.
func printable(s string) string {
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

var healthcheckCommand = command{
	name:  "healthcheck",
	args:  "[-admin H:P | -config FILE]",
	short: "asks a running server whether it is ready, for container probes",
	long: `With -config it asks at listen.admin of that file, on the machine of the server, and
takes whatever certificate it shows. No token is sent: health is free.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		admins := newAdminFlags(fs, defaultAdmin)
		path := fs.String("config", "", "the server's configuration `FILE`")
		return func(ctx context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			if *path != "" && admins.addr != "" {
				return usagef("-admin and -config exclude each other")
			}
			client, err := admins.client()
			if *path != "" {
				var c *config.Config
				if c, err = loadRemote(e, *path); err == nil {
					client, err = admins.of(c, false)
				}
			}
			if err != nil {
				return err
			}
			client.token = "" // nobody asks for it
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			resp, err := client.get(ctx, "/readyz")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("not ready: %s", resp.Status)
			}
			_, err = fmt.Fprintln(e.stdout, "ready")
			return err
		}
	},
}
