package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/rogpeppe/go-internal/testscript"
)

func cmdStream(ts *testscript.TestScript, neg bool, args []string) {
	c := openChat(ts, arguments(ts, neg, args, "USER")[0], `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Good morning"}]}`)
	if c.status != 0 {
		ts.Fatalf("refused with %d", c.status)
	}
	c.exchange(ts, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: headers(":status", "200", "content-type", "text/event-stream"),
	}})
	worldOf(ts).open = c
}

func cmdTell(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(arguments(ts, neg, args, "N")[0])
	ts.Check(err)
	c, came := worldOf(ts).open, 0
	for range n {
		r := c.exchange(ts, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
			ResponseBody: &extprocv3.HttpBody{Body: []byte(`data: {"choices":[{"index":0,"delta":{"content":" word"}}]}` + "\n\n")},
		}})
		body := r.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		if body.GetEndOfStream() {
			_, limit, _ := strings.Cut(string(body.GetBody()), ": tokenbudget: cut, limit ")
			limit, _, _ = strings.Cut(limit, "\n")
			fmt.Fprintln(ts.Stdout(), came, "cut by", limit)
			return
		}
		came++
	}
	fmt.Fprintln(ts.Stdout(), came, "whole")
}

func cmdLeave(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args)
	c := worldOf(ts).open
	c.cancel()
	ts.Check(c.conn.Close())
}

func cmdAdmin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 3 {
		args = append(args, "")
	}
	a := arguments(ts, neg, args, "STATUS", "METHOD", "PATH", "[BODY]")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, a[1], "http://"+ts.Getenv("ADMIN")+a[2], strings.NewReader(a[3]))
	ts.Check(err)
	if token := ts.Getenv("TOKEN"); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != a[0] {
		ts.Fatalf("%s %s: %s, want %s", a[1], a[2], resp.Status, a[0])
	}
}

func cmdHangUp(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(worldOf(ts).servers[arguments(ts, neg, args, "NAME")[0]].cmd.Process.Signal(syscall.SIGHUP))
}

func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	a := arguments(ts, neg, args, "NAME", "N", "REGEXP")
	s, want := worldOf(ts).servers[a[0]], regexp.MustCompile(a[2])
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		n := 0
		for line := range strings.Lines(s.text()) {
			if want.MatchString(line) {
				n++
			}
		}
		if strconv.Itoa(n) == a[1] {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%d lines match %s, want %s\n%s", n, a[2], a[1], s.text())
		}
	}
}
