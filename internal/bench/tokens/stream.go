package main

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

const (
	deltaBytes  = 4
	batchDeltas = 64  // are measured together, since to read the clock takes as long as one
	answer      = 500 // tokens: what is encoded again after a delta by who cannot stream
)

// streaming measures a text that arrives in deltas of four bytes, beside encoding all so far again.
func streaming(ctx context.Context, o options, texts []*text) (string, error) {
	enc, err := tokens.Get("o200k_base")
	if err != nil {
		return "", err
	}
	reference, err := newTiktokenGo().encoder("o200k_base")
	if err != nil {
		return "", err
	}
	t := newTable("text", "what", "figure", "target", "")
	for _, text := range texts {
		target, ok := map[string]float64{"prose": 250, "CJK": 1000}[text.name]
		if !ok {
			continue
		}
		data := text.data[:min(len(text.data), 512<<10)]
		short := string(firstTokens(enc, data, answer))
		var perDelta, medians, again, ratios []float64
		allocs := uint64(math.MaxUint64) // the least of the rounds: what the runtime does beside adds some now and then
		for range o.rounds {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			perPass, _ := repeat(o.turn, func() int { return len(reference.EncodeOrdinary(short)) })
			again = append(again, float64(perPass))
			runtime.GC()
			times, n := streamOnce(enc, data)
			allocs = min(allocs, n)
			perDelta = append(perDelta, times...)
			medians = append(medians, quantile(times, 0.5))
			ratios = append(ratios, again[len(again)-1]/medians[len(medians)-1])
		}
		median := quantile(medians, 0.5)
		aim, verdict := atMost(median, target, " ns")
		t.row(text.name, "a delta of 4 bytes, median", spread(medians)+" ns", aim, verdict)
		t.row(text.name, fmt.Sprintf("the same, 99th percentile of batches of %d", batchDeltas), number(quantile(perDelta, 0.99))+" ns", "", "")
		aim, verdict = atMost(float64(allocs), 0, "")
		t.row(text.name, "allocations", fmt.Sprint(allocs), aim, verdict)
		t.row(text.name, fmt.Sprintf("tiktoken-go encodes %d tokens again", answer), number(quantile(again, 0.5)/1e3)+" µs", "", "")
		aim, verdict = atLeast(quantile(ratios, 0.5), 2000)
		t.row(text.name, "times as much as a delta", spread(ratios), aim, verdict)
	}
	return "### Streaming, o200k_base\n\nThe total is exact after every delta.\n\n" + t.String(), nil
}

// firstTokens is about the first n tokens of a text.
func firstTokens(enc *tokens.Encoding, text []byte, n int) []byte {
	var c tokens.Counter
	c.Reset(enc)
	for at := range text {
		if c.Add(text[at:at+1]) > n {
			return text[:at]
		}
	}
	return text
}

// streamOnce streams a text and returns the time of a delta, in nanoseconds, for each batch, and the number of
// allocations.
func streamOnce(enc *tokens.Encoding, text []byte) (times []float64, allocs uint64) {
	times = make([]float64, 0, len(text)/(deltaBytes*batchDeltas))
	var c tokens.Counter
	c.Reset(enc)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for at := 0; at+deltaBytes*batchDeltas <= len(text); {
		begin := bench.Clock()
		for range batchDeltas {
			c.Add(text[at : at+deltaBytes])
			at += deltaBytes
		}
		times = append(times, float64(bench.Clock()-begin)/batchDeltas)
	}
	runtime.ReadMemStats(&after)
	return times, after.Mallocs - before.Mallocs
}
