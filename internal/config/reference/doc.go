// Package reference describes every key of the configuration file, for those who write
// files, and makes two things of it: [Schema], by which editors complete and check a file
// while it is written, and the tables of docs/configuration.md ([Table]).
//
// The table of keys is in keys.go, one line for each, and how values look is in forms.go.
// Package config, which reads files, does not use them. The tests hold the two against
// each other, so that neither can know a key, a word, a bound or a default that the other
// does not: whoever adds a key to the decoder is told to describe it here.
//
// To add a key: decode it in package config, add its line to keys.go, and run
//
//	go generate ./internal/config/reference
//
// # The schema
//
// It is a JSON Schema of draft-07, which all language servers for YAML know. It is never
// stricter than the decoder; where it cannot say what the decoder checks, such as names
// that must be declared elsewhere, it allows more. Values may have variables, which are
// not known to an editor: a value with one is always right. patternErrorMessage is not of
// the standard; editors show it instead of a pattern.
package reference

//go:generate go test -run TestGenerated -rewrite
