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
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/admin"
)

const defaultAdmin = "127.0.0.1:9003"

var usageCommand = command{
	name:  "usage",
	args:  "[-admin H:P | -config FILE] [-json] [-watch]",
	short: "shows who has spent, holds and has left what",
	long: `It asks a running server, or with -config reads the store of one that is stopped.
Numbers are in the budget's unit; "held" is reserved by requests under way.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		addr := fs.String("admin", "", "`ADDRESS` of a running server's admin listener, host:port or unix:/path (default "+defaultAdmin+")")
		path := fs.String("config", "", "read the store which this configuration `FILE` names")
		asJSON := fs.Bool("json", false, "print JSON, as GET /v1/budgets does")
		watch := fs.Bool("watch", false, "show it again every two seconds")
		return func(ctx context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			switch {
			case *path != "" && *addr != "":
				return usagef("-admin and -config exclude each other")
			case *path != "" && *watch:
				return usagef("-watch needs a running server (-admin)")
			}
			read := func() (admin.Budgets, error) { return askBudgets(ctx, cmp.Or(*addr, defaultAdmin)) }
			if *path != "" {
				read = func() (admin.Budgets, error) { return readBudgets(ctx, e, *path) }
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
			}
		}
	},
}

// askBudgets asks a running server.
func askBudgets(ctx context.Context, addr string) (b admin.Budgets, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := adminGet(ctx, addr, "/v1/budgets")
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return b, fmt.Errorf("the server at %s answers %s", addr, resp.Status)
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<30)).Decode(&b)
	return b, err
}

// adminGet asks the admin listener at "host:port" or "unix:/path". No proxy stands
// between: the address is loopback or of an inner network.
func adminGet(ctx context.Context, addr, path string) (*http.Response, error) {
	host, dial := addr, (&net.Dialer{}).DialContext
	if socket, unix := strings.CutPrefix(addr, "unix:"); unix {
		host = "localhost"
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	} else if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, usagef("-admin %q is no address; write host:port or unix:/path", addr)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return nil, usagef("-admin %q is no address; write host:port or unix:/path", addr)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no server answers at %s: %w (is it running, and is this its listen.admin?)", addr, err)
	}
	return resp, nil
}

// readBudgets reads the store of a server that does not run.
func readBudgets(ctx context.Context, e env, path string) (out admin.Budgets, err error) {
	c, err := loadConfig(e, path)
	if err != nil {
		return out, err
	}
	store, err := budget.OpenReadOnly(c.Store.File.Dir, budget.WithReport(func(err error) { fmt.Fprintln(e.stderr, err) }))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return out, fmt.Errorf("there is no store yet: %w (a relative store.file.dir counts from the working directory)", err)
	case errors.Is(err, budget.ErrLocked):
		return out, fmt.Errorf("the server runs; ask it with -admin instead of -config (%w)", err)
	case err != nil:
		return out, err
	}
	ledger, err := openLedger(ctx, c, store, nil, nil)
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
	fmt.Fprintln(t, "BUDGET\tSUBJECT\tUNIT\tSPENT\tHELD\tLIMIT\tREMAINING\tDEBT\tRESETS")
	for _, row := range b.Budgets {
		resets := "never"
		if row.WindowEnd != nil {
			resets = row.WindowEnd.Format(time.RFC3339) + " (in " + max(row.WindowEnd.Sub(now), 0).Round(time.Second).String() + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", printable(row.Name), subject(row.Subject), printable(row.Unit), row.Spent, row.Held, row.Limit, row.Remaining, row.Debt, resets)
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
	args:  "[-admin H:P]",
	short: "asks a running server whether it is ready, for container probes",
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		addr := fs.String("admin", defaultAdmin, "`ADDRESS` of the server's admin listener, host:port or unix:/path")
		return func(ctx context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			resp, err := adminGet(ctx, *addr, "/readyz")
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
