package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// StreamsOptions say how many streams are to be open at the same time.
type StreamsOptions struct {
	Binary  string // the server's program
	Streams int
	Envoy   bool // through a real Envoy
	Logf    func(format string, args ...any)
}

// StreamsResult is what a server took, in bytes where nothing else is said.
type StreamsResult struct {
	Streams, Cut, Aborted, Finished int64
	Shed                            int64 // times that a request was turned away, and tried again
	Events                          int64 // that reached the server
	Before, Open, After             Sample
	Took                            time.Duration
}

// PerStream is what one open stream takes of the server's resident memory, in bytes.
func (r *StreamsResult) PerStream() int64 { return (r.Open.RSS - r.Before.RSS) / r.Streams }

// LivePerStream is what of that is live heap and stacks, in bytes.
func (r *StreamsResult) LivePerStream() int64 {
	return (r.Open.Live + r.Open.Stacks - r.Before.Live - r.Before.Stacks) / r.Streams
}

const (
	streamBudgets = `identity: {user: [{header: x-user}]}
budgets:
  - {name: all, limit: 1B tokens, period: total}
  - {name: each, per: user, limit: 1M tokens, period: total}
  - {name: cuts, match: {user: "cut-*"}, per: user, limit: 40 tokens, period: total}
`
	perConnection = 1000 // streams of a gRPC connection
	atOnce        = 64   // streams that do something at the same time
	quietTimeout  = time.Minute
	warmUp        = 50 // streams
	rounds        = 2  // what the second leaves behind, beyond the first, has leaked
)

// fates of streams.
const (
	toFinish = iota
	toCut
	toAbort
)

func fate(round, i int) (kind int, user string) {
	switch i % 10 {
	case 3:
		return toCut, fmt.Sprintf("cut-%d-%d", round, i) // its budget serves once
	case 7:
		return toAbort, fmt.Sprint("user-", i)
	}
	return toFinish, fmt.Sprint("user-", i)
}

// Streams opens streams, all at the same time, cuts a tenth of them by a limit, leaves a
// tenth, and finishes the others; and all of that again. Then each counter of the ledger must be what reached the
// server, to the token, and nothing of them may be left.
func Streams(ctx context.Context, o StreamsOptions) (r *StreamsResult, err error) {
	begin := time.Now()
	input, err := promptTokens(dialect.OpenAIChat{}, requestBody(true))
	if err != nil {
		return nil, err
	}
	s, err := startServer(ctx, o.Binary, streamBudgets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	var way road
	if o.Envoy {
		way, err = newProxied(ctx, s.extProc, true)
	} else {
		way, err = newDirect(s.extProc, 1+o.Streams/perConnection)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, way.close()) }()

	r = &StreamsResult{Streams: int64(o.Streams)}
	// A few first, so that what is built once is no stream's.
	warm, err := open(ctx, way, warmUp, func(int) string { return "warm" }, r)
	if err != nil {
		return r, err
	}
	if err := each(ctx, warm, func(_ int, x stream) error { return x.finish() }); err != nil {
		return r, err
	}
	if r.Before, err = s.settled(ctx); err != nil {
		return r, err
	}
	var all []stream
	var first Sample // after the first round
	for round := range rounds {
		again, err := o.round(ctx, s, way, round, r)
		if err != nil {
			return r, err
		}
		all = append(all, again...)
		if r.After, err = s.settled(ctx); err != nil {
			return r, err
		}
		if round == 0 {
			first = r.After
		}
	}
	r.Took = time.Since(begin)
	return r, errors.Join(
		s.checkStreams(ctx, all, o.Streams, input, r),
		// Counters stay, but a stream leaves nothing.
		leftOver("goroutines", first.Goroutines, r.After.Goroutines, 50),
		leftOver("open files", first.Files, r.After.Files, 20),
		leftOver("bytes of live heap", first.Live, r.After.Live, r.Streams<<9+4<<20),
		noErrors(s),
	)
}

// round opens all streams, and lets each meet its fate.
func (o *StreamsOptions) round(ctx context.Context, s *server, way road, round int, r *StreamsResult) ([]stream, error) {
	begin := time.Now()
	all, err := open(ctx, way, o.Streams, func(i int) string { _, user := fate(round, i); return user }, r)
	if err != nil {
		return nil, err
	}
	o.Logf("    %d streams are open after %.0f s", o.Streams, time.Since(begin).Seconds())
	if err := each(ctx, all, func(_ int, x stream) error { return said(x, 1) }); err != nil {
		return nil, errors.Join(err, noErrors(s))
	}
	opened, err := s.collected(ctx)
	if err != nil {
		return nil, err
	}
	if opened.Exchanges != int64(o.Streams) {
		return nil, fmt.Errorf("the server has %d open exchanges, of %d streams", opened.Exchanges, o.Streams)
	}
	if round == 0 {
		r.Open = opened
	}
	if err := each(ctx, all, func(i int, x stream) error { return live(i, x, r) }); err != nil {
		return nil, errors.Join(err, noErrors(s))
	}
	return all, nil
}

// open opens streams, each for a user.
func open(ctx context.Context, way road, n int, user func(i int) string, r *StreamsResult) ([]stream, error) {
	all := make([]stream, n)
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range all {
		g.Go(func() error {
			for try := 0; ; try++ {
				x, err := way.open(ctx, user(i))
				if err == nil {
					all[i] = x
					return nil
				}
				if refused, ok := errors.AsType[errRefused](err); !ok || refused.status != 503 || try == 30 || within.Err() != nil {
					return fmt.Errorf("stream %d: %w", i, err)
				}
				atomic.AddInt64(&r.Shed, 1)
				time.Sleep(time.Second) // as Retry-After says
			}
		})
	}
	return all, g.Wait()
}

// each does something with all streams.
func each(ctx context.Context, all []stream, f func(i int, x stream) error) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, x := range all {
		g.Go(func() error {
			if within.Err() != nil {
				return within.Err()
			}
			if err := f(i, x); err != nil {
				return fmt.Errorf("stream %d: %w", i, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// said says some events, none of which may be cut.
func said(x stream, n int) error {
	for range n {
		if cut, err := x.say(); err != nil || cut {
			return fmt.Errorf("cut: %t, %w", cut, cmpErr(err))
		}
	}
	return nil
}

// live lets a stream meet its fate.
func live(i int, x stream, r *StreamsResult) error {
	switch kind, _ := fate(0, i); kind {
	case toCut:
		for range 100 {
			cut, err := x.say()
			if err != nil {
				return err
			}
			if cut {
				x.leave()
				atomic.AddInt64(&r.Cut, 1)
				return nil
			}
		}
		return errors.New("it is not cut")
	case toAbort:
		defer x.leave()
		atomic.AddInt64(&r.Aborted, 1)
		return said(x, 3)
	}
	if err := said(x, 6); err != nil {
		return err
	}
	atomic.AddInt64(&r.Finished, 1)
	return x.finish()
}

// checkStreams compares the ledger with what reached the server, in all rounds.
func (s *server) checkStreams(ctx context.Context, all []stream, n int, input int64, r *StreamsResult) error {
	balances, err := s.balances(ctx)
	if err != nil {
		return err
	}
	spent := make(map[string]int64)
	var total, sum int64
	for _, b := range balances {
		if b.Held != 0 {
			return fmt.Errorf("limit %s %v: %d are still held", b.Name, b.Subject, b.Held)
		}
		switch b.Name {
		case "all":
			total = b.Spent
		case "each":
			spent[b.Subject["user"]] = b.Spent
			sum += b.Spent
		}
	}
	type bounds struct{ least, most int64 }
	want := make(map[string]bounds)
	for i, x := range all {
		_, user := fate(i/n, i%n)
		least, most := x.reached()
		r.Events += most
		want[user] = bounds{want[user].least + input + least, want[user].most + input + most}
	}
	var faults []error
	for user, w := range want {
		if got := spent[user]; (got < w.least || got > w.most) && len(faults) < 10 {
			faults = append(faults, fmt.Errorf("%s is charged %d; %d to %d reached the server", user, got, w.least, w.most))
		}
	}
	outcomes, charged := s.log.settled(total)
	if total != sum || total != charged {
		faults = append(faults, fmt.Errorf("the sum of all is %d, of each %d, of the log %d", total, sum, charged))
	}
	if outcomes["cut"] != r.Cut || outcomes["aborted"] != r.Aborted || outcomes["completed"] != r.Finished+warmUp {
		faults = append(faults, fmt.Errorf("the log has %v; %d were cut, %d left, %d finished", outcomes, r.Cut, r.Aborted, r.Finished+warmUp))
	}
	return errors.Join(faults...)
}

// leftOver is an error if there is more than before.
func leftOver(what string, before, after, slack int64) error {
	if after > before+slack {
		return fmt.Errorf("%s: %d before, and %d afterwards", what, before, after)
	}
	return nil
}

func noErrors(s *server) error {
	if text := s.log.errorText(); text != "" {
		return fmt.Errorf("the log has errors:\n%s", text)
	}
	return nil
}
