package config

import "testing"

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"day", "day", 0},
		{"dya", "day", 1},    // a swap
		{"limt", "limit", 1}, // one left out
		{"limmit", "limit", 1},
		{"lamit", "limit", 1},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3}, // a letter that was swapped is not touched again
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%q to %q: %d, want %d", test.a, test.b, got, test.want)
		}
		if got := editDistance(test.b, test.a); got != test.want {
			t.Errorf("%q to %q: %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	words := []string{"limit", "name", "per", "period", "timezone"}
	for word, want := range map[string]string{
		"limt": "limit", "Limit": "limit", "perid": "period", "prr": "per", "time_zone": "timezone",
		"zzz": "", "": "", "x": "",
	} {
		if want != "" {
			want = "did you mean " + want + "?"
		}
		if got := didYouMean(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
