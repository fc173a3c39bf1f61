package exchange

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tokenbudget/tokenbudget/internal/hostile"
)

// FuzzAnswer answers with any bytes, as a stream and as JSON. Whatever they are and however they
// are split, the client gets the same, the charge is the same, and it is settled once; what
// the client gets is what was sent, but for events that carry usage alone.
func FuzzAnswer(f *testing.F) {
	for _, row := range rows(f, filepath.Join("testdata", "hostile", "answers")) {
		var all []byte
		for _, s := range row.Steps {
			b, _ := s.Bytes()
			all = append(all, b...)
		}
		if len(all) > 0 && len(all) < 1000 {
			f.Add(all, row.Unary, len(all)/2)
		}
	}
	f.Fuzz(func(t *testing.T, answer []byte, unary bool, at int) {
		if len(answer) > 10_000 || bytes.IndexByte(answer, '\r') >= 0 {
			return // a line feed behind a carriage return belongs to either block: see package sse
		}
		row := &hostile.Case{Kind: "answer", Title: "fuzz", Path: hostile.ChatPath, Unary: unary, Steps: []hostile.Step{{Op: "raw", Text: answer}, {Op: "end"}}}
		whole := attack(t, row, unsplit)
		at = min(max(at, 0), len(answer))
		for _, split := range []splitter{
			func(_ int, b []byte) [][]byte { return [][]byte{b[:at], b[at:]} },
			func(_ int, b []byte) [][]byte { return slices.Collect(slices.Chunk(b, 3)) },
		} {
			if len(answer) == 0 {
				break
			}
			if got := attack(t, row, split); got != whole {
				t.Errorf("split: %s\nwhole: %s", got, whole)
			}
		}
		if !strings.HasPrefix(whole, "the client gets all") && !strings.HasPrefix(whole, "the client gets no body") && !strings.Contains(string(answer), "usage") {
			t.Errorf("%s", whole)
		}
	})
}

// rows reads a file of the corpus.
func rows(f *testing.F, file string) (all []*hostile.Case) {
	f.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	for block := range strings.SplitSeq(string(text), "\n\n") {
		lines, _, ok := strings.Cut(block, "\n----")
		lines = strings.TrimLeft(lines, "\n")
		cmd, input, _ := strings.Cut(lines, "\n")
		name, title, _ := strings.Cut(cmd, " ")
		if !ok || name != "answer" {
			continue
		}
		c, err := hostile.Parse(&datadriven.TestData{Cmd: name, CmdArgs: []datadriven.CmdArg{{Key: title}}, Input: input})
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, c)
	}
	if len(all) < 50 {
		f.Fatalf("only %d rows were found in %s", len(all), file)
	}
	return all
}
