package count

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxFile bounds what [Factors.Save] returns and [Factors.Load] takes, in bytes. All
// models, with the longest names and every byte of them escaped, need less.
const MaxFile = 2 << 20

// ErrFile says that the file with the factors is damaged, or of a version that this program
// does not know.
var ErrFile = errors.New("no file of learned factors")

const fileVersion = 1

// file is the file's content: JSON, the model with the oldest last lesson first.
type file struct {
	Version int       `json:"version"`
	Models  []Learned `json:"models"`
}

// Save returns all that was learned, for [Factors.Load]. What was learned is the
// same afterwards, to the last bit; the order in which models make room, too.
func (f *Factors) Save() []byte {
	data, err := json.MarshalIndent(file{fileVersion, f.byAge()}, "", " ")
	if err != nil {
		panic(err) // strings and finite numbers always marshal
	}
	return append(data, '\n')
}

// Load replaces what was learned by what a file holds. An error wraps [ErrFile], and
// nothing has changed then.
func (f *Factors) Load(data []byte) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrFile, fmt.Sprintf(format, args...))
	}
	if len(data) > MaxFile {
		return bad("it has more than %d bytes", MaxFile)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return bad("%v", err)
	}
	if version.Version != fileVersion {
		return bad("it is of version %d, not %d", version.Version, fileVersion)
	}
	var content file
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&content); err != nil {
		return bad("%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows its end")
	}
	if len(content.Models) > maxModels {
		return bad("it has %d models; at most %d are kept", len(content.Models), maxModels)
	}
	models := make(map[string]*known, len(content.Models))
	for i, m := range content.Models {
		switch {
		case m.Name == "" || len(m.Name) > maxName || !utf8.ValidString(m.Name) || m.Name != strings.ToLower(m.Name):
			return bad("the name of model %d is not what this program writes", i)
		case models[m.Name] != nil:
			return bad("model %d is there twice", i)
		case !m.Input.valid() || !m.Output.valid():
			return bad("the figures of model %d are out of bounds", i)
		}
		models[m.Name] = &known{m, uint64(i)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.models = models
	f.lessons = uint64(len(models))
	return nil
}

func (e Estimate) valid() bool {
	return e.Ratio >= minRatio && e.Ratio <= maxRatio && e.Tokens >= priorWeight && e.Tokens <= memory
}
