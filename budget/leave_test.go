package budget

import "testing"

// TestLeaveStreams: a request that is over has its place given back, and everything else stays
// held until it is settled, once.
func TestLeaveStreams(t *testing.T) {
	l := open(t, Options{Now: newClock().now, Limits: []Limit{
		{Name: "day", Amount: 1000, Period: Day},
		{Name: "streams", Unit: Streams, Amount: 1},
		{Name: "requests", Unit: Requests, Amount: 10, Period: Day},
		{Name: "mine", Unit: Streams, Amount: 1, Per: []string{"user"}},
	}})
	a := reserve(t, l, ask(10, 5, "user", "ann"))
	refused(t, l, ask(10, 5, "user", "ann"))
	a.LeaveStreams()
	a.LeaveStreams()
	b := reserve(t, l, ask(10, 5, "user", "ann"))
	check := func(when string, want map[string][2]int64) {
		t.Helper()
		got := make(map[string][2]int64)
		for _, b := range balances(t, l) {
			got[b.Limit] = [2]int64{b.Spent, b.Held}
		}
		for name, want := range want {
			if got[name] != want {
				t.Errorf("%s: %s has %v spent and held, want %v", when, name, got[name], want)
			}
		}
	}
	check("two are admitted", map[string][2]int64{"day": {0, 30}, "streams": {0, 1}, "mine": {0, 1}, "requests": {0, 2}})
	if !a.Settle(Amount{10, 7}) || a.SettleHold() {
		t.Error("a reservation that has left its place is not settled once")
	}
	check("the first is settled", map[string][2]int64{"day": {17, 15}, "streams": {0, 1}, "mine": {0, 1}, "requests": {1, 1}})
	b.Settle(Amount{})
	b.LeaveStreams()
	check("both are", map[string][2]int64{"day": {17, 0}, "streams": {0, 0}, "mine": {0, 0}, "requests": {2, 0}})
	syncNow(t, l)
	if n := inMemory(l); n != 2 { // without a store the counters of the day stay
		t.Errorf("%d counters are in memory, want 2", n)
	}
}
