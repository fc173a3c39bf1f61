package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// documentedRow is a row of the tables in docs/paths.md.
var documentedRow = regexp.MustCompile("(?m)^\\| `(\\S+) (\\S+)`( with a body| without a body|) \\| (?:`([^`]+)`|) ?\\| ([^|]+) \\| ([^|]*)\\|$")

// TestDocumentedPaths sends each request of docs/paths.md, byte for byte, through Envoy with
// the rendered configuration. What is refused must not reach the upstream.
func TestDocumentedPaths(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: standin.NoPause})
	docs, err := os.ReadFile("../../docs/paths.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range documentedRow.FindAllStringSubmatch(string(docs), -1) {
		want := strings.TrimSpace(row[6])
		if want == "" {
			want = row[5]
		}
		if want == "not sent" {
			continue // what HTTP/1.1 cannot say
		}
		id := fmt.Sprint("path-", i)
		got := becomes(t, r, id, row[1], row[2], row[3], row[4])
		if got != want {
			t.Errorf("%s %s%s %s: %s, but the table says %s", row[1], row[2], row[3], row[4], got, want)
		}
	}
}

// becomes sends one request and says what becomes of it.
func becomes(t *testing.T, r *road, id, method, path, body, header string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(r.url, "http://"), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: example.com\r\nx-standin-id: %s\r\nx-user: %s\r\nconnection: close%s\r\n", method, path, id, id,
		map[bool]string{true: ", upgrade"}[strings.HasPrefix(header, "upgrade:")])
	if header != "" {
		fmt.Fprintf(&b, "%s\r\n", header)
	}
	bare := method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "DELETE"
	if bare && body != " with a body" || body == " without a body" {
		b.WriteString("\r\n")
	} else {
		text := `{"model":"gpt-4o","max_tokens":1,"messages":[{"role":"user","content":"hi"}],"prompt":"hi","input":"hi"}`
		fmt.Fprintf(&b, "content-length: %d\r\n\r\n%s", len(text), text)
	}
	if _, err := io.WriteString(conn, b.String()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "broken off"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if _, reached := r.up.Exchange(id); !reached {
		return strconv.Itoa(resp.StatusCode)
	}
	if resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnsupportedMediaType {
		return "refused, but it reached the upstream"
	}
	if _, err := r.finished(id); err != nil {
		t.Fatal(err)
	}
	for _, line := range r.logs.FilterMessage("exchange").All() {
		if fields := line.ContextMap(); fields["user"] == id && fields["api"] != "" && fields["outcome"] != "bypassed" {
			return fmt.Sprint("metered: ", fields["api"])
		}
	}
	return "passes"
}

// TestUpgrades: also an Envoy that lets connections change to websockets asks the server
// first, which refuses, unless the path is set free, so that the filter is off there.
func TestUpgrades(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: standin.NoPause})
	bootstrap, err := envoy.BootstrapYAML(envoy.Options{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: r.up.URL(), ExtProc: r.extProc, PassPaths: []string{"/free/*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	setting := regexp.MustCompile(`(?m)^( +)normalize_path: true$`)
	bootstrap = setting.ReplaceAll(bootstrap, []byte("${1}upgrade_configs: [{upgrade_type: websocket}]\n$0"))
	if !strings.Contains(string(bootstrap), "upgrade_configs") {
		t.Fatal("there is no place for upgrade_configs")
	}
	proxy, err := envoyrun.Start(t.Context(), envoyrun.Options{Bootstrap: bootstrap})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	addr, err := proxy.ListenerAddr(t.Context(), envoy.ListenerName)
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + addr
	for i, path := range []string{"/v1/realtime", "/v1/responses", "/v1/chat/completions"} {
		if got := becomes(t, r, fmt.Sprint("upgrade-", i), "GET", path, "", "upgrade: websocket"); got != "403" {
			t.Errorf("%s: %s", path, got)
		}
	}
	close(r.tap.of("free").returned) // the server does not see it
	if got := becomes(t, r, "free", "GET", "/free/realtime", "", "upgrade: websocket"); got != "passes" {
		t.Errorf("a path that is free: %s", got)
	}
}
