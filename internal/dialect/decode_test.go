package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// decodeNumbers is json.Unmarshal, but for numbers, which stay as they are written: those that nobody
// decides on may be larger than Go's.
func decodeNumbers(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON")
	}
	return nil
}
