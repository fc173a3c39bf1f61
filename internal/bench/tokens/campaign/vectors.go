package campaign

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// ReadVectors returns the texts of a file like internal/tokens/testdata/vectors.jsonl.gz. The counts which that
// has besides are for the tests of the engine.
func ReadVectors(file string) ([][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var texts [][]byte
	for d := json.NewDecoder(z); ; {
		var v struct {
			Text []byte `json:"text_b64"`
		}
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return texts, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s, vector %d: %w", file, len(texts)+1, err)
		}
		texts = append(texts, v.Text)
	}
}
