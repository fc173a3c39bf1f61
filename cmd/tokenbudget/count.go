package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// maxLine bounds one line of -jsonl, in bytes.
const maxLine = 64 << 20

var countCommand = command{
	name:  "count",
	args:  "[-model M | -encoding E] [-request | -jsonl] [FILE]",
	short: "counts tokens as the server does",
	long: `FILE is a text; standard input if it is missing. With -request it is the JSON body
of an OpenAI chat request, counted with what the format adds. With -jsonl each line
is {"text": "…"} or {"text_b64": "…"}, and one count a line is printed.
The text is counted as ordinary text: special tokens in it have no meaning.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		model := fs.String("model", "", "count as this `MODEL` does")
		encoding := fs.String("encoding", "", "count with this `ENCODING`: o200k_base (default), cl100k_base, o200k_harmony")
		request := fs.Bool("request", false, "count a JSON API request")
		lines := fs.Bool("jsonl", false, "count each line of a JSON lines file")
		return func(_ context.Context, e env, args []string) error {
			switch {
			case *model != "" && *encoding != "":
				return usagef("-model and -encoding exclude each other")
			case *request && *lines:
				return usagef("-request and -jsonl exclude each other")
			case len(args) > 1:
				return usagef("one FILE at most")
			}
			enc, err := pickEncoding(e, *model, *encoding)
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
				return countLines(e.stdout, in, enc)
			}
			text, err := io.ReadAll(in)
			if err != nil {
				return err
			}
			n := int64(0)
			if *request {
				n, err = countRequest(e, text, enc, *model, *model == "" && *encoding == "")
			} else {
				n = int64(enc.Count(text))
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(e.stdout, n)
			return err
		}
	},
}

// pickEncoding returns the encoding to count with, and says so where the model is
// counted with a stand-in.
func pickEncoding(e env, model, encoding string) (*tokens.Encoding, error) {
	if model == "" {
		if encoding == "" {
			encoding = "o200k_base"
		}
		return tokens.Get(encoding)
	}
	enc, known := tokens.ForModel(model)
	if !known {
		fmt.Fprintf(e.stderr, "tokenbudget count: the encoding of %q is not known; counting with %s is an estimate\n", model, enc.Name())
	}
	return enc, nil
}

// countRequest counts a request as model does, or as its own model if that is
// empty. With byModel its own model decides on the encoding, too.
func countRequest(e env, body []byte, enc *tokens.Encoding, model string, byModel bool) (int64, error) {
	req, err := dialect.OpenAIChat{}.ParseRequest(body)
	if err != nil {
		return 0, err
	}
	if byModel && req.Model != "" {
		if enc, err = pickEncoding(e, req.Model, ""); err != nil {
			return 0, err
		}
	}
	if model == "" {
		model = req.Model
	}
	return count.New(count.Options{}).Prompt(count.Model{Name: model, Encoding: enc}, req), nil
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
