package tokens

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
)

// parse fills text and start from a rank file of OpenAI's: a line "<base64> <rank>" for each token, by rank.
func (v *vocab) parse(data []byte) error {
	lines := bytes.Count(data, []byte("\n")) + 1
	v.text = make([]byte, 0, len(data)/2)
	v.start = append(make([]uint32, 0, lines+1), 0)
	for line := 1; len(data) > 0; line++ {
		row := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			row, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		if len(row) == 0 {
			continue
		}
		token, rank, ok := bytes.Cut(row, []byte(" "))
		if !ok {
			return fmt.Errorf("line %d: no rank", line)
		}
		text, err := base64.StdEncoding.AppendDecode(v.text, token)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		// p50k_base leaves out one rank.
		if n, err := strconv.Atoi(string(rank)); err != nil || n != v.size() && (v.size() < p50kHole || n != v.size()+1) {
			return fmt.Errorf("line %d: rank %q, want %d", line, rank, v.size())
		}
		n := len(text) - len(v.text)
		if n == 0 || n > maxTokenLen {
			return fmt.Errorf("line %d: a token of %d bytes, want 1 to %d", line, n, maxTokenLen)
		}
		if (n == 1) != (v.size() < 256) {
			return fmt.Errorf("line %d: the first 256 tokens, and only they, must be single bytes", line)
		}
		v.text = text
		v.start = append(v.start, uint32(len(text)))
	}
	if n := v.size(); n < 256 || n >= noToken {
		return fmt.Errorf("%d tokens, want 256 to %d", n, noToken-1)
	}
	return nil
}
