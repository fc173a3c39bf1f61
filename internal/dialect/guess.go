package dialect

import "strings"

// APIs returns all that are known, in the order of their paths in the table.
func APIs() (all []API) {
	for _, e := range endpoints {
		if e.api != nil {
			all = append(all, e.api)
		}
	}
	return all
}

// Guess returns the API that a request is of, by the members that its body has; nil if it
// is like none. It is for people with a file at hand: a server goes by the path. The error
// is that of a body which is no JSON object.
func Guess(body []byte) (API, error) {
	if err := validate(body); err != nil {
		return nil, err
	}
	r := newRequestReader(body, "")
	start, err := r.begin()
	if err != nil {
		return nil, err
	}
	has := make(map[string]bool)
	embeds := false
	for name, value := range members(body, span{start, len(body)}) {
		key := string(name.of(body))
		switch key {
		case `"messages"`, `"prompt"`, `"input"`, `"system"`, `"anthropic_version"`, `"encoding_format"`, `"dimensions"`:
			has[key[1:len(key)-1]] = true
		case `"model"`:
			embeds = strings.Contains(string(value.of(body)), "embed")
		}
	}
	path := ""
	switch {
	case has["messages"] && (has["system"] || has["anthropic_version"]):
		path = "/v1/messages"
	case has["messages"]:
		path = "/chat/completions"
	case has["prompt"] && !has["input"]:
		path = "/completions"
	case has["input"] && (embeds || has["encoding_format"] || has["dimensions"]):
		path = "/embeddings"
	case has["input"]:
		path = "/responses"
	}
	return ForPath(path).API, nil
}
