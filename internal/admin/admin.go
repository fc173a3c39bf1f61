// Package admin is the HTTP side of a running server: health, metrics, who has spent,
// holds and has left what, and other amounts for budgets.
//
//	GET /healthz     200 while the process lives
//	GET /readyz      200 while the server takes exchanges, else 503
//	GET /metrics     Prometheus
//	GET /v1/budgets  every counter of the windows that are running, as [Budgets]
//	GET /v1/usage    the same summed up; ?by=team by the values of one identity, as [Usage]
//	GET /v1/models   what was learned of models without a public tokenizer, as [Models]
//
//	GET    /v1/overrides           amounts that stand above the file's, as [OverrideList]
//	PUT    /v1/overrides/{budget}  sets one, for a subject or the whole budget
//	DELETE /v1/overrides/{budget}  returns to the file's
//
// Requests that look at every counter are answered two at a time; the others wait, for ten
// seconds at most.
//
// It shows no prompts, answers or keys, but it does show who uses how much. With
// [Access.Guarded] all but the health paths ask for a proof: a client certificate that
// the listener has verified, or a token. Who wants to change something always needs one.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/count"
)

// Budgets is the body of GET /v1/budgets.
type Budgets struct {
	Budgets []Budget `json:"budgets"`
}

// Budget is one counter. All numbers are in its unit; Remaining may still be
// reserved by a new request, Debt is how far Spent exceeds Limit.
type Budget struct {
	Name        string            `json:"name"`
	Subject     map[string]string `json:"subject"`
	Unit        string            `json:"unit"`
	WindowStart time.Time         `json:"window_start"`
	WindowEnd   *time.Time        `json:"window_end"` // null for a period that never ends
	Limit       int64             `json:"limit"`
	Spent       int64             `json:"spent"`
	Held        int64             `json:"held"`
	Debt        int64             `json:"debt"`
	Remaining   int64             `json:"remaining"`
	Parent      string            `json:"parent,omitempty"` // name of the budget of which it has a share
}

// Usage is the body of GET /v1/usage.
type Usage struct {
	By    string       `json:"by,omitempty"`
	Usage []UsageEntry `json:"usage"`
}

// UsageEntry is the use of one budget by one value of an identity, or by all.
type UsageEntry struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Unit  string `json:"unit"`
	Spent int64  `json:"spent"`
	Held  int64  `json:"held"`
}

// Models is the body of GET /v1/models.
type Models struct {
	Models []count.Learned `json:"models"`
}

// FromBalances puts balances in the form in which they are shown.
func FromBalances(balances []budget.Balance) Budgets {
	out := Budgets{Budgets: make([]Budget, 0, len(balances))}
	for _, b := range balances {
		out.Budgets = append(out.Budgets, newBudget(b))
	}
	return out
}

func newBudget(b budget.Balance) Budget {
	row := Budget{
		Name: b.Limit, Subject: make(map[string]string, len(b.Subject)), Unit: b.Unit.String(),
		WindowStart: b.WindowStart.UTC(), Limit: b.Amount, Spent: b.Spent, Held: b.Held,
		Debt: b.Debt(), Remaining: b.Remaining(), Parent: b.Parent,
	}
	for _, id := range b.Subject {
		row.Subject[id.Name] = id.Value
	}
	if !b.WindowEnd.IsZero() {
		end := b.WindowEnd.UTC()
		row.WindowEnd = &end
	}
	return row
}

// sum adds up counters by the values of one identity; counters that are not
// counted per that identity are left out. With by empty, each budget is summed up
// as a whole.
func sum(balances []budget.Balance, by string) Usage {
	type key struct{ name, unit, value string }
	total := make(map[key]UsageEntry)
	for _, b := range balances {
		k := key{name: b.Limit, unit: b.Unit.String()}
		if by != "" {
			i := slices.IndexFunc(b.Subject, func(id budget.Identity) bool { return id.Name == by })
			if i < 0 {
				continue
			}
			k.value = b.Subject[i].Value
		}
		e := total[k]
		e.Name, e.Unit, e.Value = k.name, k.unit, k.value
		e.Spent += b.Spent
		e.Held += b.Held
		total[k] = e
	}
	out := Usage{By: by, Usage: make([]UsageEntry, 0, len(total))}
	for _, e := range total {
		out.Usage = append(out.Usage, e)
	}
	slices.SortFunc(out.Usage, func(a, b UsageEntry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Value, b.Value))
	})
	return out
}

// Options are what the handler shows.
type Options struct {
	Balances   func(context.Context) ([]budget.Balance, error) // required
	Gatherer   prometheus.Gatherer                             // required
	Ready      func() error                                    // required; nil means ready
	Notes      func() []string                                 // what /readyz says besides; for everybody; may be nil
	Identities func() []string                                 // known names, for ?by=; nil for none
	Models     func() []count.Learned                          // nil if nothing is learned
	Overrides  Overrides                                       // nil if nothing can be changed
	Access     func() Access                                   // asked for each request; nil for the zero value
}

// Handler returns the handler of all paths.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
		if o.Notes != nil {
			for _, note := range o.Notes() {
				fmt.Fprintln(w, note)
			}
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	few := heavy()
	mux.HandleFunc("GET /v1/budgets", few(func(w http.ResponseWriter, r *http.Request) {
		if balances, ok := o.balances(w, r); ok {
			replyBudgets(w, balances)
		}
	}))
	mux.HandleFunc("GET /v1/usage", few(func(w http.ResponseWriter, r *http.Request) {
		by := r.URL.Query().Get("by")
		var known []string
		if o.Identities != nil {
			known = o.Identities()
		}
		if by != "" && !slices.Contains(known, by) {
			reply(w, http.StatusBadRequest, failure(fmt.Sprintf("by=%q is no identity; known are %q", by, known)))
			return
		}
		if balances, ok := o.balances(w, r); ok {
			reply(w, http.StatusOK, sum(balances, by))
		}
	}))
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		models := Models{[]count.Learned{}}
		if o.Models != nil {
			models.Models = o.Models()
		}
		reply(w, http.StatusOK, models)
	})
	if o.Overrides != nil {
		o.handleOverrides(mux)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "tokenbudget\n\n/healthz\n/readyz\n/metrics\n/v1/budgets\n/v1/usage?by=IDENTITY\n/v1/models\n/v1/overrides\n")
	})
	return o.guard(mux)
}

func (o Options) balances(w http.ResponseWriter, r *http.Request) ([]budget.Balance, bool) {
	balances, err := o.Balances(r.Context())
	if err != nil {
		reply(w, http.StatusServiceUnavailable, failure("the budget's store cannot be read: "+err.Error()))
		return nil, false
	}
	return balances, true
}

func failure(message string) map[string]string { return map[string]string{"error": message} }

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// The client may have gone; there is nobody left to tell.
	_ = enc.Encode(body)
}

// grace is how long requests under way may take once Serve's context has ended.
const grace = 2 * time.Second

// Serve answers on lis until ctx ends; requests under way are then finished, or cut
// off soon. Nothing of it goes on when it returns. It owns lis. errorLog gets
// what goes wrong with single connections, such as TLS handshakes.
func Serve(ctx context.Context, lis net.Listener, h http.Handler, errorLog *log.Logger) error {
	s := &http.Server{
		Handler: h, ErrorLog: errorLog,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if s.Shutdown(patient) != nil {
			_ = s.Close() // who is still connected is cut off
		}
	})
	err := s.Serve(lis)
	if stop() {
		return errors.Join(err, s.Close()) // the listener has failed
	}
	<-closed // http.Server.Serve does not wait for Shutdown
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
