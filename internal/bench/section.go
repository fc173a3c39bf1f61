// Package bench is what the benchmark programs below it share. They measure
// tokenbudget beside others in one run, in turns, so that the ratios hold on a
// machine whose speed drifts, and write their tables into the documentation.
package bench

import (
	"bytes"
	"fmt"
	"os"
)

// WriteSection replaces what stands between the lines "<!-- begin NAME -->" and
// "<!-- end NAME -->" of a Markdown file. A file or a section that is missing is
// an error, so that tables cannot end up in a place where nobody looks.
func WriteSection(file, name, content string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := []byte("<!-- begin "+name+" -->\n"), []byte("<!-- end "+name+" -->")
	head, rest, ok := bytes.Cut(old, begin)
	_, tail, closed := bytes.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no section %q; add the lines <!-- begin %s --> and <!-- end %s -->", file, name, name, name)
	}
	text := bytes.Join([][]byte{head, begin, []byte(content), end, tail}, nil)
	if bytes.Equal(text, old) {
		return nil
	}
	return os.WriteFile(file, text, 0o644) //nolint:gosec // documentation is for everybody to read
}
