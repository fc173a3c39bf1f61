package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/doctor"
)

// doctorTimeout bounds all that is asked.
const doctorTimeout = 30 * time.Second

var doctorCommand = command{
	name:  "doctor",
	args:  "-envoy ADDRESS [-config FILE] [-admin ADDRESS] [flags]",
	short: "finds what in a running Envoy prevents metering or cutting",
	long: `It asks Envoy's admin interface (/config_dump, /server_info, /stats), and changes nothing.
-config is the server's file: what it asks of Envoy (body limit, throttling, headers
that only Envoy sets) is compared, too; without it, the defaults are. With -admin the
server is asked as well whether it is ready, and what it is short of.
The exit code is 0 if nothing is wrong, and 1 with findings.

In Kubernetes, forward Envoy's admin port first:
  kubectl -n llm port-forward deploy/llm-gateway 15000      (Istio)
  kubectl -n envoy-gateway-system port-forward deploy/NAME 19000

` + adminHelp,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		admins := newAdminFlags(fs, "none: the server is not asked")
		path := fs.String("config", "", "the server's configuration `FILE`")
		address := fs.String("envoy", "", "`ADDRESS` of Envoy's admin interface: host:port or unix:/path")
		asJSON := fs.Bool("json", false, "print JSON: {\"findings\": [{rule, where, what, fix}]}")
		var o doctor.Options
		fs.StringVar(&o.Cluster, "cluster", "", "`NAME` of the server's cluster, if nothing in Envoy's configuration is named tokenbudget")
		fs.BoolVar(&o.FailOpen, "fail-open", false, "it is meant so that requests pass unmetered while the server is away")
		return func(ctx context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			if *address == "" {
				return usagef("-envoy is missing: the address of Envoy's admin interface, such as 127.0.0.1:9901")
			}
			if err := expect(&o, e, *path); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
			defer cancel()
			findings, err := askEnvoy(ctx, *address, o)
			if err != nil {
				return err
			}
			if admins.addr != "" {
				more, err := askServer(ctx, admins)
				if err != nil {
					return err
				}
				findings = append(findings, more...)
			}
			return printFindings(e.stdout, findings, *asJSON)
		}
	},
}

// expect says what the server's configuration asks of Envoy; of the defaults if there is none.
func expect(o *doctor.Options, e env, path string) error {
	want := envoy.Options{}
	if path != "" {
		c, err := loadRemote(e, path)
		if err != nil {
			return err
		}
		agree(&want, c)
	}
	want = want.WithDefaults()
	o.MaxRequestBody, o.MessageTimeout = int64(want.MaxRequestBody), want.MessageTimeout
	o.MaxMessageTimeout, o.StripHeaders = want.MaxMessageTimeout, want.StripHeaders
	return nil
}

// askEnvoy examines a running Envoy.
func askEnvoy(ctx context.Context, address string, o doctor.Options) ([]doctor.Finding, error) {
	client := &adminClient{addr: strings.TrimPrefix(address, "http://")}
	if err := client.check("-envoy " + quoted(address)); err != nil {
		return nil, err
	}
	ask := func(path string) ([]byte, error) {
		resp, err := client.get(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("no Envoy answers at %s: %w (is it running, and is this its admin interface?)", address, errors.Unwrap(err))
		}
		return readAnswer(resp, "Envoy", path)
	}
	info, err := ask("/server_info")
	if err != nil {
		return nil, err
	}
	findings, err := doctor.Version(info)
	if err != nil {
		return nil, err
	}
	raw, err := ask("/config_dump")
	if err != nil {
		return nil, err
	}
	dump, err := doctor.Parse(raw)
	if err != nil {
		return nil, err
	}
	findings = append(findings, doctor.Examine(dump, o)...)
	if raw, err = ask("/stats?format=json&filter=" + url.QueryEscape(doctor.StatsFilter)); err != nil {
		return nil, err
	}
	more, err := doctor.Stats(raw, o.FailOpen)
	return append(findings, more...), err
}

// readAnswer reads the body of a 200, within bounds.
func readAnswer(resp *http.Response, who, path string) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, doctor.MaxDump+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s breaks off its answer to %s: %w", who, path, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s with %s; is this its admin interface?", who, path, resp.Status)
	case len(body) > doctor.MaxDump:
		return nil, fmt.Errorf("%s's answer to %s exceeds %d bytes", who, path, doctor.MaxDump)
	}
	return body, nil
}

// askServer examines the server: is it ready, and what does it say besides?
func askServer(ctx context.Context, admins *adminFlags) ([]doctor.Finding, error) {
	client, err := admins.client()
	if err != nil {
		return nil, err
	}
	client.token = "" // health is free
	where := "server " + cmp.Or(admins.addr, defaultAdmin)
	resp, err := client.get(ctx, "/readyz")
	if err != nil {
		return []doctor.Finding{{Rule: "server-away", Where: where, What: err.Error(), Fix: "start it, or mend -admin"}}, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil {
		return nil, fmt.Errorf("the server breaks off its answer to /readyz: %w", err)
	}
	var findings []doctor.Finding
	switch resp.StatusCode {
	case http.StatusOK: // "ready", and a line for each warning
		for line := range strings.Lines(string(body)) {
			if line = strings.TrimSpace(line); line != "ready" && line != "" {
				findings = append(findings, doctor.Finding{Rule: "server-warns", Where: where, What: line, Fix: "docs/envoy.md, Other modes"})
			}
		}
	case http.StatusServiceUnavailable:
		findings = append(findings, doctor.Finding{Rule: "server-not-ready", Where: where, What: string(bytes.TrimSpace(body)), Fix: "the server's log tells more"})
	default:
		return nil, fmt.Errorf("-admin: %s answers /readyz with %s; is this the server's listen.admin?", cmp.Or(admins.addr, defaultAdmin), resp.Status)
	}
	return findings, nil
}

// printFindings prints what is wrong; the error makes the exit code 1.
func printFindings(w io.Writer, findings []doctor.Finding, asJSON bool) (err error) {
	switch {
	case asJSON:
		if findings == nil {
			findings = []doctor.Finding{}
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		err = enc.Encode(map[string]any{"findings": findings})
	case len(findings) == 0:
		_, err = fmt.Fprintln(w, "nothing found that prevents metering or cutting")
	default:
		for _, f := range findings {
			if _, err = fmt.Fprintf(w, "%s: %s\n  %s\n  mend: %s\n", f.Rule, f.Where, f.What, f.Fix); err != nil {
				break
			}
		}
	}
	if err == nil && len(findings) > 0 {
		err = errSilent
	}
	return err
}
