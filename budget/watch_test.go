package budget

import (
	"fmt"
	"testing"
)

// TestWatchedRequest: a request that nothing can be done about is charged on every limit
// that concerns it, whatever these have left; they note what they would have done. Other
// requests are decided as ever, and see what it holds.
func TestWatchedRequest(t *testing.T) {
	rolling, err := ParsePeriod("24h")
	if err != nil {
		t.Fatal(err)
	}
	limits := []Limit{
		{Name: "tokens", Amount: 100, Period: Day},
		{Name: "requests", Unit: Requests, Amount: 1, Period: Day},
		{Name: "streams", Unit: Streams, Amount: 1},
		{Name: "rolling", Amount: 100, Period: rolling},
		{Name: "size", Unit: InputTokens, Amount: 10, PerRequest: true},
	}
	l := open(t, Options{Limits: limits, GrowthStep: 1})
	watched := ask(40, 10)
	watched.Watch = true
	var open []*Reservation
	for range 3 {
		r := reserve(t, l, watched)
		if d, ok := r.Spend(60); !ok {
			t.Fatalf("cut by %+v", d)
		}
		open = append(open, r)
	}
	if got := fmt.Sprint(open[0].Shadows(60)); got != "[{tokens cut} {rolling cut} {size denied}]" {
		t.Errorf("the first would have been %s", got)
	}
	for _, r := range open[1:] {
		if got := fmt.Sprint(r.Shadows(60)); got != "[{tokens denied} {requests denied} {streams denied} {rolling denied} {size denied}]" {
			t.Errorf("another would have been %s", got)
		}
	}
	if d := refused(t, l, ask(5, 1)); d.Limit == "" {
		t.Errorf("the next is refused by %+v", d)
	}
	for _, r := range open {
		r.Settle(Amount{Input: 40, Output: 60})
	}
	for _, b := range balances(t, l) {
		want := map[string]int64{"tokens": 300, "rolling": 300, "requests": 3}[b.Limit]
		if b.Spent != want || b.Held != 0 {
			t.Errorf("%s: spent %d, held %d; want %d, 0", b.Limit, b.Spent, b.Held, want)
		}
	}
}
