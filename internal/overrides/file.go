package overrides

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

// MaxFile bounds the file, in bytes.
const MaxFile = 32 << 20

// ErrFile says that the file is damaged, or of a version that this program does not know.
var ErrFile = errors.New("no file of overrides")

const fileVersion = 1

type file struct {
	Version   int            `json:"version"`
	Checksum  string         `json:"checksum"`
	Overrides jsontext.Value `json:"overrides"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of a list, which is compacted in place.
func checksum(list *jsontext.Value) (string, error) {
	if err := list.Compact(); err != nil {
		return "", err
	}
	return fmt.Sprintf("crc32c:%08x", crc32.Checksum(*list, castagnoli)), nil
}

// Marshal returns the set as a file for [Parse]. It fails with [ErrFull].
func (s *Set) Marshal() ([]byte, error) {
	list := s.list
	if list == nil {
		list = []Override{}
	}
	raw, err := json.Marshal(list, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("writing the overrides: %w", err)
	}
	f := file{Version: fileVersion, Overrides: raw}
	if f.Checksum, err = checksum(&f.Overrides); err != nil {
		return nil, fmt.Errorf("writing the overrides: %w", err)
	}
	data, err := json.Marshal(f, jsontext.WithIndent(" "))
	if err != nil {
		return nil, fmt.Errorf("writing the overrides: %w", err)
	}
	if len(data) >= MaxFile {
		return nil, fmt.Errorf("%w: they take more than %d bytes; delete those that are not needed", ErrFull, MaxFile)
	}
	return append(data, '\n'), nil
}

// Parse reads what Marshal has written. An error wraps [ErrFile].
func Parse(data []byte) (*Set, error) {
	bad := func(format string, args ...any) (*Set, error) {
		return nil, fmt.Errorf("%w: %s", ErrFile, fmt.Sprintf(format, args...))
	}
	if len(data) > MaxFile {
		return bad("it has more than %d bytes", MaxFile)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return bad("%v", err)
	}
	if version.Version != fileVersion {
		return bad("it is of version %d, not %d", version.Version, fileVersion)
	}
	var f file
	if err := json.Unmarshal(data, &f, json.RejectUnknownMembers(true)); err != nil {
		return bad("%v", err)
	}
	if sum, err := checksum(&f.Overrides); err != nil || sum != f.Checksum {
		return bad("its checksum is %.20q, and that of its content %s", f.Checksum, sum)
	}
	s := new(Set)
	if err := json.Unmarshal(f.Overrides, &s.list, json.RejectUnknownMembers(true)); err != nil {
		return bad("%v", err)
	}
	if len(s.list) > Max {
		return bad("it has %d overrides; at most %d are kept", len(s.list), Max)
	}
	for i, o := range s.list {
		if err := o.check(); err != nil {
			return bad("override %d: %v", i+1, err)
		}
		if i > 0 && s.list[i-1].key() >= o.key() {
			return bad("override %d is out of order", i+1)
		}
	}
	return s, nil
}

// check returns an error for what Put is never given.
func (o Override) check() error {
	if o.Budget == "" || len(o.Amounts) == 0 || !utf8.ValidString(o.Budget) {
		return errors.New("it has no budget, or no amount")
	}
	for name, value := range o.Subject {
		if v, err := config.ParseSubject(name, value); err != nil || v != value {
			return errors.New("its subject is none")
		}
	}
	for unit, n := range o.Amounts {
		if !slices.ContainsFunc(units, func(u budget.Unit) bool { return u.String() == unit }) || n < 1 || n > config.MaxAmount {
			return errors.New("an amount is none")
		}
	}
	return nil
}

var units = []budget.Unit{budget.Tokens, budget.InputTokens, budget.OutputTokens, budget.Requests, budget.Streams}
