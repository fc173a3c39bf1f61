package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/admin"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"team=search":         "team=search",
		"user=Zoë 你好":         "user=Zoë 你好",
		"user=\x1b]0;x\a":     `user=\x1b]0;x\a`,
		"user=a\tb\r\nc":      `user=a\tb\r\nc`,
		"user=\u202eevil":     `user=\u202eevil`, // right to left from here
		"user=\u200b":         `user=\u200b`,     // no width
		"user=\xff":           `user=\xff`,
		`user="quoted"`:       `user=\"quoted\"`,
		`user=back\slash`:     `user=back\\slash`,
		"user=\u009b31m":      `user=\u009b31m`, // an escape sequence in one character
		"user=\x7f":           `user=\x7f`,
		"":                    "",
		`"`:                   `\"`,
		"user=a\U000e0041b":   `user=a\U000e0041b`, // a tag, invisible
		"user=a\u2028b":       `user=a\u2028b`,     // a line separator
		"user=ok, team=other": "user=ok, team=other",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %s, want %s", in, got, want)
		}
	}
}

// A budget with a parent shows it; without any there is no such column.
func TestUsageParent(t *testing.T) {
	b := admin.Budgets{Budgets: []admin.Budget{{Name: "org", Unit: "tokens"}, {Name: "team", Unit: "tokens", Parent: "org"}}}
	var out strings.Builder
	for _, want := range []string{
		"BUDGET SUBJECT UNIT SPENT HELD LIMIT REMAINING DEBT RESETS PARENT / org all tokens 0 0 0 0 0 never - / team all tokens 0 0 0 0 0 never org / ",
		"BUDGET SUBJECT UNIT SPENT HELD LIMIT REMAINING DEBT RESETS / org all tokens 0 0 0 0 0 never / ",
	} {
		out.Reset()
		if err := printBudgets(&out, b, false, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := regexp.MustCompile(" +").ReplaceAllString(strings.ReplaceAll(out.String(), "\n", " / "), " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.Budgets = b.Budgets[:1]
	}
}

// -watch shows the table until it is told to end, which is no failure.
func TestUsageWatch(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"budgets": [{"name": "day", "subject": {}, "unit": "tokens", "limit": 9, "window_end": null}]}`)
	}))
	defer s.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out := &stopping{stop: stop}
	var stderr strings.Builder
	if code := execute(ctx, env{stdout: out, stderr: &stderr}, []string{"usage", "-watch", "-admin", s.Listener.Addr().String()}); code != 0 {
		t.Errorf("exit code %d, want 0; %s", code, stderr.String())
	}
	if !strings.Contains(out.String(), "\nday ") || !strings.Contains(out.String(), "never\n\nBUDGET") {
		t.Errorf("printed %q", out.String())
	}
}

// stopping is a terminal at which somebody presses Ctrl-C once a second table is shown.
type stopping struct {
	strings.Builder
	stop func()
}

func (s *stopping) Write(b []byte) (int, error) {
	defer func() {
		if strings.Count(s.String(), "\nday ") == 2 {
			s.stop()
		}
	}()
	return s.Builder.Write(b)
}
