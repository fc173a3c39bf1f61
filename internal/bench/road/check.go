package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// check compares what the clients of a turn have got with what the upstream, Envoy
// and tokenbudget say of it.
type check struct {
	scene   *scene
	side    *side
	sent    stage.Sent
	asked   stage.Exchanges
	charged stage.Charged
	limited limited
	logWait time.Duration // how long the log's lines may come after the answers' end
}

// newCheck asks them before a turn.
func (s *scene) newCheck(ctx context.Context, d *side) (c check, err error) {
	c = check{scene: s, side: d, logWait: logWait}
	if err := c.sent.Ask(ctx, s.upstreamAddr); err != nil {
		return c, err
	}
	if d.limiter != nil {
		c.limited, err = d.limited(ctx)
		return c, err
	}
	if c.asked, err = d.Exchanges(ctx); err != nil || d.server == nil {
		return c, err
	}
	if c.charged, err = d.server.Charged(ctx); err != nil {
		return c, err
	}
	_, d.logged, err = d.server.Log(d.logged)
	return c, err
}

// done asks them again, after a turn of n requests. Prompt is what the upstream has reported
// for their prompts, in tokens.
// It returns what Envoy has had to do with the server meanwhile.
func (c check) done(ctx context.Context, n, chunks int, prompt int64) (e stage.Exchanges, err error) {
	var sent stage.Sent
	if err := sent.Ask(ctx, c.scene.upstreamAddr); err != nil {
		return e, err
	}
	if got := sent.Requests - c.sent.Requests; got != int64(n) {
		return e, fmt.Errorf("%d answers have come, but the upstream was asked for %d", n, got)
	}
	if got := sent.Chunks - c.sent.Chunks; got != int64(chunks) {
		return e, fmt.Errorf("%d chunks have come, but the upstream has sent %d", chunks, got)
	}
	if c.side.Server == nil || c.side.Envoy == nil {
		return e, nil
	}
	output := int64(chunks)
	if chunks == 0 {
		output = int64(n) * stage.WholeOutput
	}
	if c.side.limiter != nil {
		return e, c.counted(ctx, n, prompt+output, countWait)
	}
	if e, err = c.side.Exchanges(ctx); err != nil {
		return e, err
	}
	e = stage.Exchanges{Started: e.Started - c.asked.Started, Failed: e.Failed - c.asked.Failed, Sent: e.Sent - c.asked.Sent, Received: e.Received - c.asked.Received}
	if e.Started != uint64(n) || e.Failed != 0 {
		return e, fmt.Errorf("of %d requests the server was asked about %d, and %d failed", n, e.Started, e.Failed)
	}
	if c.side.server == nil {
		return e, nil
	}
	return e, c.metered(ctx, n, prompt, output)
}

// metered checks that the ledger was charged what the upstream has reported, and that the log has
// a line for each exchange.
func (c check) metered(ctx context.Context, n int, prompt, output int64) error {
	charged, err := c.side.server.Charged(ctx)
	if err != nil {
		return err
	}
	if n == 0 || charged.Spent == 0 {
		return errors.New("the server has metered nothing")
	}
	// A month may have ended meanwhile; its charges are out of sight then.
	same := charged.WindowStart.Equal(c.charged.WindowStart) || c.charged.Spent == 0
	if got := charged.Spent - c.charged.Spent; same && (got != prompt+output || charged.Held != 0) {
		return fmt.Errorf("the upstream has reported %d tokens, but the ledger was charged %d, and %d are held", prompt+output, got, charged.Held)
	}
	logged, err := c.log(ctx, n)
	if err != nil {
		return err
	}
	if logged.Outcomes["completed"] != n || logged.Output != output || logged.Counted != 0 {
		return fmt.Errorf("of %d exchanges with %d tokens of output, the log has %v with %d, %d of them not as reported", n, output, logged.Outcomes, logged.Output, logged.Counted)
	}
	return nil
}

// logWait is how long a busy machine may take to write a log's line.
const logWait = time.Minute

// log reads what the log says of a turn, once it has as many lines as there were requests.
func (c check) log(ctx context.Context, n int) (l stage.Logged, err error) {
	giveUp := time.Now().Add(c.logWait)
	for {
		var next int64
		l, next, err = c.side.server.Log(c.side.logged)
		lines := 0
		for _, n := range l.Outcomes {
			lines += n
		}
		if err != nil || lines >= n || time.Now().After(giveUp) || ctx.Err() != nil {
			c.side.logged = next
			return l, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
