package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// maxLine bounds one line of -jsonl, in bytes.
const maxLine = 64 << 20

var countCommand = command{
	name:  "count",
	args:  "[-model M [-config C] | -encoding E | -tokenizer T] [-request [-api A] | -jsonl] [FILE]",
	short: "counts tokens as the server does",
	long: `FILE is a text; standard input if it is missing. With -request it is the JSON body
of a request, counted with what the format adds; its members say of which API it is,
or -api does, by a name such as openai.embeddings or a path. With -jsonl each line
is {"text": "…"} or {"text_b64": "…"}, and one count a line is printed.
The text is counted as ordinary text: special tokens in it have no meaning.
Without -model, -encoding and -tokenizer the model is that of the request, or o200k_base
counts. With -config the models of that configuration are known, too.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		model := fs.String("model", "", "count as this `MODEL` does")
		encoding := fs.String("encoding", "", "count with this `ENCODING`: "+strings.Join(tokens.Names(), ", "))
		tokenizer := fs.String("tokenizer", "", "count with this `FILE`, a tokenizer.json of Hugging Face")
		config := fs.String("config", "", "look up the model in the models of this configuration `FILE`")
		request := fs.Bool("request", false, "count a JSON API request")
		api := fs.String("api", "", "the request is of this `API`: a name, or the path that it is sent to")
		lines := fs.Bool("jsonl", false, "count each line of a JSON lines file")
		return func(_ context.Context, e env, args []string) error {
			switch {
			case *model != "" && *encoding != "":
				return usagef("-model and -encoding exclude each other")
			case *tokenizer != "" && (*model != "" || *encoding != ""):
				return usagef("-tokenizer excludes -model and -encoding")
			case *config != "" && (*encoding != "" || *tokenizer != ""):
				return usagef("-config is for -model, or the model of a request; it excludes -encoding and -tokenizer")
			case *config != "" && *model == "" && !*request:
				return usagef("-config needs -model or -request")
			case *api != "" && !*request:
				return usagef("-api needs -request")
			case *request && *lines:
				return usagef("-request and -jsonl exclude each other")
			case len(args) > 1:
				return usagef("one FILE at most")
			}
			counter := count.New(count.Options{})
			if *config != "" {
				c, err := loadConfig(e, *config)
				if err != nil {
					return err
				}
				counter = count.New(count.Options{Models: mappings(c)})
			}
			m, err := pickModel(e, counter, *model, *encoding, *tokenizer)
			if err != nil {
				return err
			}
			in := e.stdin
			if len(args) == 1 {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			if *lines {
				return countLines(e.stdout, in, m.Encoding)
			}
			text, err := io.ReadAll(in)
			if err != nil {
				return err
			}
			n := int64(0)
			if *request {
				n, err = countRequest(e, text, *api, counter, m, *model == "" && *encoding == "" && *tokenizer == "")
			} else {
				n = int64(m.Encoding.Count(text))
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(e.stdout, n)
			return err
		}
	},
}

// pickModel returns what to count with, and says so where a model is counted with a
// stand-in.
func pickModel(e env, counter *count.Counter, model, encoding, tokenizer string) (m count.Model, err error) {
	switch {
	case tokenizer != "":
		m.Encoding, err = tokens.LoadFile(tokenizer)
	case model == "":
		m.Encoding, err = tokens.Get(cmp.Or(encoding, "o200k_base"))
	default:
		m = counter.Model(model)
		if m.Estimated {
			fmt.Fprintf(e.stderr, "tokenbudget count: the encoding of %q is not known; counting with %s is an estimate\n", model, m.Encoding.Name())
		}
	}
	return m, err
}

// pickAPI returns the API of a request: the one of that name or path, or by its body.
func pickAPI(name string, body []byte) (dialect.API, error) {
	var names []string
	for _, a := range dialect.APIs() {
		if a.Name() == name {
			return a, nil
		}
		names = append(names, a.Name())
	}
	known := strings.Join(names, ", ")
	if path, _, _ := strings.Cut(name, "?"); path != "" {
		if r := dialect.ForPath(path); r.API != nil && r.Exact {
			return r.API, nil
		}
		return nil, fmt.Errorf("-api %q is no API that is known; use a path, or one of %s", name, known)
	}
	a, err := dialect.Guess(body)
	if err == nil && a == nil {
		err = fmt.Errorf("the request is like none of the APIs that are known; say which it is with -api: %s", known)
	}
	return a, err
}

// countRequest counts a request as m does. With byModel its own model decides.
func countRequest(e env, body []byte, api string, counter *count.Counter, m count.Model, byModel bool) (int64, error) {
	a, err := pickAPI(api, body)
	if err != nil {
		return 0, err
	}
	req, err := a.ParseRequest(body)
	if err != nil {
		return 0, err
	}
	if byModel && req.Model != "" {
		if m, err = pickModel(e, counter, req.Model, "", ""); err != nil {
			return 0, err
		}
	}
	m.Name = cmp.Or(m.Name, req.Model)
	return counter.Prompt(m, req), nil
}

func countLines(w io.Writer, in io.Reader, enc *tokens.Encoding) (err error) {
	out := bufio.NewWriter(w)
	defer func() { err = errors.Join(err, out.Flush()) }()
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, maxLine)
	n := 1
	for ; scanner.Scan(); n++ {
		// A decoder would replace such bytes, and other text would be counted.
		if !utf8.Valid(scanner.Bytes()) {
			return fmt.Errorf("line %d: it is not UTF-8; put bytes into text_b64", n)
		}
		var line struct {
			Text *string `json:"text"`
			B64  *string `json:"text_b64"`
		}
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok { // it speaks of types of Go
				err = errors.New(`it needs to be an object, with a string as "text" or "text_b64"`)
			}
			return fmt.Errorf("line %d: %w", n, err)
		}
		var text []byte
		switch {
		case (line.Text == nil) == (line.B64 == nil):
			return fmt.Errorf(`line %d: it needs either "text" or "text_b64"`, n)
		case line.Text != nil:
			text = []byte(*line.Text)
		default:
			if text, err = base64.StdEncoding.DecodeString(*line.B64); err != nil {
				return fmt.Errorf("line %d: text_b64: %w", n, err)
			}
		}
		fmt.Fprintln(out, enc.Count(text))
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n, err)
	}
	return nil
}
