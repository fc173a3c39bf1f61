package certs_test

import (
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/certs"
)

// A flood is told once a minute, and nothing of it is forgotten.
func TestRefusals(t *testing.T) {
	var r certs.Refusals
	now := time.Now()
	var told []int64
	for range 150 { // one a second
		if n, ok := r.Tell(now); ok {
			told = append(told, n)
		}
		now = now.Add(time.Second)
	}
	if len(told) != 3 || told[0] != 1 || told[1] != 60 || told[2] != 60 {
		t.Errorf("told %v, want 1, 60 and 60", told)
	}
}
