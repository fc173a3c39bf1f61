package python

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

func start(ctx context.Context, t *testing.T) *Oracle {
	t.Helper()
	ref, err := Prepare(ctx, t.TempDir())
	if errors.Is(err, ErrNone) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	o, err := ref.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOracle(t *testing.T) {
	o := start(t.Context(), t)
	for range 2 {
		ids, err := o.Encode("cl100k_base", [][]byte{[]byte("don't"), nil, []byte("\xe4\xb8"), []byte("<|endoftext|>")})
		if err != nil {
			t.Fatal(err)
		}
		want := [][]uint32{{15357, 956}, {}, {5809}, {27, 91, 8862, 728, 428, 91, 29}}
		if !slices.EqualFunc(ids, want, slices.Equal) {
			t.Errorf("%v, want %v", ids, want)
		}
	}
	if _, err := o.Encode("p50k_base", nil); err == nil || !strings.Contains(err.Error(), "use one of o200k_base, cl100k_base") {
		t.Errorf("error %v", err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

// TestOracleDies ends the process in mid-work.
func TestOracleDies(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := start(ctx, t)
	if _, err := o.Encode("o200k_base", nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := o.cmd.Wait(); err == nil {
		t.Fatal("the process was not ended")
	}
	if _, err := o.Encode("o200k_base", [][]byte{[]byte("secret")}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 7, 0, 0, 0}, 1)
	f.Add([]byte{2, 0, 0, 0, 7, 0, 0, 0}, 1)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0}, 2)
	f.Add([]byte{255, 255, 255, 255}, 1)
	f.Add([]byte{0, 0, 0, 0, 1}, 1)
	f.Fuzz(func(t *testing.T, reply []byte, n int) {
		ids, err := parseReply(reply, n)
		if err != nil {
			return
		}
		var again []byte
		for _, list := range ids {
			again = binary.LittleEndian.AppendUint32(again, uint32(len(list)))
			for _, id := range list {
				again = binary.LittleEndian.AppendUint32(again, id)
			}
		}
		if len(ids) != n || !bytes.Equal(again, reply) {
			t.Errorf("%x for %d texts was read as %v", reply, n, ids)
		}
	})
}
