package e2e

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

type flusher interface {
	io.WriteCloser
	Flush() error
}

// encoders are named as content-encoding names them; "deflate" is taken twice.
func encoder(name string, w io.Writer) flusher {
	switch name {
	case "gzip", "x-gzip":
		return gzip.NewWriter(w)
	case "deflate":
		return zlib.NewWriter(w)
	case "raw":
		f, err := flate.NewWriter(w, flate.BestCompression)
		if err != nil {
			panic(err)
		}
		return f
	case "br":
		return brotli.NewWriterLevel(w, 5)
	case "zstd":
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		return z
	}
	panic("no encoder " + name)
}

// layered encodes with several codings, in their order.
type layered struct{ layers []flusher }

func layer(names []string, w io.Writer) *layered {
	l := &layered{make([]flusher, len(names))}
	for i, name := range slices.Backward(names) {
		l.layers[i] = encoder(name, w)
		w = l.layers[i]
	}
	return l
}

func (l *layered) Write(b []byte) (int, error) { return l.layers[0].Write(b) }

func (l *layered) Flush() (err error) {
	for _, f := range l.layers {
		err = errors.Join(err, f.Flush())
	}
	return err
}

func (l *layered) Close() (err error) {
	for _, f := range l.layers {
		err = errors.Join(err, f.Close())
	}
	return err
}

func encoded(b []byte, names ...string) []byte {
	var out bytes.Buffer
	w := layer(names, &out)
	_, err := w.Write(b)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// compressing is an upstream that compresses whatever it is told.
type compressing struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string]received // by id
	gone     chan string         // the ids of requests whose client has gone
}

// received is a request as it reached the upstream.
type received struct {
	header http.Header
	body   []byte
}

// compressingUpstream answers with the recording that the request names, coded as it says:
// x-coding is a list of codings, and x-name that which the header has; x-status a status; with
// x-fault the data ends early, with x-wait the answer stays open until the client has gone.
func compressingUpstream(t *testing.T) *compressing {
	t.Helper()
	up := &compressing{requests: make(map[string]received), gone: make(chan string, 100)}
	up.Server = httptest.NewUnstartedServer(http.HandlerFunc(up.serve))
	up.Config.Protocols = new(http.Protocols)
	up.Config.Protocols.SetHTTP1(true)
	up.Config.Protocols.SetUnencryptedHTTP2(true)
	up.Start()
	t.Cleanup(up.Close)
	return up
}

func (up *compressing) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	id := r.Header.Get("x-standin-id")
	up.mu.Lock()
	up.requests[id] = received{r.Header.Clone(), body}
	up.mu.Unlock()
	rec, err := standin.Load(r.Header.Get("x-standin-recording"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	names := strings.Split(r.Header.Get("x-coding"), ",")
	h := w.Header()
	h.Set("content-type", rec.Header.Get("content-type"))
	h.Set("content-encoding", strings.ReplaceAll(r.Header.Get("x-coding"), "raw", "deflate"))
	h.Set("vary", "accept-encoding")
	h.Set("etag", `"1"`)
	if r.Header.Get("x-status") != "" {
		w.WriteHeader(http.StatusBadRequest)
	}
	rc := http.NewResponseController(w)
	e := layer(names, w)
	for i, event := range bytes.SplitAfter(rec.Body, []byte("\n\n")) {
		if i == 6 && r.Header.Get("x-fault") != "" {
			return
		}
		_, err := e.Write(event)
		if err = errors.Join(err, e.Flush(), rc.Flush()); err != nil {
			up.gone <- id
			return
		}
	}
	if r.Header.Get("x-wait") != "" {
		<-r.Context().Done()
		up.gone <- id
		return
	}
	if r.Header.Get("x-fault") == "" {
		_ = e.Close()
	}
}

func (up *compressing) got(id string) received {
	up.mu.Lock()
	defer up.mu.Unlock()
	return up.requests[id]
}

var codings = []string{"gzip", "deflate", "raw", "br", "zstd", "br,gzip", "gzip,gzip"}

// TestCodedAnswers: an upstream that compresses though it is not asked to. The client gets the
// same bytes, uncompressed, each event when it has come, and is charged as reported; a limit
// cuts in good form and cancels the upstream.
func TestCodedAnswers(t *testing.T) {
	up := compressingUpstream(t)
	o := roadOptions{
		upstream: up.URL, policy: exchange.Policy{IncludeUsage: exchange.UsageNever},
		limits: []budget.Limit{perUser("user-year", budget.OutputTokens, 100_000)},
	}
	combinations(t, o, func(t *testing.T, r *road, hc *http.Client) {
		for _, coding := range codings {
			for _, recording := range []string{"openai/chat-streaming", "openai/chat-basic"} {
				rec, err := standin.Load(recording)
				if err != nil {
					t.Fatal(err)
				}
				id := strings.Join([]string{t.Name(), coding, recording}, " ")
				body := fmt.Sprintf(`{"model":"gpt-4o","stream":%v,"messages":[]}`, rec.Stream())
				resp, got, err := r.do(t.Context(), hc, call{id: id, user: id, body: body, headers: map[string]string{
					"x-standin-recording": recording, "x-coding": coding, "accept-encoding": "gzip, identity;q=0"}})
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, rec.Body) {
					t.Errorf("%s: %v, %d bytes of %d, %v", id, resp, len(got), len(rec.Body), err)
					continue
				}
				if h := resp.Header; h.Get("content-encoding") != "" || h.Get("etag") != `W/"1"` || h.Get("vary") != "accept-encoding" {
					t.Errorf("%s: headers %v", id, h)
				}
				if a := up.got(id).header.Get("accept-encoding"); a != "" {
					t.Errorf("the upstream is offered %q", a)
				}
				if _, err := r.finished(id); err != nil {
					t.Fatal(err)
				}
				if e := r.exchanges(id); len(e) != 1 || e[0].ContextMap()["outcome"] != "completed" || e[0].ContextMap()["output_source"] == "estimated" {
					t.Errorf("%s: logged %v", id, e)
				}
			}
		}
	})
}

// A limit cuts a compressed stream, and so does the end of its data where that is missing. An
// upstream that would go on is cancelled.
func TestCodedCuts(t *testing.T) {
	up := compressingUpstream(t)
	r := newRoad(t, roadOptions{upstream: up.URL, limits: []budget.Limit{perUser("user-year", budget.OutputTokens, 20)}})
	hc := client(true)
	defer hc.CloseIdleConnections()
	rec, err := standin.Load("openai/chat-streaming")
	if err != nil {
		t.Fatal(err)
	}
	for _, coding := range codings {
		for _, fault := range []string{"", "truncated"} {
			id := "cut " + coding + fault
			headers := map[string]string{"x-standin-recording": rec.Name, "x-coding": coding, "x-wait": "yes"}
			limit := "user-year"
			if fault != "" {
				limit = exchange.LimitEncoding
				headers = map[string]string{"x-standin-recording": rec.Name, "x-coding": coding, "x-fault": fault}
			}
			resp, got, err := r.do(t.Context(), hc, call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`, headers: headers})
			if err != nil || resp.StatusCode != http.StatusOK || !strings.HasSuffix(string(got), "data: [DONE]\n\n") {
				t.Errorf("%s: %v, ends in %q, %v", id, resp, tail(got), err)
				continue
			}
			permitted, _, cut := strings.Cut(string(got), ": tokenbudget: cut, limit "+limit+"\n")
			if !cut || !strings.HasPrefix(string(rec.Body), permitted) {
				t.Errorf("%s: not cut, or to other bytes: %q", id, tail(got))
			}
			if fault == "" {
				select {
				case <-up.gone:
				case <-time.After(patience):
					t.Errorf("%s: the upstream was not cancelled", id)
				}
			}
			if _, err := r.finished(id); err != nil {
				t.Fatal(err)
			}
			if b := r.balance(t, "user-year", id); b.Held != 0 || b.Spent == 0 {
				t.Errorf("%s: the ledger says %+v", id, b)
			}
		}
	}
}

// What the client gets of data that is not what it says it is: the answer's end in good form for a
// stream, and a broken connection for a whole answer, of which something has left.
func TestCodedFaults(t *testing.T) {
	up := compressingUpstream(t)
	r := newRoad(t, roadOptions{upstream: up.URL, limits: plenty()})
	hc := client(false)
	defer hc.CloseIdleConnections()
	for i, tt := range []struct {
		headers map[string]string
		body    string
		status  int
		want    string // in the answer's body
		broken  bool
	}{
		{map[string]string{"x-standin-recording": "openai/chat-streaming", "x-coding": "gzip", "x-fault": "truncated"}, `{"model":"gpt-4o","stream":true,"messages":[]}`, 200, "data: [DONE]\n\n", false},
		{map[string]string{"x-standin-recording": "openai/chat-basic", "x-coding": "gzip", "x-fault": "truncated"}, `{"model":"gpt-4o","messages":[]}`, 200, "", true},
		{map[string]string{"x-standin-recording": "openai/chat-bad-request", "x-coding": "zstd", "x-status": "400"}, `{"model":"gpt-4o","messages":[]}`, 400, `"error"`, false},
	} {
		id := fmt.Sprint("fault ", i)
		resp, got, err := r.do(t.Context(), hc, call{id: id, user: id, body: tt.body, headers: tt.headers})
		if resp == nil || resp.StatusCode != tt.status || (err != nil) != tt.broken || !strings.Contains(string(got), tt.want) {
			t.Errorf("%d: %v, %q, %v", i, resp, tail(got), err)
		}
		if _, err := r.finished(id); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCodedRequests: a compressed request reaches the upstream as it was decided on.
func TestCodedRequests(t *testing.T) {
	up := compressingUpstream(t)
	o := roadOptions{upstream: up.URL, limits: plenty(), policy: exchange.Policy{MaxRequest: 1 << 20, Pass: []string{"/files"}}}
	combinations(t, o, func(t *testing.T, r *road, hc *http.Client) {
		body := `{"model":"gpt-4o","max_tokens":50,"messages":[{"role":"user","content":"Hello there, you!"}]}`
		for _, tt := range []struct {
			name, coding string
			body         []byte
			status       int
		}{
			{"gzip", "gzip", encoded([]byte(body), "gzip"), 200},
			{"x-gzip", "x-gzip", encoded([]byte(body), "gzip"), 200},
			{"deflate", "deflate", encoded([]byte(body), "deflate"), 200},
			{"raw", "deflate", encoded([]byte(body), "raw"), 200},
			{"br", "br", encoded([]byte(body), "br"), 200},
			{"zstd", "zstd", encoded([]byte(body), "zstd"), 200},
			{"layers", "br, gzip", encoded([]byte(body), "br", "gzip"), 200},
			{"identity", "identity", []byte(body), 200},
			{"unknown", "compress", []byte(body), 415},
			{"corrupt", "gzip", []byte(body), 400},
			{"truncated", "zstd", encoded([]byte(body), "zstd")[:60], 400},
			{"large", "zstd", encoded([]byte(`{"model":"gpt-4o","messages":[{"role":"user","content":"`+strings.Repeat("word ", 1<<18)+`"}]}`), "zstd"), 413},
		} {
			id := t.Name() + tt.name
			resp, got, err := r.do(t.Context(), hc, call{id: id, user: id, body: string(tt.body), headers: map[string]string{
				"content-encoding": tt.coding, "x-standin-recording": "openai/chat-basic", "x-coding": "gzip"}})
			if err != nil || resp.StatusCode != tt.status {
				t.Errorf("%s: %v, %s, %v", tt.name, resp, tail(got), err)
				continue
			}
			there := up.got(id)
			switch {
			case tt.status != 200 && there.header != nil:
				t.Errorf("%s: it reached the upstream", tt.name)
			case tt.status == 415 && resp.Header.Get("accept-encoding") != "gzip, deflate, br, zstd":
				t.Errorf("%s: headers %v", tt.name, resp.Header)
			case tt.status != 200:
			case string(there.body) != body || tt.coding != "identity" && there.header.Get("content-encoding") != "":
				t.Errorf("%s: the upstream got %q, %v", tt.name, there.body, there.header)
			}
		}
		// What passes is nobody's business.
		data := encoded([]byte(body), "gzip")
		req, err := r.request(t.Context(), call{id: t.Name() + "pass", user: "pass", body: string(data), headers: map[string]string{
			"content-encoding": "gzip", "x-standin-recording": "openai/chat-basic", "x-coding": "gzip"}})
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path = "/files"
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if there := up.got(t.Name() + "pass"); !bytes.Equal(there.body, data) || there.header.Get("content-encoding") != "gzip" {
			t.Errorf("what passes reached the upstream as %d bytes, %v", len(there.body), there.header)
		}
	})
}

// TestBombs: requests and answers that would expand to 64 MiB and more end in good form, and the
// whole process never takes 64 MiB more than before.
func TestBombs(t *testing.T) {
	const size, most = 64 << 20, 64 << 20
	bombs := map[string][]byte{}
	for _, coding := range []string{"gzip", "deflate", "br", "zstd"} {
		bombs[coding] = encoded(make([]byte, size), coding)
	}
	for _, inner := range []string{"gzip", "deflate", "br", "zstd"} {
		for _, outer := range []string{"gzip", "br", "zstd"} {
			bombs[inner+", "+outer] = encoded(bombs[inner], outer)
		}
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", r.Header.Get("x-type"))
		w.Header().Set("content-encoding", r.Header.Get("x-coding"))
		_, _ = w.Write(bombs[r.Header.Get("x-coding")])
	}))
	defer upstream.Close()
	r := newRoad(t, roadOptions{upstream: upstream.URL, limits: plenty()})
	hc := client(false)
	defer hc.CloseIdleConnections()
	cutBy := regexp.MustCompile(`: tokenbudget: cut, limit \((encoding|event)\)\n`)
	before := goroutines()
	var grown int64
	for coding, bomb := range bombs {
		for kind, headers := range map[string]map[string]string{
			"request": {"content-encoding": coding},
			"stream":  {"x-coding": coding, "x-type": "text/event-stream"},
			"whole":   {"x-coding": coding, "x-type": "application/json"},
		} {
			id := "bomb " + kind + " " + coding
			c := call{id: id, user: id, body: fmt.Sprintf(`{"model":"gpt-4o","stream":%v,"messages":[]}`, kind == "stream"), headers: headers}
			if kind == "request" {
				c.body = string(bomb)
			}
			peak := watchMemory()
			resp, got, err := r.do(t.Context(), hc, c)
			switch {
			case resp == nil:
				t.Errorf("%s: %v", id, err)
			case kind == "request" && resp.StatusCode != http.StatusRequestEntityTooLarge,
				// The bomb is an event without an end, of which no more than 4 MiB are withheld.
				kind == "stream" && (err != nil || !cutBy.Match(got) || !strings.HasSuffix(string(got), "data: [DONE]\n\n")),
				// If nothing has left, Envoy gives the client an error in its place.
				kind == "whole" && err == nil && resp.StatusCode != http.StatusBadGateway:
				t.Errorf("%s: %v, ends in %q, %v", id, resp, tail(got), err)
			}
			if _, err := r.finished(id); err != nil {
				t.Fatal(err)
			}
			grown = max(grown, peak())
		}
	}
	t.Logf("%d bombs: at most %d KiB more", 3*len(bombs), grown>>10)
	if grown > most {
		t.Errorf("the process took %d bytes more", grown)
	}
	for _, b := range r.balances(t) {
		if b.Held != 0 {
			t.Errorf("%s still holds %d", b.Limit, b.Held)
		}
	}
	hc.CloseIdleConnections()
	noMoreGoroutines(t, before)
}

// watchMemory watches what the process has of memory, and returns by how much it was more at
// most, in bytes.
func watchMemory() (peak func() int64) {
	now := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	runtime.GC()
	before := now()
	most := before
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, now())
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-done
		return most - before
	}
}
