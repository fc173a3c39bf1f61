package main

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// linear measures texts that have no boundary, or nearly none, in two lengths: work that grows faster than the
// text shows itself in the longer one.
func linear(ctx context.Context, o options) (string, error) {
	const (
		short, long = 250 << 10, 4 << 20
		rounds      = 3
	)
	enc, err := tokens.Get("o200k_base")
	if err != nil {
		return "", err
	}
	t := newTable("text", "whole, µs a byte", "target", "", "4 MB / 250 KB", "in deltas of 4 bytes, µs a byte", "target", "", "4 MB / 250 KB")
	for _, c := range []struct{ name, of string }{
		{"a", "a"}, {"spaces", " "}, {"newlines", "\n"}, {"=", "="}, {"-", "-"}, {"qz", "qz"}, {"digits", "1234567890"},
		{"中", "中"}, {"🎉", "🎉"}, {"combining marks", "\u0301"}, {"spaces and newlines", "   \n"},
		{"tabs in spaces", "\t" + strings.Repeat(" ", 120)}, // the worst case of Count that is known
	} {
		small, large := bytes.Repeat([]byte(c.of), short/len(c.of)), bytes.Repeat([]byte(c.of), long/len(c.of))
		var whole, wholeRatio, parts, partsRatio []float64
		for range min(rounds, o.rounds) {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			a := perByte(small, enc.Count)
			b := perByte(large, enc.Count)
			whole, wholeRatio = append(whole, b), append(wholeRatio, b/a)
			stream := func(text []byte) int { return addAll(enc, text) }
			a = perByte(small, stream)
			b = perByte(large, stream)
			parts, partsRatio = append(parts, b), append(partsRatio, b/a)
		}
		w, p := quantile(whole, 0.5), quantile(parts, 0.5)
		wAim, wVerdict := atMost(w, 0.3, "")
		pAim, pVerdict := atMost(p, 1, "")
		t.row("`"+c.name+"`", number(w), wAim, wVerdict, spread(wholeRatio), number(p), pAim, pVerdict, spread(partsRatio))
		logf("%s: %s and %s µs a byte", c.name, number(w), number(p))
	}
	return "### Long runs, o200k_base\n\nTexts of one thing repeated, 4 MB. What is linear has a ratio of about 1.\n\n" + t.String(), nil
}

// perByte is the time in microseconds. A text that is done quickly is done again.
func perByte(text []byte, count func([]byte) int) float64 {
	perPass, _ := repeat(50*time.Millisecond, func() int { return count(text) })
	return float64(perPass) / 1e3 / float64(len(text))
}

func addAll(enc *tokens.Encoding, text []byte) int {
	var c tokens.Counter
	c.Reset(enc)
	for at := 0; at < len(text); at += deltaBytes {
		c.Add(text[at:min(at+deltaBytes, len(text))])
	}
	return c.Count()
}
