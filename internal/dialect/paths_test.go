package dialect

import (
	"strings"
	"testing"
)

func TestForPath(t *testing.T) {
	const chat = "openai.chat"
	for path, want := range map[string]struct {
		api         string
		exact, free bool
	}{
		"/v1/chat/completions":                      {chat, true, false},
		"/chat/completions":                         {chat, true, false},
		"/openai/deployments/X/chat/completions":    {chat, true, false},
		"/v1/models/../chat/completions":            {chat, true, false},
		"/v1/Chat/Completions":                      {chat, false, false},
		"/v1/chat/completions/":                     {chat, false, false},
		"/v1/chat//completions":                     {chat, false, false},
		"/v1/chat/./completions":                    {chat, false, false},
		"/v1/chat/x/../completions":                 {chat, false, false},
		"/v1/chat/completions/x/..":                 {chat, false, false},
		"/v1/chat%2fcompletions":                    {chat, false, false},
		"/v1/chat%25252fcompletions":                {chat, false, false},
		"/v1/chat%2f/completions":                   {chat, false, false},
		"/v1/chat;v=1/completions":                  {chat, false, false},
		"/v1/chat/completions;/embeddings":          {chat, false, false},
		"/v1/chat/completions%3f/x":                 {chat, false, false},
		"/v1/chat/completions#/x":                   {chat, false, false},
		"/v1/chat/completions%00.txt":               {chat, false, false},
		"/v1/chat/completions;/responses/x/cancel":  {chat, false, false},
		"/v1\\chat\\completions":                    {chat, false, false},
		"http://host/v1/chat/completions":           {chat, true, false},
		"/v1/responses/resp_1/cancel":               {"", true, true},
		"/v1/messages/count_tokens":                 {"", true, true},
		"/v1/messages/Count_Tokens":                 {"", false, true},
		"/v1/responses//cancel":                     {"", false, false},
		"/v1/chat/completions/chatcmpl-1":           {"", false, false},
		"/v1/chatcompletions":                       {"", false, false},
		"/v1/xchat/completions/chatcmpl-1/messages": {"", false, false},
		"chat/completions":                          {chat, false, false},
		"/v1/completions":                           {"openai.completions", true, false},
		"/openai/deployments/x/completions":         {"openai.completions", true, false},
		"/openai/deployments/chat/completions":      {chat, false, false},
		"/v1/engines/chat/completions":              {chat, false, false},
		"/v1/embeddings":                            {"openai.embeddings", true, false},
		"/v1/embeddings/..%2fchat/completions":      {chat, false, false},
		"/v1/embeddings#/chat/completions":          {"openai.embeddings", false, false},
		"/v1/completions/":                          {"openai.completions", false, false},
		"":                                          {"", false, false},
	} {
		r := ForPath(path)
		name := ""
		if r.API != nil {
			name = r.API.Name()
		}
		if name != want.api || r.Exact != want.exact || r.Free != want.free {
			t.Errorf("%q: %q exact %v free %v, want %+v", path, name, r.Exact, r.Free, want)
		}
	}
}

// FuzzForPath: an exact path is the same API's in every reading of it, and what is put in
// front of a path, if it is plain, changes nothing.
func FuzzForPath(f *testing.F) {
	for _, s := range []string{"/v1/chat/completions", "/v1/chat%2f/completions;x", "/openai/deployments/%61/embeddings", "//..", "/v1/messages/count_tokens#", "\\", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := ForPath(path)
		if len(Deployment(path)) > maxDeployment || r.Free && r.API != nil {
			t.Fatalf("%q: %+v", path, r)
		}
		if !r.Exact {
			return
		}
		if again := ForPath("/prefix" + path); again != r && strings.HasPrefix(path, "/") {
			t.Fatalf("%q is %+v, and behind a prefix %+v", path, r, again)
		}
		for _, reading := range Readings(path) {
			if other := endpointOf(reading); other != nil && other.route(true) != r {
				t.Fatalf("%q is %+v, and read as %q %+v", path, r, reading, other.route(true))
			}
		}
	})
}
