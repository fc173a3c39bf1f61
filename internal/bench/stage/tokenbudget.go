package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// buildTimeout bounds the building of tokenbudget.
const buildTimeout = 5 * time.Minute

// Build builds tokenbudget from the tree of the working directory, as make build does, into a folder.
func Build(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	file := filepath.Join(dir, "tokenbudget")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", file, "github.com/tokenbudget/tokenbudget/cmd/tokenbudget")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building tokenbudget: %w\n%s", err, out)
	}
	return file, nil
}

// Config is what tokenbudget is measured with: a budget for all, one for each team, and two for each user, none of
// which is ever used up; balances in files; a log line for each exchange. 256 prompts of 256 KB at once keep two processors
// busy for nearly a second, the default of max_delay: beyond it some would be turned away.
const Config = `listen: {extproc: "127.0.0.1:0", admin: "127.0.0.1:0"}
identity:
  team: [{header: x-team}]
  user: [{header: x-user}]
store:
  file: {dir: ./data, fsync: group}
budgets:
  - {name: ` + BudgetForAll + `, limit: 1000B tokens, period: month}
  - {name: team-day, per: team, limit: 1000B tokens, period: day}
  - {name: user-minute, per: user, limit: 1000B tokens, period: minute}
  - {name: user-requests, per: user, limit: 1000M requests, period: minute}
timeouts: {drain: 1s}
overload: {max_delay: 10s}
`

// BudgetForAll is the budget in which everything counts.
const BudgetForAll = "org-month"

// Tokenbudget is the real server, the binary that users run.
type Tokenbudget struct {
	*Process
	ExtProc string // where it listens, host:port
	admin   string
	logFile string
}

// StartTokenbudget runs a binary of tokenbudget, with [Config], in a folder that exists and is its own: there are
// its store and its log.
func StartTokenbudget(ctx context.Context, name, binary, dir string) (t *Tokenbudget, err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	t = &Tokenbudget{logFile: filepath.Join(dir, "log.jsonl")}
	if err := os.WriteFile(filepath.Join(dir, "tokenbudget.yaml"), []byte(Config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(t.logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the server has its own
	cmd := exec.Command(binary, "serve", "-config", "tokenbudget.yaml")
	cmd.Dir, cmd.Stderr = dir, log
	if t.Process, err = start(name, cmd); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t, err = nil, errors.Join(err, t.Close())
		}
	}()
	giveUp := time.Now().Add(2 * time.Minute)
	for t.ExtProc == "" {
		text, err := os.ReadFile(t.logFile)
		if err != nil {
			return t, err
		}
		for line := range strings.Lines(string(text)) {
			var entry struct{ Msg, ExtProc, Admin string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				t.ExtProc, t.admin = entry.ExtProc, entry.Admin
			}
		}
		switch {
		case t.ExtProc != "":
		case time.Now().After(giveUp):
			return t, fmt.Errorf("%s does not serve; its log: %.2000s", name, text)
		case ctx.Err() != nil:
			return t, ctx.Err()
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
	return t, nil
}

// Charged is what the budget for all has been charged.
type Charged struct {
	WindowStart time.Time `json:"window_start"`
	Spent       int64     `json:"spent"` // tokens, without what is held
	Held        int64     `json:"held"`
}

// Charged asks the server. It is zero as long as nobody has asked for anything.
func (t *Tokenbudget) Charged(ctx context.Context) (c Charged, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.admin+"/v1/budgets", nil)
	if err != nil {
		return c, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	var all struct {
		Budgets []struct {
			Name string `json:"name"`
			Charged
		} `json:"budgets"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return c, fmt.Errorf("what %s says of its budgets: %w", t.Name, err)
	}
	for _, b := range all.Budgets {
		if b.Name == BudgetForAll {
			return b.Charged, nil
		}
	}
	return c, nil
}

// Logged is what a log says of exchanges: how many there were by their outcome and where their figures come from.
type Logged struct {
	Outcomes map[string]int // completed, aborted, …: the few that there are
	Counted  int            // completed ones whose output was not reported by the upstream
	Output   int64          // tokens of those that completed
}

// Log reads the log of the server from an offset on, and returns the next one.
func (t *Tokenbudget) Log(from int64) (l Logged, next int64, err error) {
	l.Outcomes = make(map[string]int)
	f, err := os.Open(t.logFile)
	if err != nil {
		return l, from, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return l, from, err
	}
	next = from
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return l, next, nil
		} else if err != nil {
			return l, next, err
		}
		next += int64(len(line))
		var entry struct {
			Msg          string `json:"msg"`
			Outcome      string `json:"outcome"`
			OutputSource string `json:"output_source"`
			OutputTokens int64  `json:"output_tokens"`
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return l, next, fmt.Errorf("the log of %s: %w", t.Name, err)
		}
		if entry.Msg != "exchange" {
			continue
		}
		l.Outcomes[entry.Outcome]++
		if entry.Outcome == "completed" {
			l.Output += entry.OutputTokens
			if entry.OutputSource != "reported" {
				l.Counted++
			}
		}
	}
}
