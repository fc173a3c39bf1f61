package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// other is a product of others, beside which tokenbudget can be measured.
type other struct {
	word    string // for the command line
	name    string // in the tables
	install func(context.Context, *binaries) error
}

var allOthers = []other{
	{"litellm", liteLLM, func(ctx context.Context, b *binaries) (err error) {
		b.python, err = stage.InstallLiteLLM(ctx)
		return err
	}},
	{"ratelimit", rateLimit, func(ctx context.Context, b *binaries) (err error) {
		b.rateLimit, err = stage.InstallRateLimit(ctx)
		return err
	}},
}

// parseWith reads which others are wanted: words, separated by commas. Nothing is none.
func parseWith(list string) (wanted []other, err error) {
	if list == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(allOthers, func(o other) bool { return o.word == strings.TrimSpace(word) })
		if i < 0 {
			var words []string
			for _, o := range allOthers {
				words = append(words, o.word)
			}
			return nil, fmt.Errorf("-with %q: what can be measured beside tokenbudget is %s", word, strings.Join(words, ", "))
		}
		if !slices.ContainsFunc(wanted, func(o other) bool { return o.word == allOthers[i].word }) {
			wanted = append(wanted, allOthers[i])
		}
	}
	return wanted, nil
}

// measures reports whether a side is measured in a cell.
func (c cell) measures(name string) bool {
	switch name {
	case direct: // clients speak HTTP/1.1
		return !c.http2
	case liteLLM: // so does it, to the upstream
		return c.light() && !c.http2
	case rateLimit:
		return c.light()
	}
	return true
}

// others adds the products of others that are wanted beside ours, if they can be installed.
func (r *report) others(ctx context.Context, b *binaries) error {
	wanted, err := parseWith(r.opts.with)
	if err != nil {
		return err
	}
	for _, o := range wanted {
		if !slices.ContainsFunc(cells(), func(c cell) bool { return c.measures(o.name) && r.opts.wants(c.String()) }) {
			continue
		}
		progress(fmt.Sprintf("installing %s, if it has not been", o.name))
		if err := o.install(ctx, b); err != nil {
			r.skipped = append(r.skipped, o.name)
			fmt.Fprintf(os.Stderr, "\n%s is left out: %v\n", o.name, err)
			continue
		}
		r.names = append(r.names, o.name)
	}
	return nil
}
