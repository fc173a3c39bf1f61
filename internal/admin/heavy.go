package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

// An answer that looks at every counter takes some hundred bytes for each while it is
// made, and there may be a million of them. So few are made at a time; who has waited
// for heavyWait gets a 503.
const (
	heavyMost = 2
	heavyWait = 10 * time.Second
)

// heavy returns what makes a handler wait until fewer than heavyMost of them are at work.
func heavy() func(http.HandlerFunc) http.HandlerFunc {
	working := make(chan struct{}, heavyMost)
	return func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			wait := time.NewTimer(heavyWait)
			defer wait.Stop()
			select {
			case working <- struct{}{}:
				defer func() { <-working }()
				h(w, r)
			case <-r.Context().Done(): // there is nobody left to tell
			case <-wait.C:
				w.Header().Set("Retry-After", "10")
				reply(w, http.StatusServiceUnavailable, failure("others are looking at all counters; ask again later, and less often"))
			}
		}
	}
}

// replyBudgets writes what reply would of FromBalances(balances), one counter at a time.
func replyBudgets(w http.ResponseWriter, balances []budget.Balance) {
	w.Header().Set("content-type", "application/json")
	// The client may have gone; there is nobody left to tell. The first error stays.
	b := bufio.NewWriterSize(w, 1<<16)
	_, _ = b.WriteString("{\n  \"budgets\": [")
	for i, balance := range balances {
		row, err := json.MarshalIndent(newBudget(balance), "    ", "  ")
		if err != nil { // of a year with five digits, say; what is there already cannot be read
			return
		}
		if i > 0 {
			_ = b.WriteByte(',')
		}
		_, _ = b.WriteString("\n    ")
		if _, err := b.Write(row); err != nil {
			return
		}
	}
	if len(balances) > 0 {
		_, _ = b.WriteString("\n  ")
	}
	_, _ = b.WriteString("]\n}\n")
	_ = b.Flush()
}
