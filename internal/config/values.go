package config

import (
	"cmp"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // time zones must not depend on what the machine has installed
	"unicode"

	"github.com/tokenbudget/tokenbudget/budget"
)

// The parsers of single values. Their errors are mistakes without a position and do
// not repeat the whole text, which the decoder does where that is safe.

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, mistake("", "it must be true or false")
}

// oneOf accepts the given words.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(s string) (T, error) {
		names := make([]string, len(words))
		for i, w := range words {
			if s == string(w) {
				return w, nil
			}
			names[i] = string(w)
		}
		return "", mistake(didYouMean(s, names), "it must be %s", strings.Join(names, " or "))
	}
}

// duration accepts times of [time.ParseDuration] between least and most.
func duration(least, most time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		t, err := time.ParseDuration(s)
		if err != nil {
			return 0, mistake("write it like 500ms, 30s, 5m or 1h30m", "it is not a length of time")
		}
		if t < least || t > most {
			return 0, mistake("", "it must be between %s and %s", brief(least), brief(most))
		}
		return t, nil
	}
}

// brief writes a duration without the zeros at its end: 1h, not 1h0m0s.
func brief(t time.Duration) string {
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size accepts sizes of ParseSize between least and most bytes.
func size(least, most int64) func(string) (int64, error) {
	return func(s string) (int64, error) {
		n, err := ParseSize(s)
		if err == nil && (n < least || n > most) {
			err = mistake("", "it must be between %d and %d bytes", least, most)
		}
		return n, err
	}
}

// maxSocket is the longest path, in bytes, that a Unix socket can have on every
// system we build for: 104 with its final zero (macOS; Linux has 108).
const maxSocket = 103

const addressHint = "write host:port such as 127.0.0.1:9002, or unix:/path"

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// parseAddress accepts what a server can listen on. Port 0 leaves the choice to the
// system.
func parseAddress(s string) (string, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case !strings.HasPrefix(path, "/"):
			return "", mistake("write unix:/path", "the path of a socket must be absolute")
		case len(path) > maxSocket:
			return "", mistake("", "the path of a socket has at most %d bytes", maxSocket)
		case hasControl(path):
			return "", mistake("", "the path of a socket has no control characters")
		}
		return s, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", mistake(addressHint, "it is not an address")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", mistake(addressHint, "the port must be a number up to 65535")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostName.MatchString(host) {
		return "", mistake(addressHint, "the host is neither an IP address nor a name")
	}
	return s, nil
}

// parseAdminAddress accepts none besides addresses, and returns "" for it.
func parseAdminAddress(s string) (string, error) {
	if s == "none" {
		return "", nil
	}
	if s == "" {
		return "", mistake("write none to do without it", "it is empty")
	}
	return parseAddress(s)
}

// Loopback says whether only this machine can reach an address, host:port or unix:/path. Names other than localhost may mean anything.
func Loopback(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, _ := netip.ParseAddr(host) // of a name, the zero Addr, which is no loopback
	return ip.Unmap().IsLoopback()
}

// parseToken accepts a secret that fits into an HTTP header.
func parseToken(s string) (string, error) {
	switch {
	case s == "":
		return "", mistake("set it, or remove the key: without a token nobody may write", "it is empty")
	case len(s) > 1024:
		return "", mistake("", "it is longer than 1024 bytes")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", mistake("a line break at the end is the usual cause", "it may only have printable ASCII characters without spaces")
	}
	return s, nil
}

func parseDir(s string) (string, error) {
	switch {
	case strings.TrimSpace(s) == "":
		return "", mistake("write . for the working directory", "it is empty")
	case hasControl(s):
		return "", mistake("", "it has control characters")
	}
	return s, nil
}

// parseFile accepts the path of a file.
func parseFile(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", mistake("name a file, or remove the key", "it is empty")
	}
	return parseDir(s)
}

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)

// parseName accepts names of budgets and identities.
func parseName(s string) (string, error) {
	if !nameForm.MatchString(s) {
		return "", mistake("", "a name has 1 to 64 characters of a-z A-Z 0-9 . _ -")
	}
	return s, nil
}

// maxClaim bounds names of claims and headers and globs, in bytes.
const maxClaim = 256

func parseClaim(s string) (string, error) {
	switch {
	case s == "" || strings.TrimSpace(s) != s || hasControl(s):
		return "", mistake("", "it is not the name of a claim")
	case len(s) > maxClaim:
		return "", mistake("", "it is longer than %d bytes", maxClaim)
	}
	return s, nil
}

// headerForm is a token of RFC 9110, section 5.6.2.
var headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// keyHeaders carry credentials. The value of an identity is logged, stored and shown.
var keyHeaders = map[string]bool{
	"authorization": true, "proxy-authorization": true, "cookie": true,
	"api-key": true, "x-api-key": true, "x-goog-api-key": true, "x-amz-security-token": true,
}

// framingHeaders belong to HTTP itself.
var framingHeaders = map[string]bool{
	"host": true, "content-length": true, "content-type": true, "content-encoding": true, "transfer-encoding": true,
	"connection": true, "keep-alive": true, "te": true, "trailer": true, "upgrade": true, "expect": true, "accept-encoding": true,
}

// parseHeaderName returns the name of a header that can arrive, in lower case, as Envoy has it.
func parseHeaderName(s string) (string, error) {
	switch {
	case !headerForm.MatchString(s):
		return "", mistake("", "it is not the name of a header")
	case len(s) > maxClaim:
		return "", mistake("", "it is longer than %d bytes", maxClaim)
	case strings.Contains(s, "_"):
		return "", mistake("use - instead", "Envoy drops headers with underscores, so this one would never arrive")
	}
	return strings.ToLower(s), nil
}

// parseHeader returns the name of a header that may say who asks.
func parseHeader(s string) (string, error) {
	lower, err := parseHeaderName(s)
	switch {
	case err != nil:
		return "", err
	case framingHeaders[lower]:
		return "", mistake("name a header that says who asks", "this header is not the client's to choose, or cannot be taken away from it")
	case keyHeaders[lower]:
		return "", mistake("name a header that says who asks, or a claim of the token with jwt",
			"this header carries a key, and identities appear in logs and reports")
	}
	return lower, nil
}

// parsePassGlob accepts globs of plain paths: what servers may read differently is
// never free, so such a glob would never match.
func parsePassGlob(s string) (string, error) {
	if strings.ContainsAny(s, `%\;`) || strings.Contains(s, "//") || strings.Contains(s, "/.") {
		return "", mistake("write the path as servers resolve it", "a path with %%, \\, ;, // or /. is never let through")
	}
	return parseGlob(s)
}

func parseGlob(s string) (string, error) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return "", mistake("write it like /health or /*/models", "a path begins with /")
	case strings.ContainsAny(s, "?#"):
		return "", mistake("* stands for any characters", "paths are compared without their query")
	case hasControl(s) || strings.Contains(s, " "):
		return "", mistake("", "a path has no spaces or control characters")
	case len(s) > maxClaim:
		return "", mistake("", "it is longer than %d bytes", maxClaim)
	}
	return s, nil
}

// notIn accepts what parse accepts and another list has not.
func notIn(name string, other *[]string, parse func(string) (string, error)) func(string) (string, error) {
	return func(s string) (string, error) {
		v, err := parse(s)
		if err == nil && slices.Contains(*other, v) {
			err = mistake("remove one", "it is also in %s", name)
		}
		return v, err
	}
}

// periods are the names that budget.ParsePeriod knows, for hints.
var periods = func() (names []string) {
	for p := budget.Minute; p <= budget.Total; p++ {
		names = append(names, p.String())
	}
	return names
}()

// rollingHint says how rolling periods are written.
const rollingHint = "write a rolling period in whole w, d, h, m and s, such as 90s, 5m, 1h30m, 24h or 30d"

var rollingForm = regexp.MustCompile(`^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$`)

// parsePeriod tells names that are wrong from durations that are.
func parsePeriod(s string) (budget.Period, error) {
	p, err := budget.ParsePeriod(s)
	switch {
	case err == nil:
		return p, nil
	case s == "" || s[0] < '0' || s[0] > '9':
		names := "the periods are " + strings.Join(periods, ", ") + ", or a rolling one such as 5m, 24h or 30d"
		return p, mistake(cmp.Or(didYouMean(s, periods), names), "it is not a period")
	case rollingForm.MatchString(s):
		return p, mistake("", "a rolling period lasts between %s and %dd", brief(budget.MinRolling), budget.MaxRolling/(24*time.Hour))
	}
	return p, mistake(rollingHint, "it is not a period")
}

// parseZone accepts names of the IANA time zone database.
func parseZone(s string) (*time.Location, error) {
	// LoadLocation takes "" for UTC, and Local for whatever the machine is set to.
	if s == "" || s == "Local" {
		return nil, mistake("write an IANA name such as Europe/Berlin, or UTC", "it is not a time zone")
	}
	loc, err := time.LoadLocation(s)
	if err != nil {
		return nil, mistake("write an IANA name such as Europe/Berlin, or UTC", "it is not a time zone")
	}
	return loc, nil
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }
