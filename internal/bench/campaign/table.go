package main

import (
	"fmt"
	"strings"
	"time"
)

// table is one of Markdown.
type table struct {
	text strings.Builder
	rows int
}

func newTable(columns ...string) *table {
	t := new(table)
	t.row(columns...)
	t.text.WriteString(strings.Repeat("|---", len(columns)) + "|\n")
	t.rows = 0
	return t
}

func (t *table) row(cells ...string) {
	t.text.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	t.rows++
}

// done returns the table; one without rows is an error.
func (t *table) done() (string, error) {
	if t.rows == 0 {
		return "", errNoFigures
	}
	return t.text.String(), nil
}

// thousands puts commas into a number's digits.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f", d.Seconds())
	}
	return fmt.Sprintf("%.0f", d.Seconds())
}

// millis writes a duration in milliseconds.
func millis(text string) string {
	d, err := time.ParseDuration(strings.TrimRight(text, ",\n"))
	if err != nil {
		return text
	}
	ms := float64(d.Microseconds()) / 1000
	if ms < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}
