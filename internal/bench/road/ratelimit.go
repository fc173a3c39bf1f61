package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// countWait is how long the service may count what it was told after the answers' end.
const countWait = 10 * time.Second

// limited is what Envoy's rate limit filter has asked, and what the service has counted.
type limited struct {
	stage.Asked
	stage.Limited
}

func (d *side) limited(ctx context.Context) (l limited, err error) {
	if l.Asked, err = d.limiter.Asked(ctx, d.Envoy); err != nil {
		return l, err
	}
	l.Limited, err = d.limiter.Limited(ctx)
	return l, err
}

// counted checks that the service was asked about each of n requests, that it has failed none, and that it has counted exactly
// the tokens that the upstream has reported. Envoy tells it of them once an answer has ended, so they may be late.
func (c check) counted(ctx context.Context, n int, tokens int64, wait time.Duration) error {
	giveUp := time.Now().Add(wait)
	for {
		now, err := c.side.limited(ctx)
		if err != nil {
			return err
		}
		// A month may have ended meanwhile; what was counted before is out of sight then.
		same := now.Left <= c.limited.Left
		asked, failed, got := now.OK-c.limited.OK, now.Failed-c.limited.Failed, now.Tokens-c.limited.Tokens
		if asked == uint64(n) && failed == 0 && (got == tokens || !same) {
			return nil
		}
		if time.Now().After(giveUp) || ctx.Err() != nil {
			return fmt.Errorf("of %d requests ratelimit was asked about %d, and %d failed; the upstream has reported %d tokens, and it has counted %d", n, asked, failed, tokens, got)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
