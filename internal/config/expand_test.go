package config

import (
	"errors"
	"testing"
)

func TestExpand(t *testing.T) {
	for _, test := range []struct{ in, want, err string }{
		{in: "", want: ""},
		{in: "plain", want: "plain"},
		{in: "${NAME}", want: "everyone"},
		{in: "a${NAME}b${DIGITS}c", want: "aeveryoneb123c"},
		{in: "${EMPTY}", want: ""},
		{in: "${TRICK}", want: "$$${TOKEN}"},
		{in: "$$", want: "$"},
		{in: "$${NAME}", want: "${NAME}"},
		{in: "$$${NAME}", want: "$everyone"},
		{in: "$$$$", want: "$$"},
		{in: "$", want: "$"},
		{in: "$NAME $5 5$", want: "$NAME $5 5$"},
		{in: "${NOT_SET}", err: "the environment variable NOT_SET is not set (set it, or write $${ for the text ${)"},
		{in: "${NAME", err: "${ is not closed (close it with }, or write $$ for a dollar sign)"},
		{in: "${}", err: notName},
		{in: "${1A}", err: notName},
		{in: "${A:-b}", err: notName},
		{in: "${${NAME}}", err: notName},
	} {
		got, errs := expand(test.in, testEnv)
		err := ""
		if e := errors.Join(errs...); e != nil {
			err = e.Error()
		}
		if err != test.err || err == "" && got != test.want {
			t.Errorf("%q: got %q, error %q; want %q, error %q", test.in, got, err, test.want, test.err)
		}
	}
}

const notName = "what stands in ${…} is not the name of an environment variable (write ${NAME}, or $${ for the text ${; defaults and commands are not known here)"
