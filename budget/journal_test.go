package budget

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// journalBytes is a journal file with records of the given entries, and the file's
// size after each record.
func journalBytes(first uint64, records ...[]Entry) (b []byte, ends []int) {
	b = newJournalHeader(first)
	for _, r := range records {
		b, first = appendRecords(b, first, r)
		ends = append(ends, len(b))
	}
	return b, ends
}

// scanBytes reads a journal file from memory.
func scanBytes(b []byte, first, from uint64) (map[Key]Entry, scan, error) {
	got := make(map[Key]Entry)
	s, err := scanJournal(bytes.NewReader(b), int64(len(b)), first, from, func(e rawEntry) { e.addTo(got) })
	return got, s, err
}

// after is what a reader must find after the first n records.
func after(records [][]Entry, n int) map[Key]Entry {
	m := make(map[Key]Entry)
	for _, r := range records[:n] {
		for _, e := range r {
			m[e.Key] = e
		}
	}
	return m
}

func refusedFile(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeign) || errors.Is(err, ErrVersion)
}

// TestJournalEveryByte: a journal that ends at any byte has all records that end
// before; one with a changed byte, wherever, is refused.
func TestJournalEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(1, 1<<40).Draw(t, "first")
		records := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Entry {
			return Entry{
				Key: Key{
					Limit:   rapid.SampledFrom([]string{"", "a", "org", "\x00\xff"}).Draw(t, "limit"),
					Unit:    rapid.SampledFrom(twinUnits).Draw(t, "unit"),
					Subject: rapid.SampledFrom([]string{"", "team=x", "user=%00"}).Draw(t, "subject"),
					Start:   rapid.Int64().Draw(t, "start"),
					End:     rapid.Int64().Draw(t, "end"),
				},
				Used: rapid.Int64Range(0, math.MaxInt64).Draw(t, "used"),
			}
		}), 1, 4), 1, 5).Draw(t, "records")
		b, ends := journalBytes(first, records...)
		for size := journalHeader; size <= len(b); size++ {
			whole, _ := slices.BinarySearch(ends, size+1)
			got, s, err := scanBytes(b[:size], first, 1)
			if err != nil {
				t.Fatalf("cut at byte %d of %d: %v", size, len(b), err)
			}
			if want := after(records, whole); !maps.Equal(got, want) || s.next != first+uint64(whole) {
				t.Fatalf("cut at byte %d: %+v, %+v; want %+v", size, got, s, want)
			}
			end := journalHeader
			if whole > 0 {
				end = ends[whole-1]
			}
			if s.end != int64(end) || s.torn != (end != size) {
				t.Fatalf("cut at byte %d: %+v, want an end at %d", size, s, end)
			}
		}
		for size := range journalHeader {
			if _, _, err := scanBytes(b[:size], first, 1); !refusedFile(err) {
				t.Fatalf("cut at byte %d, in the header: %v", size, err)
			}
		}
		mask := rapid.ByteRange(1, 255).Draw(t, "mask")
		for i := range b {
			b[i] ^= mask
			if _, _, err := scanBytes(b, first, 1); !refusedFile(err) {
				t.Fatalf("byte %d of %d changed: %v", i, len(b), err)
			}
			b[i] ^= mask
		}
		// From a record in the middle on.
		from := rapid.IntRange(0, len(records)).Draw(t, "from")
		got, _, err := scanBytes(b, first, first+uint64(from))
		want := make(map[Key]Entry)
		for _, r := range records[from:] {
			for _, e := range r {
				want[e.Key] = e
			}
		}
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("from record %d: %+v, %v; want %+v", from, got, err, want)
		}
	})
}

// TestJournalPowerFailure: sectors that never came to the disk are zeros.
func TestJournalPowerFailure(t *testing.T) {
	long := Entry{Key: Key{Limit: strings.Repeat("n", 2*sector), Subject: strings.Repeat("s", 2*sector)}, Used: 1}
	records := [][]Entry{{entry("a", "", 5)}, {entry("a", "", 6), long}}
	b, ends := journalBytes(1, records...)
	for lost := ends[0]; lost < len(b); lost++ {
		c := slices.Clone(b)
		clear(c[lost:])
		got, s, err := scanBytes(c, 1, 1)
		// A beginning of a sector is never lost alone.
		if lost%sector != 0 && lost != ends[0] && len(b)-(lost+sector-1)/sector*sector < zerosAtLeast {
			continue
		}
		if err != nil || !s.torn || s.end != int64(ends[0]) || !maps.Equal(got, after(records, 1)) {
			t.Fatalf("zeros from byte %d on: %+v, %+v, %v", lost, got, s, err)
		}
	}
	if _, _, err := scanBytes(slices.Concat(b, make([]byte, 3*sector)), 1, 1); err != nil {
		t.Errorf("zeros after the last record: %v", err)
	}
	middle := slices.Clone(b)
	clear(middle[journalHeader:ends[0]])
	if _, _, err := scanBytes(middle, 1, 1); !errors.Is(err, ErrDamaged) {
		t.Errorf("zeros in place of the first record: %v", err)
	}
}

// TestJournalDamageBeforeZeros: zeros at the end are no excuse for a record that lacks
// nothing, but was changed.
func TestJournalDamageBeforeZeros(t *testing.T) {
	long := Entry{Key: Key{Limit: strings.Repeat("n", 2*sector)}, Used: 1}
	b, ends := journalBytes(1, []Entry{entry("a", "", 5)}, []Entry{long}, []Entry{entry("a", "", 6)})
	b = append(b, make([]byte, 3*sector)...)
	if _, s, err := scanBytes(b, 1, 1); err != nil || !s.torn || s.end != int64(ends[2]) {
		t.Fatalf("zeros behind the last record: %+v, %v", s, err)
	}
	for i := range ends[2] {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, s, err := scanBytes(b, 1, 1); !refusedFile(err) {
				t.Fatalf("byte %d changed: %+v, %v", i, s, err)
			}
			b[i] ^= 1 << bit
		}
	}
}

// TestJournalSplits: what does not fit into one record takes several.
func TestJournalSplits(t *testing.T) {
	var many []Entry
	for i := range 100 {
		many = append(many, Entry{Key: Key{Limit: fmt.Sprint(i), Subject: strings.Repeat("s", recordTarget/10)}, Used: int64(i)})
	}
	b, next := appendRecords(newJournalHeader(7), 7, many)
	got, s, err := scanBytes(b, 7, 1)
	if err != nil || len(got) != 100 || s.next != next || next < 7+9 || next > 7+12 {
		t.Errorf("%d entries, %+v, %v; next is %d", len(got), s, err, next)
	}
	if b, next := appendRecords(nil, 7, nil); len(b) != 0 || next != 7 {
		t.Errorf("no entries make %d bytes", len(b))
	}
}

func TestJournalNames(t *testing.T) {
	for _, first := range []uint64{1, 12345, math.MaxUint64} {
		if got, ok := journalFirst(journalName(first)); got != first || !ok {
			t.Errorf("%d came back as %d, %t", first, got, ok)
		}
	}
	for _, name := range []string{"", snapshotName, lockName, "ledger.journal.", "ledger.journal.1", journalName(1) + ".tmp", journalName(0), "ledger.journal.+0000000000000000001"} {
		if first, ok := journalFirst(name); ok {
			t.Errorf("%q is taken for the journal of %d", name, first)
		}
	}
}

// TestOpenAtEveryByte does with a whole folder what TestJournalEveryByte does with a
// file: what was acknowledged is there, or the folder is refused and left as it is.
func TestOpenAtEveryByte(t *testing.T) {
	records := [][]Entry{{entry("a", "x", 5), entry("b", "", 7)}, {entry("a", "x", 9)}, {entry("c", "", 1)}}
	b, ends := journalBytes(1, records...)
	dir := t.TempDir()
	path := filepath.Join(dir, journalName(1))
	for size := range len(b) + 1 {
		write(t, path, b[:size])
		var reported error
		s, err := OpenFile(dir, WithReport(func(err error) { reported = err }))
		if size < journalHeader {
			if !refusedFile(err) {
				t.Fatalf("cut at byte %d: %v", size, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at byte %d: %v", size, err)
		}
		whole, found := slices.BinarySearch(ends, size)
		if found {
			whole++
		}
		if !maps.Equal(s.entries, after(records, whole)) {
			t.Fatalf("cut at byte %d: %+v", size, s.entries)
		}
		if torn := !found && size != journalHeader; errors.Is(reported, ErrTorn) != torn || (reported != nil) != torn {
			t.Errorf("cut at byte %d: reported %v", size, reported)
		}
		// It goes on behind what is whole.
		put(t, s, entry("new", "", int64(size)))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, dir); len(got) != len(after(records, whole))+1 {
			t.Fatalf("cut at byte %d, one more record: %+v", size, got)
		}
	}
	for i := range b {
		c := slices.Clone(b)
		c[i] ^= 1 << (i % 8)
		write(t, path, c)
		_, err := OpenFile(dir)
		if !refusedFile(err) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move") {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c) {
			t.Fatalf("byte %d changed: the file was changed as well, %v", i, err)
		}
	}
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzJournal: whatever a file has, it is read or refused; what is read can be written
// and read again.
func FuzzJournal(f *testing.F) {
	good, ends := journalBytes(3, []Entry{entry("limit", "team=x", 5)}, []Entry{entry("", "", math.MaxInt64), entry("b", "", 0)})
	f.Add(good, false)
	f.Add(good[:ends[0]+5], false)
	f.Add(good[journalHeader+recordHeader:], true)
	f.Add(binary.AppendUvarint(nil, 1<<62), true)
	f.Add([]byte("SQLite format 3\x00"), false)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal { // a record of these bytes with right checksums, so that entries are reached
			h := binary.LittleEndian.AppendUint32(nil, uint32(len(data)))
			h = binary.LittleEndian.AppendUint64(h, 3)
			h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(data, castagnoli))
			data = slices.Concat(newJournalHeader(3), appendSum(h), data)
		}
		got, s, err := scanBytes(data, 3, 1)
		if err != nil {
			if !refusedFile(err) {
				t.Fatalf("the error says nothing: %v", err)
			}
			return
		}
		if s.end > int64(len(data)) || s.torn != (s.end < int64(len(data))) {
			t.Fatalf("%d bytes: %+v", len(data), s)
		}
		entries := slices.Collect(maps.Values(got))
		b, _ := journalBytes(3, entries)
		if again, _, err := scanBytes(b, 3, 1); err != nil || !maps.Equal(again, got) {
			t.Fatalf("%+v came back as %+v, %v", got, again, err)
		}
	})
}

// FuzzSnapshot does the same with a snapshot.
func FuzzSnapshot(f *testing.F) {
	good := appendEntry(appendEntry(newHeader(2, 9), entry("limit", "team=x", 5)), entry("", "", 1<<62))
	f.Add(appendSum(slices.Clone(good)), false)
	f.Add(good, true) // true: with a right checksum
	f.Add(good[:len(good)-3], true)
	f.Add(newHeader(1, 1<<60), true)
	f.Add(appendEntry(newHeader(1, 1), entry("x", "", 1)), true)
	f.Add([]byte("SQLite format 3\x00"), false)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal {
			data = appendSum(slices.Clone(data))
		}
		entries, _, next, err := parseSnapshot(data)
		if err != nil {
			if !refusedFile(err) {
				t.Fatalf("the error says nothing: %v", err)
			}
			return
		}
		again, _, gotNext, err := parseSnapshot(snapshotBytes(t, next, slices.Collect(maps.Values(entries))))
		if err != nil || gotNext != next || !maps.Equal(again, entries) {
			t.Fatalf("%+v came back as %+v, %v", entries, again, err)
		}
	})
}

func snapshotBytes(t testing.TB, next uint64, entries []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := newSnapshotWriter(&b, next)
	for _, e := range entries {
		w.add(e)
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
