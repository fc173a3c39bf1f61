package budget

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// An entry in a snapshot or a journal is
//
//	limit    uvarint length, bytes
//	unit     1 byte
//	subject  uvarint length, bytes
//	start    varint   Unix seconds
//	end      varint   Unix seconds; 0 for a period that never ends
//	used     uvarint  at most 2⁶³-1
//
// with the varint and uvarint of encoding/binary. Names may be of any bytes. Other
// numbers in the files have a fixed size and are little-endian.

// maxEntrySize bounds an entry's bytes. The keys of a ledger have less: see maxName,
// maxValue.
const maxEntrySize = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendSum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendEntry(b []byte, e Entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.Key.Limit)))
	b = append(b, e.Key.Limit...)
	b = append(b, byte(e.Key.Unit))
	b = binary.AppendUvarint(b, uint64(len(e.Key.Subject)))
	b = append(b, e.Key.Subject...)
	b = binary.AppendVarint(b, e.Key.Start)
	b = binary.AppendVarint(b, e.Key.End)
	return binary.AppendUvarint(b, uint64(e.Used))
}

// checkEntry returns an error for an entry which a reader would refuse.
func checkEntry(e Entry) error {
	if e.Key.Unit > Requests || e.Used < 0 || len(e.Key.Limit)+len(e.Key.Subject) > maxEntrySize-64 {
		return fmt.Errorf("budget: cannot store %s of limit %.64q with usage %d and a subject of %d bytes", e.Key.Unit, e.Key.Limit, e.Used, len(e.Key.Subject))
	}
	return nil
}

// rawEntry is an entry as it lies in a file; its names are valid as long as the
// file's bytes.
type rawEntry struct {
	limit, subject   []byte
	unit             Unit
	start, end, used int64
}

// addTo puts the entry into m, and reports whether m had none of its key. It allocates
// only for a key that is new.
func (r rawEntry) addTo(m map[Key]Entry) (added bool) {
	e, ok := m[Key{Limit: string(r.limit), Unit: r.unit, Subject: string(r.subject), Start: r.start, End: r.end}]
	if !ok {
		e.Key = Key{Limit: string(r.limit), Unit: r.unit, Subject: string(r.subject), Start: r.start, End: r.end}
	}
	e.Used = r.used
	m[e.Key] = e
	return !ok
}

// readEntries calls f for every entry in b. It allocates nothing, whatever lengths b
// claims.
func readEntries(b []byte, f func(rawEntry)) error {
	r := entryReader{rest: b}
	for i := 1; len(r.rest) > 0; i++ {
		e := rawEntry{limit: r.text(), unit: Unit(r.byte()), subject: r.text(), start: r.varint(), end: r.varint(), used: int64(r.uvarint())}
		if r.bad || e.unit > Requests || e.used < 0 {
			return fmt.Errorf("entry %d is none", i)
		}
		f(e)
	}
	return nil
}

// entryReader takes the parts of an entry from bytes. Once something is not there, it
// is bad, and has nothing more.
type entryReader struct {
	rest []byte
	bad  bool
}

// took removes n bytes; n ≤ 0 says that what was looked for is not there.
func (r *entryReader) took(n int) {
	if n <= 0 {
		r.bad, n = true, len(r.rest)
	}
	r.rest = r.rest[n:]
}

func (r *entryReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.took(n)
	return v
}

func (r *entryReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	r.took(n)
	return v
}

func (r *entryReader) byte() byte {
	if len(r.rest) == 0 {
		r.took(0)
		return 0
	}
	b := r.rest[0]
	r.took(1)
	return b
}

func (r *entryReader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.took(0)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
