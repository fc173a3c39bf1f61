package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// others adds the products of others that are wanted beside ours, if they can be installed.
func (r *report) others(ctx context.Context, b *binaries) error {
	for name := range strings.SplitSeq(r.opts.with, ",") {
		switch name {
		case "":
		case "litellm":
			if !slices.ContainsFunc(cells(), func(c cell) bool { return c.light() && r.opts.wants(c.String()) }) {
				continue
			}
			progress("installing LiteLLM, if it has not been")
			python, err := stage.InstallLiteLLM(ctx)
			if err != nil {
				r.skipped = append(r.skipped, liteLLM)
				fmt.Fprintf(os.Stderr, "\nLiteLLM is left out: %v\n", err)
				continue
			}
			b.python = python
			r.names = append(r.names, liteLLM)
		default:
			return fmt.Errorf("-with %q: what can be measured beside tokenbudget is litellm", name)
		}
	}
	return nil
}
