package budget

import "testing"

// TestSameHash: rows whose keys have the same hash are kept apart.
func TestSameHash(t *testing.T) {
	table := newTable(10, func(*rule) bool { return true })
	r := &rule{Limit: Limit{Amount: 10, MaxSubjects: 10}, windows: new(windows)}
	s := newSpan(Total.Window(noon, nil))
	s.prefix = r.keyPrefix(s)
	const hash = 7
	var rows [4]*row
	for i := range rows {
		w, err := newRow(r, s, s.prefix+"user="+string(rune('a'+i)), hash, true)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time it is there
			if err := table.insert(w); err != nil {
				t.Fatal(err)
			}
		}
		rows[i] = w
	}
	check := func(there ...bool) {
		t.Helper()
		n := int64(0)
		for i, want := range there {
			present, _ := table.look(hash, rows[i].key)
			w := table.pin(hash, s, []byte(rows[i].encoded))
			if present != want || (w != nil) != want || want && w != rows[i] {
				t.Errorf("row %d: present %v, pinned %p, want %p and %v", i, present, w, rows[i], want)
			}
			if want {
				w.unpin()
				n++
			}
		}
		seen := int64(0)
		table.each(func(*row) { seen++ })
		if table.count.Load() != n || seen != n {
			t.Errorf("%d rows, %d seen, want %d", table.count.Load(), seen, n)
		}
	}
	check(true, true, true, true)
	rows[1].granted.Store(true)
	rows[3].pins.Add(1)
	table.evict(noon, func(*row, uint64) { t.Error("a row that only memory has is kept elsewhere") })
	check(false, true, false, true)
	rows[3].pins.Add(-1)
	table.evict(noon, nil)
	check(false, true, false, false)
	other := newSpan(Total.Window(noon, nil))
	for name, key := range map[string]struct {
		window  *span
		subject string
	}{"another subject": {s, "another"}, "another window": {other, rows[1].encoded}} {
		if got := table.pin(hash, key.window, []byte(key.subject)); got != nil {
			t.Errorf("%s: pinned %+v", name, got)
		}
	}
	other.prefix = s.prefix // of an earlier rule
	if got := table.pin(hash, other, []byte(rows[1].encoded)); got != rows[1] {
		t.Errorf("pinned %p, want %p", got, rows[1])
	}
}
