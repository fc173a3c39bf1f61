package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/pkoukk/tiktoken-go"
	loader "github.com/pkoukk/tiktoken-go-loader"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// A candidate counts tokens.
type candidate interface {
	// turn counts the tokens of a text again and again, for at least that time, and returns the time of a pass.
	turn(encoding string, t *text, least time.Duration) (perPass time.Duration, tokens int, err error)
	close() error
}

// A contestant is a candidate with the names and the targets that the tables have.
type contestant struct {
	name   string // with the version
	target map[string]float64
	candidate
}

// targets are how many times as fast as it ours must be, by text.
func targets(easy, hard float64) map[string]float64 {
	return map[string]float64{"prose": easy, "code": easy, "JSON": easy, "CJK": hard, "multilingual": hard, "base64": hard}
}

// startCandidates starts ours and all others there are: ours is the first. Missing says, in Markdown, who is
// not there and why.
func startCandidates(ctx context.Context, ref func() (*python.Reference, error)) (all []contestant, missing string) {
	all = []contestant{
		{name: "ours", candidate: ours{}},
		{name: "tiktoken-go", target: targets(12, 7), candidate: newTiktokenGo()},
	}
	add := func(c contestant, err error) {
		if err == nil {
			all = append(all, c)
			return
		}
		logf("SKIPPED: %s: %v", c.name, err)
		reason, _, _ := strings.Cut(err.Error(), "\n")
		missing += fmt.Sprintf("**%s was skipped**: %s.\n\n", c.name, reason)
	}
	c, err := startPython(ctx, ref)
	add(contestant{name: "Python tiktoken", target: targets(2, 2), candidate: c}, err)
	r, err := startRust(ctx)
	add(contestant{name: "bpe-openai (Rust)", target: targets(1, 1), candidate: voice{helper: r, name: "bpe-openai"}}, err)
	add(contestant{name: "tiktoken-rs", candidate: voice{helper: r, name: "tiktoken-rs", keeps: true}}, err)
	return all, missing
}

func closeAll(all []contestant) {
	for _, c := range all {
		if err := c.close(); err != nil {
			logf("%s: %v", c.name, err)
		}
	}
}

// repeat is a turn of a candidate which is in this process.
func repeat(least time.Duration, count func() int) (time.Duration, int) {
	runtime.GC() // what the one before has left is not ours to clear away
	begin := bench.Clock()
	for passes := time.Duration(1); ; passes++ {
		n := count()
		if spent := bench.Clock() - begin; spent >= least {
			return spent / passes, n
		}
	}
}

type ours struct{}

func (ours) close() error { return nil }

func (ours) turn(encoding string, t *text, least time.Duration) (time.Duration, int, error) {
	enc, err := tokens.Get(encoding)
	if err != nil {
		return 0, 0, err
	}
	perPass, n := repeat(least, func() int { return enc.Count(t.data) })
	return perPass, n, nil
}

// tiktokenGo keeps its encoders, since to make one takes a tenth of a second.
type tiktokenGo map[string]*tiktoken.Tiktoken

func newTiktokenGo() tiktokenGo {
	tiktoken.SetBpeLoader(loader.NewOfflineLoader())
	return make(tiktokenGo)
}

func (tiktokenGo) close() error { return nil }

func (g tiktokenGo) encoder(encoding string) (*tiktoken.Tiktoken, error) {
	if e := g[encoding]; e != nil {
		return e, nil
	}
	e, err := tiktoken.GetEncoding(encoding)
	g[encoding] = e
	return e, err
}

func (g tiktokenGo) turn(encoding string, t *text, least time.Duration) (time.Duration, int, error) {
	e, err := g.encoder(encoding)
	if err != nil {
		return 0, 0, err
	}
	s := string(t.data)
	perPass, n := repeat(least, func() int { return len(e.EncodeOrdinary(s)) })
	return perPass, n, nil
}
