package main

import (
	"context"
	"os/exec"
	"testing"
)

// A server that a signal kills is a fault of the demonstration, unless its user has ended it.
func TestStopProcess(t *testing.T) {
	interrupted, stop := context.WithCancel(t.Context())
	stop()
	for _, test := range []struct {
		ctx context.Context
		bad bool
	}{{t.Context(), true}, {interrupted, false}} {
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Skip(err)
		}
		if err := stopProcess(test.ctx, cmd); (err != nil) != test.bad {
			t.Errorf("interrupted %v: error %v", test.ctx.Err() != nil, err)
		}
	}
}
