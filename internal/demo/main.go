// Command demo shows a budget running out in the middle of an answer: a real
// Envoy, the tokenbudget server as a process of its own, a stand-in upstream that
// replays a recorded answer of OpenAI's, and the official SDK as the client.
//
// It ends by itself, with exit code 0 if everything happened that it shows, and
// else with 1. With -stay it leaves Envoy, the server and the upstream running
// instead, for requests of your own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	stay := flag.Bool("stay", false, "leave everything running, to try with curl")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	show := demonstrate
	if *stay {
		show = leaveRunning
	}
	if err := withStage(ctx, *stay, show); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		return 1
	}
	return 0
}

func heading(text string) { fmt.Printf("\n── %s\n", text) }

// demonstrate shows one answer that is cut, and one request that is refused.
func demonstrate(ctx context.Context, s *stage) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()

	heading("the budget")
	fmt.Print(indent(s.config))
	heading("the ledger before")
	if err := s.usage(ctx); err != nil {
		return err
	}

	heading("a chat, streamed through Envoy to the official SDK")
	started := time.Now()
	answer, err := s.chat(ctx)
	if err != nil {
		return err
	}
	if answer.FinishReason != "length" || answer.Text == "" {
		return fmt.Errorf("the answer was not cut: finish_reason is %q", answer.FinishReason)
	}
	heading("the end of that answer, as it came over the wire")
	fmt.Print(indent(answer.Tail))
	if !strings.HasPrefix(answer.Tail, ": tokenbudget: cut, limit "+s.budget()+"\n") || !strings.HasSuffix(answer.Tail, "data: [DONE]\n\n") {
		return fmt.Errorf("the closing events are not what they should be")
	}

	heading("the upstream")
	ex, err := s.lastExchange(ctx)
	if err != nil {
		return err
	}
	if ex.Completed || ex.CancelledAt.IsZero() {
		return fmt.Errorf("the upstream was not cancelled: it sent %d of %d events", ex.EventsSent, ex.EventsTotal)
	}
	fmt.Printf("  cancelled %v after the request; it had sent %d of %d events, %d of %d bytes\n",
		ex.CancelledAt.Sub(started).Round(time.Millisecond), ex.EventsSent, ex.EventsTotal, ex.BytesSent, ex.BytesTotal)

	heading("the server's log")
	line, err := s.exchangeLine(ctx, "cut")
	if err != nil {
		return err
	}
	fmt.Println("  " + line)

	heading("the next request is refused before it costs anything")
	answer, err = s.chat(ctx)
	if err != nil {
		return err
	}
	if answer.Refused == nil || answer.Refused.Status != 429 {
		return fmt.Errorf("the second request was not refused: %+v", answer)
	}
	fmt.Printf("  %d %s\n", answer.Refused.Status, answer.Refused.Message)
	if n := len(s.upstream.Exchanges()); n != 1 {
		return fmt.Errorf("the upstream saw %d requests, not 1", n)
	}

	heading("the ledger after")
	if err := s.usage(ctx); err != nil {
		return err
	}
	if err := s.checkLedger(ctx); err != nil {
		return err
	}
	fmt.Println("\nEverything above happened; nothing was made up.")
	return nil
}

// leaveRunning waits for the user to have enough.
func leaveRunning(ctx context.Context, s *stage) error {
	fmt.Printf(`
Envoy listens on %[1]s; the upstream, %[6]s, replays a recorded answer.
Try this a few times; the budget of user bob is %[2]d tokens a %[5]s:

  curl -N %[1]s/v1/chat/completions -H 'content-type: application/json' -H 'x-user: bob' \
    -d '{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Hello!"}]}'

Who has spent what:

  %[3]s usage -admin %[4]s

Ctrl-C ends it. The server's log follows.

`, s.url, s.limit, s.binary, s.admin, s.period, s.upstream.URL())
	s.follow(os.Stdout)
	<-ctx.Done()
	return nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}
