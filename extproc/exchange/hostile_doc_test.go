package exchange

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/hostile"
)

// hostileDoc checks that docs/hostile.md says what the corpus does. -rewrite writes it.
func hostileDoc(t *testing.T) {
	t.Helper()
	const doc = "../../docs/hostile.md"
	for _, name := range []string{"requests", "answers", "messages", "elsewhere"} {
		table := corpusTable(t, "testdata/hostile/"+name)
		if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
			if err := bench.WriteSection(doc, "hostile-"+name, table); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "<!-- begin hostile-"+name+" -->\n"+table+"<!-- end hostile-"+name+" -->") {
			t.Errorf("%s is not what testdata/hostile/%s says; go test ./extproc/exchange -run TestHostile -rewrite writes it", doc, name)
		}
	}
}

// corpusTable makes a table of Markdown of one file of the corpus.
func corpusTable(t *testing.T, file string) string {
	var out strings.Builder
	datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
		c, err := hostile.Parse(d)
		if err != nil {
			t.Fatal(err)
		}
		row := func(cells ...string) { out.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
		if out.Len() == 0 {
			head := []string{"API", "what comes", "as", "what it gets", "log and ledger"}
			if c.Kind == "see" {
				head = []string{"what", "tests"}
			}
			row(head...)
			out.WriteString(strings.Repeat("|---", len(head)) + "|\n")
		}
		if c.Kind == "see" {
			var tests []string
			for _, s := range c.Steps {
				file, name, _ := strings.Cut(string(s.Text), " ")
				if name != "" {
					name += " of " + file[:strings.LastIndexByte(file, '/')]
				} else {
					name = file
				}
				tests = append(tests, code(name))
			}
			row(c.Title, strings.Join(tests, ", "))
			return d.Expected
		}
		api := dialect.ForPath(c.Path).API
		name := ""
		if api != nil {
			name = api.Name()
		}
		var lines []string
		for line := range strings.Lines(d.Input) {
			op, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if op != "envoy" {
				lines = append(lines, code(shorten(strings.TrimSpace(line), 120)))
			}
		}
		if n := len(lines); n > 20 {
			lines = append(lines[:3:3], fmt.Sprintf("… (%d lines)", n))
		}
		seen, told, _ := strings.Cut(strings.TrimSpace(d.Expected), "\n")
		row(name, c.Title, strings.Join(lines, " "), cell(shorten(seen, 300)), cell(told))
		return d.Expected
	})
	return out.String()
}

// code is a cell's text as code.
func code(s string) string {
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	return fence + cell(s) + fence
}

// cell is a text that may stand in a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// shorten leaves out the middle of a text that is longer than n bytes.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n*2/3], "") + fmt.Sprintf(" … (%s bytes)", strconv.Itoa(len(s)))
}
