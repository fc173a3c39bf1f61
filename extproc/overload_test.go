package extproc

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// refused says whether a message turns a request away because of overload, and how.
func refused(t *testing.T, m *extprocv3.ProcessingResponse) bool {
	t.Helper()
	i := m.GetImmediateResponse()
	if i == nil {
		return false
	}
	headers := make(map[string]string)
	for _, h := range i.GetHeaders().GetSetHeaders() {
		headers[h.GetHeader().GetKey()] = string(h.GetHeader().GetRawValue())
	}
	if i.GetStatus().GetCode() != 503 || headers["retry-after"] != "1" || !strings.Contains(string(i.GetBody()), `"type":"server_error"`) {
		t.Fatalf("not an answer to overload: %v", i)
	}
	if md := m.GetDynamicMetadata().GetFields()["tokenbudget"].GetStructValue().GetFields(); md["outcome"].GetStringValue() != "denied" || md["limit"].GetStringValue() != "(overload)" {
		t.Fatalf("metadata %v", md)
	}
	return true
}

// ask sends the headers of a chat request, and returns the answer.
func (p *peer) ask(user string, more ...string) *extprocv3.ProcessingResponse {
	p.t.Helper()
	p.send(requestHeaders(append([]string{":method", "POST", ":path", "/v1/chat/completions", "x-user", user}, more...)...))
	return p.next()
}

// padded is a chat request of n bytes, most of which mean nothing.
func padded(n int) string {
	body := chatBody("Good morning", true)
	return body[:1] + strings.Repeat(" ", n-len(body)) + body[1:]
}

// As many exchanges are open as may be; those that are go on. What passes unmetered counts.
func TestShedExchanges(t *testing.T) {
	bubble(t, func(o *Options) { o.Overload.MaxExchanges = 2 }, func(t *testing.T, r *rig) {
		ann, get := r.dial(), r.dial()
		defer ann.hangUp()
		defer get.hangUp()
		ann.begin("ann")
		get.send(requestHeaders(":method", "GET", ":path", "/health"))
		get.next()
		for range 50 {
			if p := r.dial(); !refused(t, p.ask("bob")) || p.end() != nil {
				t.Fatal("a third one is let in")
			}
		}
		p := r.dial()
		p.send(requestHeaders(":method", "GET", ":path", "/health"))
		if !refused(t, p.next()) {
			t.Error("a third one is let in that passes")
		}
		ann.say("Good")
		ann.hangUp()
		synctest.Wait()
		again := r.dial()
		defer again.hangUp()
		again.begin("bob")
		if n := r.metric("tokenbudget_overload_total", "reason", "exchanges"); n != 51 {
			t.Errorf("%v were counted as turned away", n)
		}
		if n := r.metric("tokenbudget_limited_total", "limit", "(overload)", "outcome", "denied"); n != 51 {
			t.Errorf("%v were counted as limited", n)
		}
		// No time has passed: one warning, and some of the lines.
		if n := len(r.log.lines("level", "warn")); n != 1 {
			t.Errorf("%d warnings", n)
		}
		if n := len(r.log.lines("limit", "(overload)")); n != 10 {
			t.Errorf("%d lines of exchanges that were turned away, want 10", n)
		}
		time.Sleep(10 * time.Second)
		get.hangUp()
		again.say("Good")
		synctest.Wait()
		third := r.dial()
		defer third.hangUp()
		third.begin("cat")
		refused(t, r.dial().ask("bob"))
		if w := r.log.lines("level", "warn"); len(w) != 2 || w[1]["refused"] != 51.0 || w[1]["reason"] != "exchanges" {
			t.Errorf("warnings %v", w)
		}
	})
}

// A large body has its place from its headers on; those without one are turned away, and
// small requests are not.
func TestShedAnnounced(t *testing.T) {
	bubble(t, func(o *Options) { o.Overload.MaxBuffered = 8 << 20 }, func(t *testing.T, r *rig) {
		large := fmt.Sprint(4 << 20) // of 6 MiB
		first := r.dial()
		defer first.hangUp()
		if refused(t, first.ask("ann", "content-length", large)) {
			t.Fatal("refused")
		}
		second := r.dial()
		if !refused(t, second.ask("bob", "content-length", large)) {
			t.Fatal("a second large body is let in")
		}
		small := r.dial()
		defer small.hangUp()
		small.begin("cat")
		// The first has its place, whatever has come meanwhile.
		r.server.overload.buffered.Add(5 << 20)
		first.send(requestBody(padded(4 << 20)))
		if m := first.next(); m.GetRequestBody() == nil {
			t.Errorf("the first is answered with %v", m)
		}
		r.server.overload.buffered.Add(-5 << 20)
		synctest.Wait()
		third := r.dial()
		defer third.hangUp()
		if refused(t, third.ask("bob", "content-length", large)) {
			t.Error("refused after the first was forwarded")
		}
		if n := r.metric("tokenbudget_overload_total", "reason", "memory"); n != 1 {
			t.Errorf("%v were counted as turned away", n)
		}
	})
}

// Who passes unmetered, or whose body is not seen, keeps no place for it: that would last
// as long as the whole exchange, and keep others out.
func TestAnnouncedButNotRead(t *testing.T) {
	bubble(t, func(o *Options) { o.Overload.MaxBuffered = 8 << 20; o.Policy.PassUnknown = true }, func(t *testing.T, r *rig) {
		large := fmt.Sprint(4 << 20) // of 6 MiB
		p := r.dial()
		defer p.hangUp()
		p.send(requestHeaders(":method", "POST", ":path", "/v1/files", "content-length", large))
		if p.next().GetRequestHeaders() == nil {
			t.Fatal("it does not pass")
		}
		synctest.Wait()
		if n := r.server.overload.announced.Load(); n != 0 {
			t.Errorf("%d bytes are announced by a request that passes", n)
		}
		r.setLimits(budget.Limit{Name: "all", Amount: 100_000_000, Period: budget.Total})
		unseen := r.dial()
		defer unseen.hangUp()
		m := requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann", "content-length", large)
		m.ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: filterv3.ProcessingMode_NONE, ResponseBodyMode: filterv3.ProcessingMode_FULL_DUPLEX_STREAMED}
		unseen.send(m)
		if unseen.next().GetRequestHeaders() == nil {
			t.Fatal("it is not forwarded")
		}
		synctest.Wait()
		if n := r.server.overload.announced.Load(); n != 0 {
			t.Errorf("%d bytes are announced by a request whose body does not come", n)
		}
	})
}

// What a request says of its length is believed within reason only.
func TestAnnouncedTooLong(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		for _, length := range []string{"9223372036854775807", "99999999999999999999", "-5", "16777217", "", "x"} {
			p := r.dial()
			if refused(t, p.ask("ann", "content-length", length)) {
				t.Errorf("length %q: refused", length)
			}
			if n := r.server.overload.announced.Load(); n != 0 {
				t.Errorf("length %q: %d bytes are announced", length, n)
			}
			p.hangUp()
		}
	})
}

// A body that does not say how long it is is turned away when it is here.
func TestShedBody(t *testing.T) {
	bubble(t, func(o *Options) { o.Overload.MaxBuffered = 4 << 20 }, func(t *testing.T, r *rig) {
		p := r.dial()
		p.ask("ann")
		p.send(requestBody(padded(3<<20 + 1)))
		if !refused(t, p.next()) || p.end() != nil {
			t.Error("let in")
		}
		synctest.Wait() // the room is given back when the answer has left
		again := r.dial()
		defer again.hangUp()
		again.ask("ann")
		again.send(requestBody(padded(3 << 20)))
		if again.next().GetRequestBody() == nil {
			t.Error("refused")
		}
		synctest.Wait()
		if n := r.metric("tokenbudget_buffered_bytes"); n != 0 {
			t.Errorf("%v bytes count as buffered", n)
		}
	})
}

// When there is no room left, answers under way make do with less.
func TestLeanAnswers(t *testing.T) {
	bubble(t, func(o *Options) { o.Overload.MaxBuffered = 1 << 20 }, func(t *testing.T, r *rig) {
		ann, bob := r.dial(), r.dial()
		defer ann.hangUp()
		defer bob.hangUp()
		piece := strings.Repeat("x", 300<<10)
		ann.request("ann", false)
		ann.answer("application/json")
		ann.send(responseBody(piece, false))
		ann.next()
		synctest.Wait()
		if n := r.metric("tokenbudget_buffered_bytes"); n < 300<<10 {
			t.Errorf("%v bytes count as buffered", n)
		}
		bob.begin("bob")
		bob.send(responseBody("data: "+piece, false))
		synctest.Wait()
		if n := r.metric("tokenbudget_buffered_bytes"); n < 600<<10 {
			t.Errorf("%v bytes count as buffered", n)
		}
		bob.send(responseBody(piece+piece, false))
		synctest.Wait()
		bob.send(responseBody("x", false))
		bob.wantCut("(overload)")
		ann.send(responseBody(strings.Repeat(piece, 4), false))
		if n := len(bodyOf(ann.next()).GetBody()); n != 4*len(piece) {
			t.Errorf("%d bytes pass", n)
		}
		ann.send(responseBody("", true))
		ann.next()
		if err := ann.end(); err != nil {
			t.Error(err)
		}
		if l := r.exchangeLine("ann"); l["outcome"] != "completed" || l["output_source"] != "estimated" || l["output_tokens"] != 187.0 { // all that was held
			t.Errorf("logged %v", l)
		}
	})
}

// Large prompts wait for their turn, small ones do not.
func TestCountingTurns(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		c := &r.server.overload.counting
		busy := func() {
			for range cap(c.turns) {
				c.turns <- struct{}{}
			}
		}
		idle := func() {
			for range cap(c.turns) {
				c.leave()
			}
		}
		busy()
		defer idle()
		body := requestBody(padded(heavyBody))
		begin := time.Now()
		inVain, inTime, left := r.dial(), r.dial(), r.dial()
		defer inTime.hangUp()
		for i, p := range []*peer{inVain, inTime, left} {
			p.ask(fmt.Sprint("user", i))
			if i != 1 {
				p.send(body)
			}
		}
		synctest.Wait()
		if n := c.waiting.Load(); n != 2 {
			t.Errorf("%d wait", n)
		}
		left.hangUp()
		small := r.dial()
		defer small.hangUp()
		small.begin("small")
		time.Sleep(DefaultMaxDelay / 2)
		inTime.send(body)
		if !refused(t, inVain.next()) || time.Since(begin) != DefaultMaxDelay {
			t.Errorf("turned away after %v", time.Since(begin))
		}
		idle()
		if inTime.next().GetRequestBody() == nil || time.Since(begin) != DefaultMaxDelay {
			t.Errorf("not let in when there was room, or after %v", time.Since(begin))
		}
		busy()
		c.waiting.Add(int64(waitingPerTurn * cap(c.turns)))
		tooMany := r.dial()
		if !refused(t, tooMany.ask("dan", "content-length", fmt.Sprint(heavyBody))) {
			t.Error("let in though too many wait")
		}
		unsaid := r.dial()
		unsaid.ask("dan")
		unsaid.send(body)
		if !refused(t, unsaid.next()) {
			t.Error("let in though too many wait")
		}
		c.waiting.Add(-int64(waitingPerTurn * cap(c.turns)))
		if n := r.metric("tokenbudget_overload_total", "reason", "counting"); n != 3 {
			t.Errorf("%v were counted as turned away", n)
		}
	})
}

// While the processors do not keep up, or the heap is full, nobody new is let in.
func TestShedStrain(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ann := r.dial()
		defer ann.hangUp()
		ann.begin("ann")
		s := &r.server.overload.strain
		s.asked.Store(math.MaxInt64 / 2) // not asked any more
		s.isLate.Store(true)
		p := r.dial()
		if !refused(t, p.ask("bob")) {
			t.Error("let in while goroutines wait")
		}
		get := r.dial()
		defer get.hangUp()
		get.send(requestHeaders(":method", "GET", ":path", "/health"))
		if get.next().GetRequestHeaders() == nil {
			t.Error("what is not counted is turned away while goroutines wait")
		}
		s.isLate.Store(false)
		s.isFull.Store(true)
		p = r.dial()
		if !refused(t, p.ask("bob")) {
			t.Error("let in while the heap is full")
		}
		s.isFull.Store(false)
		ann.say("Good")
		if d, m := r.metric("tokenbudget_overload_total", "reason", "delay"), r.metric("tokenbudget_overload_total", "reason", "memory"); d != 1 || m != 1 {
			t.Errorf("%v and %v were counted as turned away", d, m)
		}
	})
}

func TestStrainNote(t *testing.T) {
	var s strain
	for i, step := range []struct {
		ms   int
		late bool
	}{{500, false}, {500, false}, {250, true}, {249, false}, {900, false}, {900, false}, {900, true}, {1, false}} {
		s.note(time.Duration(step.ms)*time.Millisecond, 250*time.Millisecond)
		if s.late() != step.late {
			t.Errorf("step %d: late is %t", i, s.late())
		}
	}
}

func TestMedian(t *testing.T) {
	bounds := []float64{math.Inf(-1), 0, 0.001, 0.01, 0.1, math.Inf(1)}
	for _, c := range []struct {
		before, counts []uint64
		want           time.Duration
	}{
		{[]uint64{0, 0, 0, 0, 0}, []uint64{0, 0, 0, 0, 0}, 0},
		{[]uint64{9, 9, 9, 9, 9}, []uint64{9, 9, 9, 9, 9}, 0},
		{[]uint64{9, 9, 9, 9, 9}, []uint64{10, 9, 9, 9, 9}, 0},
		{[]uint64{0, 900, 0, 0, 0}, []uint64{0, 901, 1, 1, 0}, time.Millisecond},
		{[]uint64{0, 0, 0, 0, 0}, []uint64{0, 1, 1, 1, 4}, 100 * time.Millisecond},
	} {
		if got := median(bounds, c.before, c.counts); got != c.want {
			t.Errorf("%v after %v: %v, want %v", c.counts, c.before, got, c.want)
		}
	}
}

// The runtime measures what strain goes by: with many goroutines that want a processor, most
// wait for long.
func TestStrainMeasures(t *testing.T) {
	s := newStrain()
	s.look(time.Now(), time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var spin sync.WaitGroup
	for range 32 * runtime.GOMAXPROCS(0) {
		spin.Go(func() {
			for ctx.Err() == nil { //nolint:revive // that is what it does
			}
		})
	}
	for s.delay() < 20*time.Millisecond && ctx.Err() == nil {
		time.Sleep(strainEvery)
		s.look(time.Now(), 20*time.Millisecond)
	}
	if ctx.Err() != nil || !s.late() {
		t.Errorf("the delay is %v, late %t", s.delay(), s.late())
	}
	cancel()
	spin.Wait()
}

// While the heap is full, somebody looks whether it still is.
func TestHeapFull(t *testing.T) {
	s := newStrain()
	s.limit = 1 << 40
	now := time.Now()
	s.look(now, time.Hour)
	if s.heapFull() {
		t.Fatal("full")
	}
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	s.limit = 1
	before := forced()
	for i, want := range []uint32{1, 1, 2} {
		s.look(now.Add(time.Duration(i+1)*forceEvery*2/3), time.Hour)
		if got := forced() - before; !s.heapFull() || got != want {
			t.Errorf("look %d: full %t, %d collections, want %d", i, s.heapFull(), got, want)
		}
	}
	s.limit = 1 << 40
	if s.look(now.Add(time.Hour), time.Hour); s.heapFull() {
		t.Error("still full")
	}
}

func TestParseMemory(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n": 0, "": 0, "-1": 0, "0": 0, "9223372036854771712\n": 0, "536870912\n": 512 << 20,
		"MemTotal:       24665532 kB\nMemFree: 1 kB\n": 24665532 << 10, "MemTotal: x kB": 0, "MemTotal: 5": 0,
	} {
		if got, ok := parseMemory(text); got != want || ok != (want > 0) {
			t.Errorf("%q: %d, %t", text, got, ok)
		}
	}
	if n := MachineMemory(); n < 64<<20 {
		t.Errorf("this machine has %d bytes", n)
	}
}

// The limit of a service is found where the service is, not only at the root of the groups.
func TestGroupFiles(t *testing.T) {
	for cgroups, want := range map[string][]string{
		"":       nil,
		"0::/\n": {"/sys/fs/cgroup/memory.max"},
		"0::/system.slice/tokenbudget.service\n": {
			"/sys/fs/cgroup/system.slice/tokenbudget.service/memory.max", "/sys/fs/cgroup/system.slice/memory.max", "/sys/fs/cgroup/memory.max",
		},
		"9:name=systemd:/a\n4:cpu,memory:/b:c\n3:cpuset:/d\n0::/\n": {
			"/sys/fs/cgroup/memory/b:c/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max",
		},
		"0::/../../up\nnonsense\n": {"/sys/fs/cgroup/up/memory.max", "/sys/fs/cgroup/memory.max"},
	} {
		if got := groupFiles(cgroups); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", cgroups, got, want)
		}
	}
}

func TestOverloadDefaults(t *testing.T) {
	o := Overload{}.withDefaults()
	if o.MaxExchanges < 100 || o.MaxExchanges > DefaultMaxExchanges || o.MaxBuffered < 16<<20 || o.MaxDelay != DefaultMaxDelay {
		t.Errorf("%+v", o)
	}
	if set := (Overload{5, 6, 7}); set.withDefaults() != set {
		t.Errorf("%+v", set.withDefaults())
	}
}
