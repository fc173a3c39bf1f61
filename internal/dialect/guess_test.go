package dialect

import "testing"

func TestGuess(t *testing.T) {
	name := func(a API) string {
		if a == nil {
			return ""
		}
		return a.Name()
	}
	for body, path := range map[string]string{
		`{"messages":[]}`:                                    "/chat/completions",
		`{"messages":[],"prompt":"x"}`:                       "/chat/completions",
		`{"messages":[],"system":"x"}`:                       "/v1/messages",
		`{"prompt":"x"}`:                                     "/completions",
		`{"input":"x","model":"text-embedding-3-small"}`:     "/embeddings",
		`{"input":"x","encoding_format":"base64"}`:           "/embeddings",
		`{"input":"x","model":"gpt-5","instructions":"..."}`: "/responses",
		`{"model":"x"}`:                                      "",
	} {
		a, err := Guess([]byte(body))
		if want := ForPath(path).API; err != nil || name(a) != name(want) {
			t.Errorf("%s: %q, %v, want that of %s", body, name(a), err, path)
		}
	}
	for _, body := range []string{``, `[]`, `{"messages":[]`, `"messages"`} {
		if a, err := Guess([]byte(body)); a != nil || err == nil {
			t.Errorf("%s: %q, %v", body, name(a), err)
		}
	}
}
