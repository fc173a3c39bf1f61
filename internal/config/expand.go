package config

import (
	"regexp"
	"strings"
)

// maxExpanded bounds a value, in bytes, after its variables were put in.
const maxExpanded = 64 << 10

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} by what env holds and $$ by $. It returns every mistake;
// the text is valid only if there is none. Mistakes name variables that are not
// set, and show nothing else of s or of what variables hold.
func expand(s string, env func(string) (string, bool)) (string, []error) {
	var out strings.Builder
	var errs []error
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		if !found {
			break
		}
		switch {
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			name, rest, closed := strings.Cut(after[1:], "}")
			if !closed {
				return "", append(errs, mistake("close it with }, or write $$ for a dollar sign", "${ is not closed"))
			}
			s = rest
			if !variableName.MatchString(name) {
				errs = append(errs, mistake("write ${NAME}, or $${ for the text ${; defaults and commands are not known here",
					"what stands in ${…} is not the name of an environment variable"))
				continue
			}
			value, ok := env(name)
			if !ok {
				errs = append(errs, mistake("set it, or write $${ for the text ${", "the environment variable %s is not set", shorten(name)))
				continue
			}
			out.WriteString(value)
		default:
			out.WriteByte('$')
			s = after
		}
		if out.Len() > maxExpanded {
			return "", append(errs, mistake("", "with its variables put in, the value is longer than %d bytes", maxExpanded))
		}
	}
	return out.String(), errs
}
