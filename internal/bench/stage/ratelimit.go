package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// RateLimitVersion is the version of github.com/envoyproxy/ratelimit that is measured. The project tags no releases.
const RateLimitVersion = "v1.4.1-0.20260122083618-3fb702589d36"

const (
	rateLimitStart  = time.Minute      // bounds each start
	rateLimitAnswer = 20 * time.Second // bounds each question to it
	rateLimitDomain = "llm"
	maxRateLimitSay = 64 << 10 // bytes of an answer
)

// RateLimitPrograms are what a [RateLimit] runs.
type RateLimitPrograms struct {
	service string
	redis   envoyrun.Program
}

// InstallRateLimit builds envoyproxy/ratelimit by the Go module proxy, once, into the user's cache directory, and
// finds a Redis: on PATH, or else in Debian's package redis-server, which is unpacked there.
func InstallRateLimit(ctx context.Context) (p RateLimitPrograms, err error) {
	if p.redis, err = envoyrun.DebianProgram(ctx, "redis-server"); err != nil {
		return p, err
	}
	p.service, err = envoyrun.GoProgram(ctx, "ratelimit", "github.com/envoyproxy/ratelimit/src/service_cmd", RateLimitVersion)
	return p, err
}

// RateLimitConfig is what it is measured with: the budgets of [Config], as far as it has such a thing, none of which is ever
// used up. Its numbers have 32 bits.
const RateLimitConfig = `domain: ` + rateLimitDomain + `
descriptors:
  - {key: ` + BudgetForAll + `, value: all, rate_limit: {unit: month, requests_per_unit: 4294967295}}
  - {key: team-day, rate_limit: {unit: day, requests_per_unit: 4294967295}}
  - {key: user-minute, rate_limit: {unit: minute, requests_per_unit: 4294967295}}
  - {key: user-requests, rate_limit: {unit: minute, requests_per_unit: 4294967295}}
`

// RateLimit is the real service, and the Redis in which it counts.
type RateLimit struct {
	*Process
	Redis *Process
	GRPC  string // where it listens, host:port
	http  string
}

// StartRateLimit runs both, with [RateLimitConfig], in a folder that is their own. Redis writes nothing to disk, and the service
// keeps no statistics.
func StartRateLimit(ctx context.Context, programs RateLimitPrograms, dir string) (r *RateLimit, err error) {
	config := filepath.Join(dir, "ratelimit", "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(config, "config.yaml"), []byte(RateLimitConfig), 0o600); err != nil {
		return nil, err
	}
	var addrs [4]string
	for i := range addrs {
		if addrs[i], err = envoyrun.FreeAddress(); err != nil {
			return nil, err
		}
	}
	redis, debug := addrs[0], addrs[1]
	r = &RateLimit{GRPC: addrs[2], http: addrs[3]}
	defer func() {
		if err != nil {
			r, err = nil, errors.Join(err, r.Close())
		}
	}()
	host, port, err := net.SplitHostPort(redis)
	if err != nil {
		return r, err
	}
	r.Redis, err = startLogged(ctx, "Redis", programs.redis.Command("--bind", host, "--port", port, "--save", "", "--appendonly", "no"), dir,
		func(ctx context.Context) error { return redisServes(ctx, redis) })
	if err != nil {
		return r, err
	}
	cmd := exec.Command(programs.service)
	cmd.Env, err = rateLimitEnv(dir, redis, map[string]string{"": r.http, "GRPC_": r.GRPC, "DEBUG_": debug})
	if err != nil {
		return r, err
	}
	r.Process, err = startLogged(ctx, "ratelimit", cmd, dir, func(ctx context.Context) error { return alive(ctx, "http://"+r.http+"/healthcheck") })
	return r, err
}

// rateLimitEnv has the service's settings, which are environment variables, and no others: a user's own would be settings,
// too. Listen has addresses by what their settings begin with.
func rateLimitEnv(dir, redis string, listen map[string]string) ([]string, error) {
	env := []string{
		"RUNTIME_ROOT=" + dir, "RUNTIME_SUBDIRECTORY=ratelimit", "RUNTIME_WATCH_ROOT=false", "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED=true",
		"REDIS_SOCKET_TYPE=tcp", "REDIS_URL=" + redis, "USE_STATSD=false", "DISABLE_STATS=true", "LOG_LEVEL=warn",
	}
	for name, addr := range listen {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		env = append(env, name+"HOST="+host, name+"PORT="+port)
	}
	return env, nil
}

// Close ends the service and then its Redis.
func (r *RateLimit) Close() error {
	if r == nil {
		return nil
	}
	return errors.Join(r.Process.Close(), r.Redis.Close())
}

// startLogged starts a program that ends by SIGTERM, with a log of its own in a folder, and waits until it serves.
func startLogged(ctx context.Context, name string, cmd *exec.Cmd, dir string, serves func(context.Context) error) (p *Process, err error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the program has its own
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if p, err = start(name, cmd); err != nil {
		return nil, err
	}
	p.dies = true // if it is early
	ctx, cancel := context.WithTimeout(ctx, rateLimitStart)
	defer cancel()
	for {
		last := serves(ctx)
		if last == nil {
			return p, nil
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(log.Name()) // what there is of it
			return nil, errors.Join(fmt.Errorf("%s does not serve: %w; its log ends with: %s", name, last, text[max(0, len(text)-2000):]), p.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// redisServes asks a Redis whether it is there.
func redisServes(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, rateLimitAnswer)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(rateLimitAnswer)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 100)).ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = fmt.Errorf("it answers %q", line)
	}
	return err
}

// Limited is what has been counted for all.
type Limited struct {
	Tokens int64         // in this window
	Left   time.Duration // of this window
}

// Limited asks the service, as Envoy does, but counts nothing by that.
func (r *RateLimit) Limited(ctx context.Context) (l Limited, err error) {
	ctx, cancel := context.WithTimeout(ctx, rateLimitAnswer)
	defer cancel()
	const question = `{"domain":"` + rateLimitDomain + `","descriptors":[{"entries":[{"key":"` + BudgetForAll + `","value":"all"}],"hitsAddend":"0"}]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.http+"/json", strings.NewReader(question))
	if err != nil {
		return l, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return l, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRateLimitSay))
	if err != nil {
		return l, err
	}
	if resp.StatusCode != http.StatusOK {
		return l, fmt.Errorf("ratelimit answers with %s: %.200s", resp.Status, body)
	}
	return parseLimited(body)
}

// parseLimited reads an answer of the service (envoy.service.ratelimit.v3.RateLimitResponse, as JSON) about one limit.
func parseLimited(body []byte) (l Limited, err error) {
	var answer struct {
		Statuses []struct {
			Code         string `json:"code"`
			CurrentLimit *struct {
				PerUnit uint32 `json:"requestsPerUnit"`
			} `json:"currentLimit"`
			Remaining uint32 `json:"limitRemaining"` // absent: 0
			Reset     string `json:"durationUntilReset"`
		} `json:"statuses"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return l, fmt.Errorf("what ratelimit says of its limits: %w", err)
	}
	if len(answer.Statuses) != 1 || answer.Statuses[0].CurrentLimit == nil {
		return l, fmt.Errorf("ratelimit knows no such limit, it says %.200q", body)
	}
	s := answer.Statuses[0]
	if l.Left, err = time.ParseDuration(s.Reset); err != nil {
		return l, fmt.Errorf("what ratelimit says of its limits: %w", err)
	}
	if l.Tokens = int64(s.CurrentLimit.PerUnit) - int64(s.Remaining); s.Code != "OK" || l.Tokens < 0 || l.Left < 0 {
		return Limited{}, fmt.Errorf("of %d tokens ratelimit has %d left for %v and says %.20q", s.CurrentLimit.PerUnit, s.Remaining, l.Left, s.Code)
	}
	return l, nil
}
