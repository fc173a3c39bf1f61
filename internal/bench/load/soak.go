package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// SoakOptions say how long a server is kept busy, and with what.
type SoakOptions struct {
	Binary  string // the server's program
	Lasts   time.Duration
	Workers int           // that are busy at the same time; 0: 8
	Sample  time.Duration // how often the server is looked at; 0: 5 s
	Seed    uint64
	Logf    func(format string, args ...any)
}

// SoakResult is what came of it.
type SoakResult struct {
	Exchanges map[string]int64 // by what the client did, or what was done to it
	Exact     Charges          // of exchanges of which is known what reached the server
	Loose     Charges          // of those of which it is not: hostile answers, clients that leave at any time
	Samples   []Sample
	Reloads   int
	Restarts  int // of Envoy
	Took      time.Duration
}

// Charges are tokens that were charged, and between which bounds they have to be. Those of
// exact ones differ only where something broke off while an event was on its way.
type Charges struct{ Least, Most, Charged int64 }

func (c *Charges) fault(what string) error {
	if c.Charged >= c.Least && c.Charged <= c.Most {
		return nil
	}
	return fmt.Errorf("%s: %d tokens were charged; %d to %d reached the server", what, c.Charged, c.Least, c.Most)
}

// soakBudgets has one budget for everything, one that cuts each stream after twelve tokens,
// one that refuses, and one whose limit changes while the server runs.
func soakBudgets(turn int) string {
	return fmt.Sprintf(`identity: {user: [{header: x-user}]}
timeouts: {background: %v}
budgets:
  - {name: all, limit: 100B tokens, period: total}
  - {name: each, per: user, limit: 10B tokens, period: total}
  - {name: cut, match: {user: "cut*"}, per: request, limit: {output: 12 tokens}}
  - {name: poor, match: {user: "poor*"}, limit: 1 token, period: total}
  - {name: other, match: {user: "nobody"}, limit: %d tokens, period: day}
`, backgroundTimeout, 1000+turn%2)
}

const (
	soakUsers   = 100
	loosePrefix = "loose-" // of users whose charges are not known beforehand
	cutPrefix   = "cut-"   // of those whose streams are cut,
	poorPrefix  = "poor-"  // and who are refused
	reloadEvery = 10 * time.Second
	soakTimeout = 2 * time.Minute // of one exchange
)

// Soak keeps a server busy behind a real Envoy with what it may meet: answers that are
// streamed, whole, cut, refused, broken off by the client or the upstream, slow readers,
// responses in the background, requests and answers that make no sense, files that change, and an Envoy that is started
// again. At the end the ledger must be what reached the server, nothing may be held, and
// what the server takes must not have grown.
func Soak(ctx context.Context, o SoakOptions) (r *SoakResult, err error) {
	if o.Workers == 0 {
		o.Workers = 8
	}
	if o.Sample == 0 {
		o.Sample = 5 * time.Second
	}
	begin := time.Now()
	s, err := startServer(ctx, o.Binary, soakBudgets(0))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	way, err := newProxied(ctx, s.extProc, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, way.close()) }()
	input, err := promptTokens(dialect.OpenAIChat{}, requestBody(true))
	if err != nil {
		return nil, err
	}
	response, err := promptTokens(dialect.OpenAIResponses{}, backgroundRequest)
	if err != nil {
		return nil, err
	}

	k := &soak{o: o, s: s, way: way, input: input, response: response, r: &SoakResult{Exchanges: make(map[string]int64)}, users: make(map[string]*Charges)}
	within, cancel := context.WithTimeout(ctx, o.Lasts)
	defer cancel()
	var busy sync.WaitGroup
	for i := range o.Workers {
		busy.Go(func() { k.work(within, rand.New(rand.NewPCG(o.Seed, uint64(i)))) })
	}
	busy.Go(func() { k.disturb(within) })
	k.watch(within)
	busy.Wait()
	k.r.Took = time.Since(begin)
	if ctx.Err() != nil {
		return k.r, ctx.Err()
	}
	last, err := s.settled(ctx)
	if err != nil {
		return k.r, errors.Join(append(k.faults, err)...)
	}
	k.r.Samples = append(k.r.Samples, last)
	err = k.check(ctx) // which may add faults
	return k.r, errors.Join(err, errors.Join(k.faults...), Flat(k.r.Samples), noErrors(s))
}

// soak is one that is under way.
type soak struct {
	o               SoakOptions
	s               *server
	way             *proxied
	input, response int64 // tokens of a chat's prompt, and of that of a response in the background

	responses  atomic.Int64 // in the background, so far
	restarting sync.RWMutex // held to read by exchanges that are to be exact
	mu         sync.Mutex
	r          *SoakResult
	users      map[string]*Charges // what each has sent
	faults     []error
}

func (k *soak) fault(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.faults) < 20 {
		k.faults = append(k.faults, err)
	}
}

// note counts a user's exchange and what of it reached the server.
func (k *soak) note(kind, user string, least, most int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.r.Exchanges[kind]++
	if k.users[user] == nil {
		k.users[user] = new(Charges)
	}
	for _, c := range []*Charges{k.charges(user), k.users[user]} {
		c.Least += least
		c.Most += most
	}
}

// charges are all of which a user's are a part.
func (k *soak) charges(user string) *Charges {
	if strings.HasPrefix(user, loosePrefix) {
		return &k.r.Loose
	}
	return &k.r.Exact
}

// kinds of exchanges, and how often they come.
var kinds = []struct {
	name   string
	n      int
	prefix string // of its users
	do     func(k *soak, ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error)
}{
	{"streamed", 30, "", (*soak).streamed},
	{"cut", 10, cutPrefix, (*soak).cut},
	{"client left", 10, "", (*soak).left},
	{"client left early", 4, loosePrefix, (*soak).leftEarly},
	{"upstream broke off", 6, "", (*soak).brokeOff},
	{"unary", 15, "", (*soak).unary},
	{"refused", 8, poorPrefix, (*soak).refused},
	{"bad request", 5, "", (*soak).bad},
	{"hostile answer", 8, loosePrefix, (*soak).hostile},
	{"slow reader", 4, loosePrefix, (*soak).slow},
	{"background", 6, "", (*soak).background},
	{"background, not fetched", 1, "", (*soak).notFetched},
}

// work makes one exchange after the other.
func (k *soak) work(ctx context.Context, rng *rand.Rand) {
	all := 0
	for _, kind := range kinds {
		all += kind.n
	}
	for ctx.Err() == nil {
		pick, i := rng.IntN(all), 0
		for pick >= kinds[i].n {
			pick -= kinds[i].n
			i++
		}
		k.restarting.RLock()
		// What has begun may end.
		user := fmt.Sprint(kinds[i].prefix, "user-", rng.IntN(soakUsers))
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), soakTimeout)
		least, most, err := kinds[i].do(k, one, rng, user)
		cancel()
		k.restarting.RUnlock()
		if err != nil {
			k.fault(fmt.Errorf("%s: %w", kinds[i].name, err))
			time.Sleep(100 * time.Millisecond)
		}
		k.note(kinds[i].name, user, least, most)
	}
}

func (k *soak) streamed(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	x, err := k.way.open(ctx, user)
	if err != nil {
		return 0, k.input, err
	}
	defer x.leave()
	if err = said(x, rng.IntN(40)); err == nil {
		err = x.finish()
	}
	return k.charge(x, err)
}

// charge is what a stream costs.
func (k *soak) charge(x stream, err error) (least, most int64, _ error) {
	least, most = x.reached()
	return k.input + least, k.input + most, err
}

func (k *soak) cut(ctx context.Context, _ *rand.Rand, user string) (least, most int64, err error) {
	x, err := k.way.open(ctx, user)
	if err != nil {
		return 0, k.input, err
	}
	defer x.leave()
	for range 20 {
		cut, err := x.say()
		if cut || err != nil {
			return k.charge(x, err)
		}
	}
	return k.charge(x, errors.New("it is not cut"))
}

func (k *soak) left(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	x, err := k.way.open(ctx, user)
	if err != nil {
		return 0, k.input, err
	}
	defer x.leave()
	return k.charge(x, said(x, rng.IntN(20)))
}

// leftEarly leaves before the answer begins, perhaps before the request is read.
func (k *soak) leftEarly(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(3000))*time.Microsecond)
	defer cancel()
	x, err := k.way.open(ctx, user)
	if err == nil {
		x.leave()
	}
	return 0, k.input, nil
}

func (k *soak) brokeOff(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	x, err := k.way.call(ctx, user, requestBody(true), nil)
	if err != nil {
		return 0, k.input, err
	}
	defer x.leave()
	if err := said(x, rng.IntN(20)); err != nil {
		return k.charge(x, err)
	}
	x.end(true)
	if _, err := io.ReadAll(x.body); err == nil {
		return k.charge(x, errors.New("an answer that broke off looks whole"))
	}
	return k.charge(x, nil)
}

func (k *soak) unary(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	output := 1 + rng.Int64N(200)
	answer := fmt.Sprintf(`{"id":"x","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
		k.input, output, k.input+output)
	x, err := k.way.call(ctx, user, requestBody(false), asJSON)
	if err != nil {
		return 0, k.input + output, err
	}
	defer x.leave()
	for part := range slices.Chunk([]byte(answer), 1+rng.IntN(len(answer))) {
		if err := x.send(string(part)); err != nil {
			return 0, k.input + output, err
		}
	}
	if err := x.ended(answer); err != nil {
		return 0, k.input + output, err
	}
	return k.input + output, k.input + output, nil
}

// status is an error unless a request was answered with a status.
func status(x *proxiedStream, err error, want int) error {
	x.leave()
	if refused, ok := errors.AsType[errRefused](err); !ok || refused.status != want {
		return fmt.Errorf("want status %d, got %w", want, cmpErr(err))
	}
	return nil
}

func (k *soak) refused(ctx context.Context, _ *rand.Rand, user string) (least, most int64, err error) {
	x, err := k.way.call(ctx, user, requestBody(true), nil)
	return 0, 0, status(x, err, 429)
}

func (k *soak) bad(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	body := []string{`{"model":`, `{"messages":[]}x`, `{"model":"a","model":"b","messages":[]}`, strings.Repeat("[", 100_000), "\x00\xff"}[rng.IntN(5)]
	x, err := k.way.call(ctx, user, body, nil)
	return 0, 0, status(x, err, 400)
}

// hostile answers with what no upstream should send. What it costs is for the server to say,
// but it cannot be more than what was sent has bytes, or than what is held.
func (k *soak) hostile(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	junk := make([]byte, 1+rng.IntN(20_000))
	for i := range junk {
		junk[i] = byte(rng.Uint32())
	}
	answers := []struct{ kind, body string }{
		{"text/event-stream", "data: " + string(junk) + "\n\n"},
		{"text/event-stream", "data: {\"choices\":[{\"index\":99999,\"delta\":{\"content\":[[[1]]]}}]}\n\n"},
		{"text/event-stream", ": " + strings.Repeat("x", 100_000) + "\n"},
		{"text/event-stream", strings.Repeat("\r", 5000)},
		{"text/event-stream", "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":-5,\"completion_tokens\":1.5e2}}\n\n"},
		{"application/json", strings.Repeat(`{"choices":`, 3000)},
		{"application/json", string(junk)},
		{"text/html", string(junk)},
		{"", "?"},
	}
	a := answers[rng.IntN(len(answers))]
	streamed := a.kind == "text/event-stream"
	x, err := k.way.call(ctx, user, strings.Replace(requestBody(streamed), "{", `{"max_tokens":500,`, 1), func(w http.ResponseWriter) {
		w.Header()["Content-Type"] = []string{a.kind}
	})
	most = k.input + max(500, int64(len(a.body)))
	if err != nil {
		return 0, most, nil // Envoy may refuse it
	}
	defer x.leave()
	if x.send(a.body) == nil {
		x.end(rng.IntN(4) == 0)
	}
	_, _ = io.ReadAll(x.body) // whatever comes
	return 0, most, nil
}

// slow reads a long answer slowly, and gives up.
func (k *soak) slow(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	x, err := k.way.call(ctx, user, requestBody(true), nil)
	if err != nil {
		return 0, k.input, err
	}
	burst := strings.Repeat(event, 100)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 20 {
			if x.send(burst) != nil {
				return
			}
		}
	}()
	defer func() {
		x.hangUp()
		<-sent // it ends when the upstream is cancelled; only then may the stream end
		x.leave()
	}()
	most = k.input + 20*100
	for range 5 {
		if _, err := io.ReadFull(x.body, make([]byte, len(event)*(1+rng.IntN(10)))); err != nil {
			return k.input, most, err
		}
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
	}
	return k.input, most, nil
}

// disturb changes the file, and starts Envoy again now and then, with nothing under way
// whose cost would not be known.
func (k *soak) disturb(ctx context.Context) {
	begin := time.Now()
	reload := time.NewTicker(min(reloadEvery, k.o.Lasts/4))
	defer reload.Stop()
	restart := time.NewTicker(max(k.o.Lasts/5, 7*time.Second))
	defer restart.Stop()
	for turn := 1; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-reload.C:
			if err := k.s.configure(soakBudgets(turn)); err != nil {
				k.fault(err)
			}
			k.r.Reloads++
		case <-restart.C:
			k.o.Logf("    Envoy is started again after %.0f s", time.Since(begin).Seconds())
			k.breakStreams(ctx)
			k.restarting.Lock()
			err := k.way.restart(context.WithoutCancel(ctx))
			k.restarting.Unlock()
			if err != nil {
				k.fault(fmt.Errorf("starting Envoy again: %w", err))
				return
			}
			k.r.Restarts++
		}
	}
}

// breakStreams leaves some streams open that the restart of Envoy breaks.
func (k *soak) breakStreams(ctx context.Context) {
	for range 10 {
		x, err := k.way.open(context.WithoutCancel(ctx), "broken")
		if err != nil {
			k.fault(err)
			return
		}
		err = said(x, 3)
		least, most, err := k.charge(x, err)
		if err != nil {
			k.fault(err)
		}
		k.note("Envoy went away", "broken", least, most)
		context.AfterFunc(ctx, x.leave)
	}
}

// watch takes samples until ctx ends.
func (k *soak) watch(ctx context.Context) {
	tick := time.NewTicker(k.o.Sample)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		x, err := k.s.sample(context.WithoutCancel(ctx))
		if err != nil {
			k.fault(err)
			return
		}
		k.r.Samples = append(k.r.Samples, x)
	}
}

// check compares the ledger with what reached the server.
func (k *soak) check(ctx context.Context) error {
	balances, err := k.s.balances(ctx)
	if err != nil {
		return err
	}
	var all, sum int64
	for _, b := range balances {
		if b.Held != 0 {
			return fmt.Errorf("limit %s %v: %d are still held", b.Name, b.Subject, b.Held)
		}
		switch b.Name {
		case "all":
			all = b.Spent
		case "each":
			user := b.Subject["user"]
			sum += b.Spent
			k.charges(user).Charged += b.Spent
			if c := k.users[user]; c != nil {
				c.Charged = b.Spent
			} else {
				k.fault(fmt.Errorf("there is a counter of %q, who has sent nothing", user))
			}
		}
	}
	outcomes, logged := k.s.log.settled(all)
	if all != sum || all != logged {
		err = fmt.Errorf("the sum of all is %d, of each %d, of the log %d", all, sum, logged)
	}
	for user, c := range k.users {
		if err := c.fault(user); err != nil {
			k.fault(err)
		}
	}
	err = errors.Join(err, k.r.Exact.fault("known charges"), k.r.Loose.fault("other charges"))
	m, metricsErr := k.s.metrics(ctx)
	if metricsErr == nil && k.r.Reloads > 0 && (m[`tokenbudget_config_reloads_total{result="ok"}`] == 0 || m[`tokenbudget_config_reloads_total{result="failed"}`] > 0) {
		metricsErr = errors.New("the changed files were not loaded, or not all")
	}
	err = errors.Join(err, metricsErr)
	k.o.Logf("    known charges %+v, others %+v; outcomes %v", k.r.Exact, k.r.Loose, outcomes)
	for _, name := range slices.Sorted(maps.Keys(k.r.Exchanges)) {
		k.o.Logf("    %d times %s", k.r.Exchanges[name], name)
	}
	return err
}
