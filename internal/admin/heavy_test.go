package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenbudget/tokenbudget/budget"
)

// TestReplyBudgets: counters written one at a time read as if they were written at once.
func TestReplyBudgets(t *testing.T) {
	all := []budget.Balance{
		{Limit: "all", Amount: 10, Spent: 12, Held: 1, WindowStart: time.Unix(0, 0)},
		{Limit: "a<b>&\"", Unit: budget.Requests, Subject: []budget.Identity{{Name: "team", Value: "\u2028\xff\x00"}, {Name: "user", Value: "(none)"}}, Amount: 5, WindowStart: time.Unix(0, 0), WindowEnd: time.Unix(60, 0)},
		{Limit: "c", Unit: budget.Streams, Amount: 1 << 60, Spent: 1 << 60},
	}
	for n := range len(all) + 1 {
		got, want := httptest.NewRecorder(), httptest.NewRecorder()
		replyBudgets(got, all[:n])
		reply(want, http.StatusOK, FromBalances(all[:n]))
		if got.Body.String() != want.Body.String() || got.Header().Get("content-type") != want.Header().Get("content-type") || got.Code != want.Code {
			t.Errorf("%d counters: %s\nwant %s", n, got.Body, want.Body)
		}
	}
}

// TestHeavy: few look at all counters at a time; the others wait, but not for ever. Health
// does not.
func TestHeavy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan struct{})
		var working atomic.Int64
		h := Handler(Options{
			Balances: func(context.Context) ([]budget.Balance, error) {
				working.Add(1)
				<-finish
				return nil, nil
			},
			Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil },
		})
		get := func(path string) <-chan int {
			done := make(chan int, 1)
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
				done <- w.Code
			}()
			return done
		}
		first := []<-chan int{get("/v1/budgets"), get("/v1/usage")}
		synctest.Wait()
		late := []<-chan int{get("/v1/budgets"), get("/v1/usage")}
		if code := <-get("/readyz"); code != http.StatusOK {
			t.Errorf("readyz: %d", code)
		}
		for _, c := range late {
			if code := <-c; code != http.StatusServiceUnavailable {
				t.Errorf("one too many: %d", code)
			}
		}
		waiting := get("/v1/budgets")
		synctest.Wait()
		if n := working.Load(); n != heavyMost {
			t.Errorf("%d at work", n)
		}
		close(finish)
		for _, c := range append(first, waiting) {
			if code := <-c; code != http.StatusOK {
				t.Errorf("one that waited: %d", code)
			}
		}
	})
}
