package dialect

import "slices"

// edit replaces body[start:end].
type edit struct {
	start, end int
	with       string
}

// applyEdits returns body with edits made, in a new slice. They must not overlap.
func applyEdits(body []byte, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return a.start - b.start })
	size := len(body)
	for _, e := range edits {
		size += len(e.with) - (e.end - e.start)
	}
	out := make([]byte, 0, size)
	at := 0
	for _, e := range edits {
		out = append(out, body[at:e.start]...)
		out = append(out, e.with...)
		at = e.end
	}
	return append(out, body[at:]...)
}
