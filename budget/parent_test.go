package budget

import "testing"

// A balance names the parent, from memory as from the store.
func TestParentReported(t *testing.T) {
	l := open(t, Options{Store: newMemStore(), Limits: []Limit{
		{Name: "org", Amount: 100, Period: Day},
		{Name: "team", Amount: 10, Period: Day, Per: []string{"team"}, Parent: "org"},
	}})
	reserve(t, l, ask(1, 1, "team", "a")).SettleHold()
	for _, where := range []string{"memory", "the store"} {
		if b := balances(t, l); len(b) != 2 || b[0].Parent != "" || b[1].Parent != "org" {
			t.Errorf("in %s: %+v", where, b)
		}
		syncNow(t, l)
	}
}
