package budget

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSubject(t *testing.T) {
	long := strings.Repeat("x", maxValue+1)
	for _, c := range []struct {
		per  []string
		ids  []Identity
		want string
	}{
		{nil, []Identity{{"team", "search"}}, ""},
		{[]string{"team"}, []Identity{{"user", "ann"}, {"team", "search"}}, "team=search"},
		{[]string{"user", "team"}, []Identity{{"team", "search"}, {"user", "ann"}}, "user=ann&team=search"},
		{[]string{"team"}, nil, "team=(none)"},
		{[]string{"team"}, []Identity{{"team", ""}}, "team=(none)"},
		{[]string{"team"}, []Identity{{"team", "a"}, {"team", "b"}}, "team=a"},
		{[]string{"team"}, []Identity{{"team", "a=b&c%d \n\xff"}}, "team=a%3Db%26c%25d%20%0A%FF"},
		{[]string{"team"}, []Identity{{"team", long}}, "team=" + long[:keptValue] +
			"%~15eb95a462ee20bd91a415ae2d4aed341288186ddaa2b37908f7d592f0c3f85f"},
	} {
		got := string(appendSubject(nil, partsOf(c.per), &Request{Identities: c.ids}))
		if got != c.want {
			t.Errorf("subject of %q by %q is %q, want %q", c.ids, c.per, got, c.want)
		}
	}
}

// TestSubjectProperties: decoding returns what was encoded, and two encodings are
// equal only if the values are.
func TestSubjectProperties(t *testing.T) {
	value := rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "(none)", "a&b", "%41", "A", "~", "%~", "\x00"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 2*maxValue), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(maxValue-1, maxValue+3), func(n int) string { return strings.Repeat("x", n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		per := []string{"a", "=&%", "\xff"}[:rapid.IntRange(1, 3).Draw(t, "names")]
		draw := func() ([]Identity, string) {
			ids := make([]Identity, len(per))
			for i, name := range per {
				ids[i] = Identity{name, value.Draw(t, "value")}
			}
			s := string(appendSubject(nil, partsOf(per), &Request{Identities: ids}))
			for i := range ids {
				if ids[i].Value == "" {
					ids[i].Value = None
				}
			}
			return ids, s
		}
		x, sx := draw()
		y, sy := draw()
		if (sx == sy) != slices.Equal(x, y) {
			t.Fatalf("%q and %q are encoded as %q and %q", x, y, sx, sy)
		}
		got, err := ParseSubject(sx)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range x {
			if len(id.Value) > maxValue {
				if v := got[i].Value; len(v) != keptValue+1+64 || v[:keptValue+1] != id.Value[:keptValue]+"~" {
					t.Fatalf("a long value came back as %q", v)
				}
			} else if got[i] != id {
				t.Fatalf("%q came back as %q", id, got[i])
			}
		}
		if len(sx) > len(per)*(3*maxValue+16) {
			t.Fatalf("%d bytes of key", len(sx))
		}
	})
}

func TestParseSubjectErrors(t *testing.T) {
	for _, s := range []string{"team", "team=a&", "team=%", "team=%4", "team=%zz", "%z=a", "&"} {
		if ids, err := ParseSubject(s); err == nil {
			t.Errorf("ParseSubject(%q) = %q", s, ids)
		}
	}
	if ids, err := ParseSubject(""); ids != nil || err != nil {
		t.Errorf(`ParseSubject("") = %q, %v`, ids, err)
	}
}
