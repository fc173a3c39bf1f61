package budget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The kill campaign. The test binary runs itself as a child, which reserves, spends and
// settles on several goroutines and tells its parent over a pipe, a line each, what it
// is about to do and what has been acknowledged. The parent kills it at a random moment
// (SIGKILL), reads the store, and compares: no counter may have less than what was
// acknowledged, nor more than that and the holds that were open. Then the next child
// goes on with the same folder.
const (
	killMode  = "BUDGET_TEST_KILL_MODE"  // in the child: what it is to do, see runVictim
	killDir   = "BUDGET_TEST_KILL_DIR"   // in the child: the folder
	killCount = "BUDGET_TEST_KILL_COUNT" // how many kills; 1000 for the campaign
)

// What the child tells, one line each: a letter, the reservation's number, arguments.
const (
	lineHold    = "H" // user, input, output: Reserve is about to be called
	lineRefused = "F" // and has granted nothing
	lineForward = "R" // and has granted, so that the request is forwarded
	lineGrow    = "G" // output: Spend is about to be called
	lineDeliver = "D" // output: Spend and Wait have permitted it
	lineSettle  = "S" // input, output: Settle is about to be called
	lineAck     = "A" // and is acknowledged
)

const killStep = 16 // growth, in tokens

func killLimits() []Limit {
	return []Limit{
		{Name: "all", Amount: 1 << 50, Period: Total},
		{Name: "in", Unit: InputTokens, Amount: 1 << 50, Period: Year},
		{Name: "user", Unit: OutputTokens, Amount: 1 << 50, Period: Total, Per: []string{"user"}},
		{Name: "calls", Unit: Requests, Amount: 1 << 50, Period: Total, Per: []string{"user"}},
		{Name: "tight", Amount: 40_000, Period: Minute},
		{Name: "rolling", Amount: 1 << 50, Period: Period(time.Hour), Per: []string{"user"}},
		{Name: "rolling tight", Amount: 2_400_000, Period: Period(time.Hour)},
	}
}

// slowStore takes its time, so that a kill finds more that is not written.
type slowStore struct{ Store }

func (s slowStore) Put(ctx context.Context, e []Entry) error {
	time.Sleep(time.Millisecond)
	return s.Store.Put(ctx, e)
}

// runVictim is the child. It runs until it is killed. Words of its mode: an [Fsync];
// slow; early: it acknowledges before the store has done so; ahead: it delivers text before
// the store has its growth. The parent must notice the last two.
func runVictim(mode, dir string) error {
	// A minute every 20 ms, and from child to child, too: or a limit that is used up
	// would leave the later ones little to do.
	now := func() time.Time {
		return noon.Add(time.Duration(time.Now().UnixMilli()%1e9) * 3 * time.Second)
	}
	words := strings.Fields(mode)
	file, err := OpenFile(dir, WithClock(now), WithFsync(Fsync(words[0])), WithReport(func(err error) {
		if !errors.Is(err, ErrTorn) {
			fmt.Fprintln(os.Stderr, err)
		}
	}))
	if err != nil {
		return err
	}
	file.rotateAt = 8 << 10 // snapshots all the time
	file.full = file.rotateAt
	var store Store = file
	if strings.Contains(mode, "slow") {
		store = slowStore{file}
	}
	early, ahead := strings.Contains(mode, "early"), strings.Contains(mode, "ahead")
	l, err := New(context.Background(), Options{Now: now, Store: store, GrowthStep: killStep, Limits: killLimits(),
		SyncInterval: 5 * time.Millisecond, OnStoreError: func(err error) { fmt.Fprintln(os.Stderr, err) }})
	if err != nil {
		return err
	}
	go func() { _ = l.Run(context.Background()) }()
	tell := func(letter string, id uint64, args ...any) {
		fmt.Fprintf(os.Stdout, "%s %d%s\n", letter, id, strings.TrimSuffix(" "+fmt.Sprintln(args...), "\n")) // one write
	}
	var ids atomic.Uint64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for {
				serveOne(l, ids.Add(1), early, ahead, tell)
			}
		})
	}
	workers.Wait()
	return nil
}

// serveOne is one request in the child.
func serveOne(l *Ledger, id uint64, early, ahead bool, tell func(string, uint64, ...any)) {
	ctx := context.Background()
	user := rand.IntN(4)
	q := ask(int64(rand.IntN(100)), int64(1+rand.IntN(30)), "user", strconv.Itoa(user))
	tell(lineHold, id, user, q.Input, q.Output)
	r, _, err := l.Reserve(ctx, q)
	if err != nil || r == nil {
		tell(lineRefused, id)
		return
	}
	tell(lineForward, id)
	output := int64(0)
	for range rand.IntN(6) {
		output += int64(rand.IntN(20))
		tell(lineGrow, id, output)
		if _, ok := r.Spend(output); !ok || !ahead && r.Wait(ctx) != nil {
			break
		}
		tell(lineDeliver, id, output)
	}
	a := Amount{Input: q.Input + int64(rand.IntN(3)), Output: int64(rand.IntN(120))} // debts, too
	tell(lineSettle, id, a.Input, a.Output)
	r.Settle(a)
	if early || r.Wait(ctx) == nil {
		tell(lineAck, id)
	}
}

// told is what the parent knows of one reservation.
type told struct {
	user      string
	forwarded bool
	settling  bool
	done      bool   // acknowledged, or refused
	nothing   bool   // refused
	hold      Amount // at most
	delivered Amount // at least
	settled   Amount
}

// bounds are what one counter may have been given by a child.
type bounds struct{ least, most int64 }

// parseTold reads the child's lines; the last may be cut off.
func parseTold(out []byte) (map[string]*told, error) {
	all := make(map[string]*told)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") {
			break
		}
		if len(f) < 2 {
			return nil, fmt.Errorf("the child says %q", line)
		}
		number := func(i int) int64 {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			return n
		}
		t := all[f[1]]
		switch f[0] {
		case lineHold:
			all[f[1]] = &told{user: f[2], hold: Amount{number(3), number(4)}}
		case lineRefused:
			t.done, t.nothing = true, true
		case lineForward:
			t.forwarded = true
			t.delivered.Input = t.hold.Input
		case lineGrow:
			t.hold.Output = max(t.hold.Output, number(2)) + killStep
		case lineDeliver:
			t.delivered.Output = number(2)
		case lineSettle:
			t.settling, t.settled = true, Amount{number(2), number(3)}
		case lineAck:
			t.done = true
		default:
			return nil, fmt.Errorf("the child says %q", line)
		}
	}
	return all, nil
}

// in returns what the counter in unit u may have of t.
func (t *told) in(u Unit) bounds {
	switch {
	case t.nothing:
		return bounds{}
	case t.done:
		n := t.settled.In(u)
		return bounds{n, n}
	}
	b := bounds{0, t.hold.In(u)}
	if t.forwarded {
		b.least = t.delivered.In(u)
	}
	if t.settling {
		b.least, b.most = min(b.least, t.settled.In(u)), max(b.most, t.settled.In(u))
	}
	return b
}

// totals sums the entries of a store up by limit and subject. The windows of a limit
// count together, since the parent does not know which one admitted what.
func totals(entries []Entry) map[string]int64 {
	m := make(map[string]int64)
	for _, e := range entries {
		subject, _, _ := strings.Cut(e.Key.Subject, "%=") // of a cell
		m[e.Key.Limit+" "+subject] += e.Used
	}
	return m
}

// killOnce lets a child run and kills it. It returns what does not fit, and how many
// settlements were acknowledged and reservations open.
func killOnce(t *testing.T, dir, mode string) (faults []string, acknowledged, open int) {
	t.Helper()
	before, err := ReadFile(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilled$")
	child.Env = append(os.Environ(), killMode+"="+mode, killDir+"="+dir)
	var complaints bytes.Buffer
	child.Stderr = &complaints
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.CopyN(&out, pipe, 1); err != nil {
		t.Fatalf("the child says nothing: %v\n%s", err, complaints.String())
	}
	time.AfterFunc(time.Duration(rand.Int64N(int64(120*time.Millisecond))), func() { _ = child.Process.Kill() })
	if _, err := io.Copy(&out, pipe); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed, which is an error
	if complaints.Len() > 0 {
		t.Errorf("the child complains: %s", complaints.String())
	}
	all, err := parseTold(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	after, err := ReadFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bounds)
	for _, r := range all {
		for _, l := range killLimits() {
			key := l.Name + " "
			if l.Per != nil {
				key += "user=" + r.user
			}
			b, add := want[key], r.in(l.Unit)
			want[key] = bounds{b.least + add.least, b.most + add.most}
		}
		if r.done && !r.nothing {
			acknowledged++
		} else if !r.done {
			open++
		}
	}
	had, has := totals(withoutDropped(before, after)), totals(after)
	for key, b := range want {
		if got := has[key] - had[key]; got < b.least || got > b.most {
			faults = append(faults, fmt.Sprintf("%q has %d more; acknowledged are %d, with open holds at most %d", key, got, b.least, b.most))
		}
	}
	return faults, acknowledged, open
}

// withoutDropped is before without the windows that after lacks because they ended so
// long ago that the store need not keep them.
func withoutDropped(before, after []Entry) []Entry {
	has := make(map[Key]bool, len(after))
	var newest int64 // end of a window of the limit per minute
	for _, e := range after {
		has[e.Key] = true
		if e.Key.Limit == "tight" {
			newest = max(newest, e.Key.End)
		}
	}
	return slices.DeleteFunc(before, func(e Entry) bool {
		return !has[e.Key] && e.Key.End != 0 && e.Key.End < newest-int64(keepLeast/time.Second)/2 // the child has gone on meanwhile
	})
}

// TestKilled is the kill campaign, in short. BUDGET_TEST_KILL_COUNT=1000 makes it long.
func TestKilled(t *testing.T) {
	if mode := os.Getenv(killMode); mode != "" {
		if err := runVictim(mode, os.Getenv(killDir)); err != nil {
			t.Fatal(err)
		}
	}
	kills := 36
	if n, err := strconv.Atoi(os.Getenv(killCount)); err == nil {
		kills = n
	}
	modes := []string{"group", "os", "wait", "group slow"}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			acknowledged, open := 0, 0
			for i := range kills / len(modes) {
				faults, a, o := killOnce(t, dir, mode)
				acknowledged, open = acknowledged+a, open+o
				if len(faults) > 0 {
					t.Fatalf("kill %d:\n%s", i+1, strings.Join(faults, "\n"))
				}
			}
			s := openStore(t, dir)
			t.Logf("%d kills, %d settlements acknowledged, %d reservations open, %d records", kills/len(modes), acknowledged, open, s.next-1)
			if acknowledged == 0 || open == 0 || s.next < 10 {
				t.Error("that tested nothing")
			}
		})
	}
	// A child that does not wait must be found out, or the above shows nothing.
	for _, mode := range []string{"group slow early", "group slow ahead"} {
		t.Run("control "+mode, func(t *testing.T) {
			const most = 60
			dir := t.TempDir()
			for i := range most {
				if faults, _, _ := killOnce(t, dir, mode); len(faults) > 0 {
					t.Logf("found out by kill %d: %s", i+1, faults[0])
					return
				}
			}
			t.Errorf("%d kills have not found out a child that does not wait for the store", most)
		})
	}
}
