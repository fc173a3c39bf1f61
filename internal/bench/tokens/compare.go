package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/campaign"
	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

// runCampaign compares internal/tokens with its reference on all there is, and writes the result into
// docs/testing.md. A difference is an error.
func runCampaign(ctx context.Context, seed uint64) error {
	begin := time.Now()
	prepare := reference(ctx)
	ref, err := prepare()
	if err != nil {
		return err
	}
	texts, err := loadTexts(ctx, prepare)
	if err != nil {
		return err
	}
	vectors, err := campaign.ReadVectors(filepath.Join("internal", "tokens", "testdata", "vectors.jsonl.gz"))
	if err != nil {
		return err
	}
	o := campaign.Options{
		Seed: seed, Vectors: vectors, CodePoints: 1, Fuzz: 3_000_000, SplitTexts: 10_000, SplitBytes: 30_000_000,
		Real: vectors, Log: logf,
	}
	for _, t := range texts {
		o.Real = append(o.Real, t.data)
	}
	results, err := campaign.Run(ctx, ref, campaign.Engines, o)
	if err != nil {
		return err
	}
	table := newTable("stage", "checked, each in both encodings", "differences", "s")
	var differences int64
	for _, r := range results {
		differences += r.Differences
		table.row(r.Stage, fmt.Sprintf("%s %s", number(float64(r.Checked)), r.What), fmt.Sprint(r.Differences), fmt.Sprintf("%.0f", r.Took.Seconds()))
	}
	content := fmt.Sprintf("tiktoken %s, seed %d, %d processors, %s, %.0f s in all.\n\n%s",
		python.Version, seed, runtime.NumCPU(), runtime.Version(), time.Since(begin).Seconds(), table)
	fmt.Println(content)
	if differences > 0 {
		return errors.New(strings.TrimSpace(fmt.Sprintf("%d differences; the lines above have examples. Again with -seed %d", differences, seed)))
	}
	return bench.WriteSection(filepath.Join("docs", "testing.md"), "campaign-tokens", content)
}
