package overrides

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

var (
	at     = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	limits = []budget.Limit{
		{Name: "all", Amount: 100, Period: budget.Day},
		{Name: "team", Amount: 1000, Period: budget.Day, Per: []string{"team"}, Overrides: []budget.Override{
			{Subject: []budget.Identity{{Name: "team", Value: "search"}}, Amount: 5000},
		}},
		{Name: "pair", Unit: budget.InputTokens, Amount: 10, Period: budget.Day, Per: []string{"team", "model"}},
		{Name: "pair", Unit: budget.OutputTokens, Amount: 20, Period: budget.Day, Per: []string{"team", "model"}},
		{Name: "team-2", Amount: 7, Period: budget.Day, Per: []string{"team"}},
		{Name: "size", Unit: budget.InputTokens, Amount: 8, PerRequest: true},
	}
)

// request is what becomes of a PUT.
func request(name, body string) (Override, error) {
	r, err := ParseRequest([]byte(body), true)
	if err != nil {
		return Override{}, err
	}
	return r.Resolve(name, limits)
}

func put(t *testing.T, s *Set, name, body string) *Set {
	t.Helper()
	o, err := request(name, body)
	if err != nil {
		t.Fatal(err)
	}
	o.Who, o.At = "token", at
	if s, err = s.Put(o); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRequests(t *testing.T) {
	for _, c := range []struct{ budget, body, want string }{
		{"all", `{"limit": "3M tokens"}`, `map[] map[tokens:3000000]`},
		{"all", `{"limit": "1 token", "subject": {}, "reason": "Zürich, \"why\""}`, `map[] map[tokens:1]`},
		{"team", `{"subject": {"team": "search"}, "limit": "3k tokens"}`, `map[team:search] map[tokens:3000]`},
		{"pair", `{"subject": {"team": "a", "model": "GPT-4o"}, "limit": {"output": "2k tokens"}}`, `map[model:gpt-4o team:a] map[output_tokens:2000]`},
		{"pair", `{"subject": {"team": "a", "model": "x"}, "limit": {"output": "2 tokens", "input": "1 token"}}`, `map[model:x team:a] map[input_tokens:1 output_tokens:2]`},
		{"size", `{"limit": {"input": "2k tokens"}}`, `map[] map[input_tokens:2000]`},
	} {
		o, err := request(c.budget, c.body)
		if got := fmt.Sprint(o.Subject, " ", o.Amounts); err != nil || got != c.want {
			t.Errorf("%s %s: %s, %v; want %s", c.budget, c.body, got, err, c.want)
		}
	}
	for _, c := range []struct{ budget, body, want string }{
		{"all", ``, "must be a JSON object"},
		{"all", `"3M tokens"`, "must be a JSON object"},
		{"all", `{}`, "needs a limit"},
		{"all", `{"limit": "1 token"} {}`, "cannot be read"},
		{"all", `{"limit": "1 token"`, "cannot be read"},
		{"all", `{"limit": "1 token", "limit": "2 tokens"}`, "cannot be read"},
		{"all", `{"Limit": "1 token"}`, "cannot be read"},
		{"all", `{"limit": "1 token", "subjects": {}}`, "cannot be read"},
		{"team", `{"limit": "1 token", "subject": {"team": "a", "team": "b"}}`, "cannot be read"},
		{"all", `{"limit": "1 token", "reason": "a\nb"}`, "control characters"},
		{"all", `{"limit": "1 token", "reason": "` + strings.Repeat("x", 501) + `"}`, "500 bytes"},
		{"all", `{"limit": "1 token", "reason": "` + strings.Repeat("x", MaxRequest) + `"}`, "16384 bytes"},
		{"all", `{"limit": 5}`, "neither text nor an object"},
		{"all", `{"limit": null}`, "neither text nor an object"},
		{"all", `{"limit": "5"}`, "unit is missing"},
		{"all", `{"limit": "0 tokens"}`, "more than zero"},
		{"all", `{"limit": "5 requests"}`, "in the same unit"},
		{"all", `{"limit": {"input": "1 token"}}`, "in the same unit"},
		{"pair", `{"subject": {"team": "a", "model": "x"}, "limit": "5 tokens"}`, "input tokens and output tokens"},
		{"pair", `{"subject": {"team": "a", "model": "x"}, "limit": {"input": "5 requests"}}`, "tokens, not requests"},
		{"pair", `{"subject": {"team": "a", "model": "x"}, "limit": {}}`, "neither input nor output"},
		{"pair", `{"subject": {"team": "a", "model": "x"}, "limit": {"in": "5 tokens"}}`, "cannot be read"},
		{"all", `{"subject": {"team": "a"}, "limit": "1 token"}`, "leave the subject out"},
		{"team", `{"limit": "1 token"}`, `["team"]`},
		{"team", `{"subject": {"user": "a"}, "limit": "1 token"}`, `["team"]`},
		{"team", `{"subject": {"team": ""}, "limit": "1 token"}`, "empty"},
		{"team", `{"subject": {"team": "a*"}, "limit": "1 token"}`, "no glob"},
		{"team", `{"subject": {"team": "a", "": "b"}, "limit": "1 token"}`, "the name has 1 to 64"},
	} {
		_, err := request(c.budget, c.body)
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrUnknown) {
			t.Errorf("%s %.80s: %v; want %q", c.budget, c.body, err, c.want)
		}
	}
	if _, err := request("none", `{"limit": "1 token"}`); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown budget: %v", err)
	}
	for body, want := range map[string]string{"": "", `{"subject": {"team": "a"}, "reason": "r"}`: "", `{"limit": "1 token"}`: "remove the limit", `[]`: "JSON object"} {
		if _, err := ParseRequest([]byte(body), false); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("DELETE %s: %v; want %q", body, err, want)
		}
	}
}

// An override stands above the file's, is taken back, and says when it has no effect.
func TestSet(t *testing.T) {
	s := new(Set)
	before := fmt.Sprint(limits)
	s = put(t, s, "all", `{"limit": "5 tokens"}`)
	s = put(t, s, "all", `{"limit": "6 tokens"}`)
	s = put(t, s, "team", `{"subject": {"team": "search"}, "limit": "7 tokens"}`)
	s = put(t, s, "team", `{"subject": {"team": "other"}, "limit": "8 tokens"}`)
	s = put(t, s, "pair", `{"subject": {"team": "a", "model": "O1"}, "limit": {"output": "9 tokens"}}`)
	s = put(t, s, "size", `{"limit": {"input": "3 tokens"}}`)
	amounts := func(s *Set) string {
		l := s.Apply(limits)
		return fmt.Sprint(l[0].Amount, Amounts(l, "team", map[string]string{"team": "search"}), Amounts(l, "team", map[string]string{"team": "other"}),
			Amounts(l, "team", map[string]string{"team": "third"}), Amounts(l, "pair", map[string]string{"model": "o1", "team": "a"}),
			Amounts(l, "team-2", map[string]string{"team": "search"}), l[5].Amount)
	}
	const all = "6 map[tokens:7] map[tokens:8] map[tokens:1000] map[input_tokens:10 output_tokens:9] map[tokens:7] 3"
	if got := amounts(s); got != all {
		t.Errorf("amounts %s, want %s", got, all)
	}
	if fmt.Sprint(limits) != before {
		t.Error("the file's limits have changed")
	}
	for _, shown := range s.List(limits) {
		if !shown.Effective || shown.Note != "" || shown.File == nil {
			t.Errorf("%+v", shown)
		}
	}
	less := s.Delete("team", map[string]string{"team": "search"}).Delete("all", nil).Delete("all", nil)
	if got, want := amounts(less), "100 map[tokens:5000] map[tokens:8] map[tokens:1000] map[input_tokens:10 output_tokens:9] map[tokens:7] 3"; got != want {
		t.Errorf("amounts %s, want %s", got, want)
	}
	if got := amounts(s); got != all {
		t.Errorf("a set has changed: %s", got)
	}
	changed := []budget.Limit{
		{Name: "all", Unit: budget.Requests, Amount: 1, Period: budget.Day},
		{Name: "team", Amount: 1, Period: budget.Day, Per: []string{"user"}},
	}
	if got := s.Apply(changed); !reflect.DeepEqual(got, changed) {
		t.Errorf("an override of something else counts: %+v", got)
	}
	for _, shown := range s.List(changed) {
		want := map[string]string{"all": "does not count tokens", "team": "something else"}[shown.Budget]
		if shown.Effective || !strings.Contains(shown.Note, cmpOr(want, "no budget")) {
			t.Errorf("%+v", shown)
		}
	}
	var err error
	full := new(Set)
	for i := range Max {
		if full, err = full.Put(Override{Budget: "all", Subject: map[string]string{"team": fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := full.Put(Override{Budget: "all"}); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := full.Put(Override{Budget: "all", Subject: map[string]string{"team": "7"}}); err != nil {
		t.Errorf("in the place of another: %v", err)
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func fileOf(t testing.TB, s *Set) []byte {
	t.Helper()
	data, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A file is read as it was written; with any byte changed or missing, it is refused, or
// means the same.
func TestFile(t *testing.T) {
	s := put(t, new(Set), "all", `{"limit": "5 tokens", "reason": "<Zürich> & co"}`)
	s = put(t, s, "team", `{"subject": {"team": "se\"arch"}, "limit": "7 tokens"}`)
	data := fileOf(t, s)
	got, err := Parse(data)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("%+v, %v; want %+v", got, err, s)
	}
	for i := range data {
		for _, bad := range [][]byte{data[:i], append(append(bytes.Clone(data[:i]), data[i]^1), data[i+1:]...)} {
			got, err := Parse(bad)
			if err != nil {
				if !errors.Is(err, ErrFile) {
					t.Fatalf("%s: %v", bad, err)
				}
				continue
			}
			if !reflect.DeepEqual(got, s) {
				t.Errorf("changed at byte %d it says %+v", i, got)
			}
		}
	}
	empty, err := Parse(fileOf(t, new(Set)))
	if err != nil || len(empty.List(nil)) != 0 {
		t.Errorf("an empty one: %+v, %v", empty, err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"checksum":"crc32c:00000000","overrides":[]}`))
	s, err := new(Set).Put(Override{Budget: "a", Amounts: map[string]int64{"tokens": 1}, Subject: map[string]string{"b": "c"}, At: at})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fileOf(f, s))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrFile) {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse(fileOf(t, s))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
		s.Apply(limits)
		s.List(limits)
	})
}

// Whatever a client sends makes an override that the file keeps.
func FuzzRequest(f *testing.F) {
	f.Add("all", []byte(`{"limit": "3M tokens", "reason": "r"}`))
	f.Add("pair", []byte(`{"subject": {"team": "a", "model": "O1"}, "limit": {"output": "9 tokens"}}`))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		o, err := request(name, string(body))
		if err != nil {
			return
		}
		s, err := new(Set).Put(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(fileOf(t, s)); err != nil {
			t.Fatal(err)
		}
		if shown := s.List(limits); !shown[0].Effective {
			t.Fatalf("%+v", shown)
		}
		if _, err := budget.NewSizes(s.Apply(limits)); err != nil {
			t.Fatal(err)
		}
	})
}
