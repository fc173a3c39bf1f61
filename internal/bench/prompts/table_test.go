package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

// The ratio is the median over the rounds, not of the medians, and decides.
func TestTable(t *testing.T) {
	turns := func(rates ...float64) (all []turn) {
		for _, r := range rates {
			all = append(all, turn{rate: r, serverCPU: 150e-6, envoyCPU: math.NaN(), allCPU: 500e-6})
		}
		return all
	}
	met := result{row{name: "small", target: 0.5}, turns(1000, 2000, 4000), turns(500, 1100, 1600)}
	missed := result{row{name: "large", target: 0.6}, turns(1000, 2000, 4000), turns(500, 1100, 1600)}
	got := table(options{connections: 8, rounds: 3, turn: time.Second}, []result{met, missed})
	for _, want := range []string{
		"8 connections, 3 rounds of 1s",
		"| small | 2000 | 1100 | 0.50 (0.40–0.55) | ≥ 0.50 | met |",
		"| large | 2000 | 1100 | 0.50 (0.40–0.55) | ≥ 0.60 | missed |",
		"| 150 → 150 | – → – | 1.00 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
}
