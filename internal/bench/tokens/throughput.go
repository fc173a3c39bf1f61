package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

// throughput measures how fast whole texts are counted.
func throughput(ctx context.Context, o options, ref func() (*python.Reference, error), texts []*text) (string, error) {
	all, missing := startCandidates(ctx, ref)
	defer closeAll(all)
	var doc strings.Builder
	doc.WriteString(missing)
	for _, encoding := range []string{"o200k_base", "cl100k_base"} {
		if encoding == "cl100k_base" {
			o.rounds = min(o.rounds, 3) // the older encoding, without targets
		}
		part, err := compareSpeed(ctx, o, all, encoding, texts)
		if err != nil {
			return "", err
		}
		doc.WriteString(part)
	}
	return strings.TrimSuffix(doc.String(), "\n"), nil
}

// compareSpeed is the section of one encoding.
func compareSpeed(ctx context.Context, o options, all []contestant, encoding string, texts []*text) (string, error) {
	t := newTable("text", "tokens", "ours, MB/s", "other", "MB/s", "ratio", "target", "")
	var disagree []string
	for _, text := range texts {
		times, counts, err := race(ctx, o, all, encoding, text)
		if err != nil {
			return "", err
		}
		speed := func(i int) string { return number(float64(len(text.data)) / quantile(times[i], 0.5) * 1e3) }
		for i, c := range all {
			if counts[i] != counts[0] {
				disagree = append(disagree, fmt.Sprintf("%s says %d tokens for %s, ours says %d", c.name, counts[i], text.name, counts[0]))
			}
			if i == 0 {
				continue
			}
			ratios := make([]float64, o.rounds)
			for r := range ratios {
				ratios[r] = times[i][r] / times[0][r]
			}
			aim, verdict := "", ""
			// The targets are for o200k_base.
			if target := c.target[text.name]; target > 0 && encoding == "o200k_base" {
				aim, verdict = atLeast(quantile(ratios, 0.5), target)
			}
			t.row(text.name, number(float64(counts[0])), speed(0), c.name, speed(i), spread(ratios), aim, verdict)
		}
		logf("%s, %s: ours %s MB/s", encoding, text.name, speed(0))
	}
	agreement := "All agree on all numbers of tokens."
	if len(disagree) > 0 {
		agreement = "**The numbers of tokens differ**: " + strings.Join(disagree, "; ") + "."
	}
	return fmt.Sprintf("### Throughput, %s\n\nA ratio is how many times as fast as the other ours is: the median of the rounds (the smallest – the largest).\n\n%s\n%s\n\n",
		encoding, t, agreement), nil
}

// race gives each candidate a turn a round, after one that does not count. The times are nanoseconds a pass, by
// candidate and round; they are in the order of the rounds.
func race(ctx context.Context, o options, all []contestant, encoding string, t *text) (times [][]float64, counts []int, err error) {
	times, counts = make([][]float64, len(all)), make([]int, len(all))
	for round := -1; round < o.rounds; round++ {
		for i, c := range all {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			least := o.turn
			if round < 0 {
				least = time.Millisecond
			}
			perPass, n, err := c.turn(encoding, t, least)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", c.name, err)
			}
			counts[i] = n
			if round >= 0 {
				times[i] = append(times[i], float64(perPass))
			}
		}
	}
	return times, counts, nil
}
