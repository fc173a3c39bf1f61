package config

import (
	"strings"
	"testing"
)

// panicking stands in for text that brings the YAML parser down.
type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("internal error") }

func TestParserPanics(t *testing.T) {
	doc, next, err := parseYAML(panicking{})
	if doc != nil || next != nil || err == nil || !strings.Contains(err.Error(), "not YAML") {
		t.Errorf("got %v, %v, error %v", doc, next, err)
	}
}
