package reference

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// stranger is a key that is like no other, so that the decoder lists those that it knows.
const stranger = "qqqqqqqqqqqq"

var knownHere = regexp.MustCompile(`^unknown key "` + stranger + `" \(known here: (.*)\)$`)

// known returns the keys that the decoder knows where a file has a mapping with a
// stranger, and whether it told.
func known(t *testing.T, dir, path, value string) (names []string, told bool) {
	t.Helper()
	text, line := fileWith(path, value)
	if path == "" {
		text, line = stranger+": 1\n", 1
	}
	_, errs := byDecoder(t, dir, text)
	for _, msg := range refused(errs, line) {
		if m := knownHere.FindStringSubmatch(msg); m != nil {
			return strings.Split(m[1], ", "), true
		}
	}
	return nil, false
}

// TestKeys compares the keys that the decoder knows with those described here, in every
// mapping of the file.
func TestKeys(t *testing.T) {
	dir := prepare(t)
	compare := func(path, value string, free bool) {
		names, told := known(t, dir, path, value)
		described := make(map[string]bool)
		for _, k := range below(path) {
			if k.name() != anyName {
				described[k.name()] = true
			}
		}
		if path == "budgets[].overrides[]" {
			described["team"] = true // its NAME here
		}
		if !told {
			if !free {
				t.Errorf("%q: the decoder knows no mapping here, and keys.go says there is one with %q", path, slices.Sorted(maps.Keys(described)))
			}
			return
		}
		for _, name := range names {
			if !described[name] {
				t.Errorf("the decoder knows a key %s that is not described; add a line to keys.go such as\n"+
					"\t{%q, words(\"refuse\", \"cut\"), \"refuse\", \"what it does\", \"\"},", name, strings.TrimPrefix(path+"."+name, "."))
			}
			delete(described, name)
		}
		for name := range described {
			t.Errorf("%q: keys.go describes a key %s that the decoder does not know", path, name)
		}
	}
	const value = "{" + stranger + ": 1}"
	compare("", "", false)
	for _, k := range keys {
		f := k.form
		if f.like != "" {
			f.keys = lookup(f.like).form.keys
		}
		switch {
		case f.keys != nil && f.like == "":
			compare(k.path, value, f.keys.names != nil)
		case f.keys == nil:
			if names, told := known(t, dir, k.path, value); told {
				t.Errorf("%s may be a mapping with %q; keys.go does not say so", k.path, names)
			}
		}
		switch {
		case f.many != nil && f.many.form.keys != nil:
			compare(k.path+"[]", value, f.many.form.keys.names != nil)
		case f.many == nil:
			if names, told := known(t, dir, k.path, "["+value+"]"); told {
				t.Errorf("%s may be a list of mappings with %q; keys.go does not say so", k.path, names)
			}
		}
	}
}

// TestKinds compares whether a value may be single, a list or a mapping.
func TestKinds(t *testing.T) {
	dir := prepare(t)
	for _, k := range keys {
		f := k.form
		if f.like != "" {
			target := lookup(f.like).form
			f.one, f.keys = first(f.one, target.one), first(f.keys, target.keys)
		}
		text := `"x"`
		if words := f.words(); len(words) > 0 {
			text = words[0] // none may be all that is allowed besides a mapping
		}
		for kind, c := range map[string]struct {
			value   string
			allowed bool
		}{
			"a single value": {text, f.one != nil}, "a list": {`["x"]`, f.many != nil}, "a mapping": {`{"x": "x"}`, f.keys != nil},
		} {
			text, line := fileWith(k.path, c.value)
			_, errs := byDecoder(t, dir, text)
			wrong := slices.ContainsFunc(refused(errs, line), func(msg string) bool {
				return strings.HasPrefix(msg, `"`) && strings.Contains(msg, `" must be a`) && !strings.HasPrefix(msg, `"x" `)
			})
			if wrong == c.allowed {
				t.Errorf("%s may be %s: the decoder says %v, keys.go %v: %q", k.path, kind, !wrong, c.allowed, refused(errs, line))
			}
		}
	}
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// TestValues: the decoder takes what is said to be good, such as the bounds of numbers,
// the default and the examples, and refuses what is said to be bad, such as the next
// number, and any other word. What it takes, the schema takes, too.
func TestValues(t *testing.T) {
	dir := prepare(t)
	for _, k := range keys {
		good := k.examples()
		if k.def != "" && !strings.HasPrefix(k.def, "(") {
			good = append(good, k.def)
		}
		if len(good) == 0 && k.form.keys == nil && k.form.many == nil && k.form.like == "" {
			t.Errorf("%s has no example", k.path)
		}
		for _, value := range good {
			text, line := fileWith(k.path, value)
			if _, errs := byDecoder(t, dir, text); len(refused(errs, line)) > 0 {
				t.Errorf("%s: %s should be allowed: %q in\n%s", k.path, value, refused(errs, line), text)
			} else if err := bySchema(t, text); err != nil && len(errs) == 0 {
				t.Errorf("the schema is stricter than the decoder: %v\n%s", err, text)
			}
		}
		if k.form.one == nil {
			continue
		}
		bad := k.form.one.bad
		bad = append(bad, k.form.one.except...)
		if len(bad) == 0 && k.form.one.pattern != pattern.one.pattern {
			bad = []string{`""`}
		}
		for _, value := range bad {
			text, line := fileWith(k.path, value)
			if _, errs := byDecoder(t, dir, text); len(refused(errs, line)) == 0 {
				t.Errorf("%s: %s should be refused", k.path, value)
			}
		}
		if len(k.form.one.words) == 0 {
			continue
		}
		text, line := fileWith(k.path, stranger)
		_, errs := byDecoder(t, dir, text)
		found := strings.Join(refused(errs, line), "\n")
		if said := listed(found); said != nil && !slices.Equal(said, slices.Sorted(slices.Values(k.form.one.words))) {
			t.Errorf("%s: the decoder allows %q, keys.go %q", k.path, said, k.form.one.words)
		}
	}
}

var (
	mustBe  = regexp.MustCompile(`it must be ([a-z0-9_]+(?: or [a-z0-9_]+)*)`)
	periods = regexp.MustCompile(`the periods are ([a-z]+(?:, [a-z]+)*)`)
)

// listed returns the words that are allowed according to a message, sorted.
func listed(msg string) []string {
	var words []string
	if m := mustBe.FindStringSubmatch(msg); m != nil {
		words = strings.Split(m[1], " or ")
	} else if m := periods.FindStringSubmatch(msg); m != nil {
		words = slices.DeleteFunc(strings.Split(m[1], ", "), func(w string) bool { return w == "or" })
	}
	slices.Sort(words)
	return words
}

// TestListBounds: one more than a list may have is refused, and not one less.
func TestListBounds(t *testing.T) {
	dir := prepare(t)
	for _, k := range keys {
		if k.form.many == nil {
			continue
		}
		for _, n := range []int{k.form.many.most, k.form.many.most + 1} {
			text, line := fileWith(k.path, "["+strings.Repeat("x, ", n-1)+"x]")
			_, errs := byDecoder(t, dir, text)
			tooMany := slices.ContainsFunc(refused(errs, line), func(msg string) bool {
				return strings.Contains(msg, " elements, more than ") || strings.Contains(msg, "there are more than")
			})
			if want := n > k.form.many.most; tooMany != want {
				t.Errorf("%s: %d elements are too many: %v, want %v", k.path, n, tooMany, want)
			}
		}
	}
}

// TestDefaults: what is said to be the default changes nothing.
func TestDefaults(t *testing.T) {
	dir := prepare(t)
	for _, k := range keys {
		if k.def == "" || strings.HasPrefix(k.def, "(") {
			continue
		}
		with, _ := fileWith(k.path, k.def)
		without, _ := fileWith(k.path, k.def)
		without = withoutKey(without, k.name())
		a, errs := byDecoder(t, dir, with)
		if len(errs) > 0 {
			t.Errorf("%s: %v", k.path, errs)
			continue
		}
		b, errs := byDecoder(t, dir, without)
		if len(errs) > 0 {
			t.Errorf("%s: %v in\n%s", k.path, errs, without)
			continue
		}
		if facts(t, a) != facts(t, b) {
			t.Errorf("%s: %s is not the default:\n%s\n%s", k.path, k.def, facts(t, a), facts(t, b))
		}
	}
}

// TestDescriptions: the table says something of every key, and in one way.
func TestDescriptions(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range keys {
		switch {
		case seen[k.path]:
			t.Errorf("%s is described twice", k.path)
		case k.what == "" || strings.HasSuffix(k.what, ".") || strings.ContainsAny(k.what, "\n|"):
			t.Errorf("%s: say what it does, on one line, without a full stop at the end: %q", k.path, k.what)
		case unicode.IsUpper(rune(k.what[0])) && !unicode.IsUpper(rune(k.what[1])):
			t.Errorf("%s: begin with a small letter: %q", k.path, k.what)
		case strings.HasPrefix(k.def, "(") != strings.HasSuffix(k.def, ")"):
			t.Errorf("%s: a default in words stands in parentheses: %q", k.path, k.def)
		}
		seen[k.path] = true
		if parent, _, nested := cutLast(k.path, "."); nested && !seen[strings.TrimSuffix(parent, "[]")] {
			t.Errorf("%s stands before %s, or without it", k.path, parent)
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}
