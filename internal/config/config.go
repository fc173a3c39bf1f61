package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

// MaxFile is the largest configuration file, in bytes.
const MaxFile = 1 << 20

// Config is a whole configuration: what the file says, and the defaults for what it
// leaves out. It is not changed after it was read, and may be shared.
type Config struct {
	Listen         Listen
	Insecure       bool           // allows listening beyond loopback, where anybody who reaches the port is served
	AdminToken     string         `json:"-"` // what reading the admin pages needs beyond loopback; see AdminGuarded
	Identities     []Identity     // in the order of the file
	APIKeys        APIKeys        // whose they are
	Missing        Missing        // what becomes of requests that lack an identity
	Store          Store          // where balances are kept
	Budgets        []budget.Limit // in the order of the file; input and output limits of one budget follow each other
	Truncate       []string       // names of the budgets per request that shorten a prompt which is too long; the others refuse it
	Models         []Model        // the first whose globs fit a request's model says how it is counted
	MaxRequestBody int64          // bytes
	Paths          Paths
	UnknownAPI     UnknownAPI
	OutputCap      OutputCap
	Degraded       Degraded
	DegradedCut    DegradedCut
	ResponsesCut   ResponsesCut
	IncludeUsage   IncludeUsage
	ClosingComment bool // whether a cut stream says why, in a comment before its closing events
	Timeouts       Timeouts
	Overload       Overload

	warnings Errors
}

// Identity is one named property of requests and where it comes from.
type Identity struct {
	Name    string
	Sources []Source // the first that has a value wins; never empty
}

// Source is where the value of an identity comes from: exactly one of JWT, Header and
// APIKey is set.
type Source struct {
	JWT        string // a claim of the token that Envoy verified
	Header     string // a request header, in lower case
	APIKey     string // the name of a value in [KeySubject]
	SetByEnvoy bool   // the header is set by Envoy, which must remove the client's copy
}

// Missing says what becomes of requests that lack an identity which a limit needs.
type Missing string

// The values of [Missing].
const (
	MissingShared Missing = "shared" // they share the subject [budget.None]
	MissingRefuse Missing = "refuse" // they are answered with 401
)

// Store says where balances are kept.
type Store struct{ File FileStore }

// FileStore is the embedded store.
type FileStore struct {
	Dir   string        // directory; a relative one counts from the working directory
	Fsync budget.Fsync  // when balances that are written are flushed to the disk
	Sync  time.Duration // how often idle counters leave memory
}

// Paths are globs over the path of a request, its query left out: * stands for any
// characters, also none and also slashes; everything else stands for itself. A path
// that matches both lists is denied.
type Paths struct {
	Pass []string // forwarded without being metered
	Deny []string // refused
}

// UnknownAPI says what becomes of requests with a body whose API is not known.
type UnknownAPI string

// The values of [UnknownAPI].
const (
	UnknownRefuse UnknownAPI = "refuse"
	UnknownPass   UnknownAPI = "pass" // forwarded without being metered
)

// OutputCap says for which requests the API's own output cap is lowered to what is
// left of the budget.
type OutputCap string

// The values of [OutputCap].
const (
	CapUnary  OutputCap = "unary" // those whose answer is not a stream; streams are cut
	CapAlways OutputCap = "always"
	CapNever  OutputCap = "never"
)

// Degraded says what becomes of exchanges if Envoy's filter is configured with modes in
// which less can be done than could be.
type Degraded string

// The values of [Degraded].
const (
	DegradedMeter  Degraded = "meter"  // the best is done that the modes allow
	DegradedRefuse Degraded = "refuse" // they are answered with 500
)

// DegradedCut says how a stream is cut where Envoy's filter does not let it be ended.
type DegradedCut string

// The values of [DegradedCut].
const (
	DegradedClose DegradedCut = "close" // the rest of the answer is taken out, and charged: the upstream goes on
	DegradedReset DegradedCut = "reset" // the answer is broken off, which cancels the upstream
)

// ResponsesCut says with which event a cut answer of the Responses API ends.
type ResponsesCut string

// The values of [ResponsesCut].
const (
	CutIncomplete ResponsesCut = "incomplete" // response.incomplete, as the API does
	CutCompleted  ResponsesCut = "completed"  // response.completed, with the status incomplete
)

// IncludeUsage says which upstreams are asked for the usage of streams.
type IncludeUsage string

// The values of [IncludeUsage].
const (
	UsageAuto   IncludeUsage = "auto" // those that have not rejected it
	UsageAlways IncludeUsage = "always"
	UsageNever  IncludeUsage = "never"
)

// defaults returns the configuration of a file that says nothing.
func defaults() *Config {
	return &Config{
		Listen:         Listen{ExtProc: "127.0.0.1:9002", Admin: "127.0.0.1:9003"},
		Missing:        MissingShared,
		Store:          Store{File: FileStore{Dir: "./data", Fsync: budget.FsyncGroup, Sync: time.Second}},
		MaxRequestBody: 16 << 20,
		UnknownAPI:     UnknownRefuse,
		OutputCap:      CapUnary,
		Degraded:       DegradedMeter,
		DegradedCut:    DegradedClose,
		ResponsesCut:   CutIncomplete,
		IncludeUsage:   UsageAuto,
		ClosingComment: true,
		Timeouts:       defaultTimeouts,
		Overload:       Overload{MaxDelay: time.Second},
	}
}

// Load reads the file at path with the environment of this process. Mistakes in the
// file are [Errors]; a file that cannot be read is the error of the operating system,
// wrapped.
func Load(path string) (*Config, error) { return load(path, false) }

// LoadRemote is Load for those who only talk to a server, or write what others need to
// talk to it: the certificates' files are not looked at. They may be on another machine,
// and a running server has good ones in memory when bad ones have come.
func LoadRemote(path string) (*Config, error) { return load(path, true) }

func load(path string, remote bool) (*Config, error) {
	data, err := ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (tokenbudget init writes a starter file)", err)
	}
	if err != nil {
		return nil, err
	}
	return parse(path, data, os.LookupEnv, remote)
}

// Parse reads a configuration from data, and the tokenizers and certificates that it
// names; name is the file's name in errors. env looks up environment variables; nil means that there
// are none. The error is [Errors].
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	return parse(name, data, env, false)
}

func parse(name string, data []byte, env func(string) (string, bool), remote bool) (*Config, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	d := &decoder{file: name, env: env, remote: remote, at: make(map[any]*node)}
	c := defaults()
	if root := d.document(data); root != nil {
		d.config(root, c)
	}
	if err := d.result(); err != nil {
		return nil, err
	}
	c.warnings = d.warnings
	return c, nil
}

// Warnings lists what is allowed but probably not meant, one line each, with its
// position in the form of [Error.Error], sorted. A Config that was not read from a
// file has none.
func (c *Config) Warnings() []string { return c.warnings.lines() }
