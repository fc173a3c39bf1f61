package config

import (
	_ "embed"
	"slices"
)

//go:embed starter.yaml
var starter []byte

// Starter returns a commented file with conservative limits, ready to be used. A line
// that begins with "#" and no space, or with "#" and two spaces, is a setting at its
// default; one that begins with "#" and one space is text.
func Starter() []byte { return slices.Clone(starter) }
