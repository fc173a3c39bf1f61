package budget

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A snapshot is the whole content of a file store:
//
//	magic    8 bytes   "tbledger"
//	version  4 bytes   1
//	count    8 bytes   number of entries
//	entries            count times, in no order:
//	    limit    uvarint length, bytes
//	    unit     1 byte
//	    subject  uvarint length, bytes
//	    start    varint   Unix seconds
//	    end      varint   Unix seconds; 0 for a period that never ends
//	    used     uvarint  at most 2⁶³-1
//	sum      4 bytes   CRC-32C of all before it
//
// Numbers of fixed size are little-endian; varint and uvarint are those of
// encoding/binary. Names may be of any bytes.
const (
	snapshotMagic   = "tbledger"
	snapshotVersion = 1
	headerSize      = len(snapshotMagic) + 4 + 8
	sumSize         = 4
	minEntrySize    = 6
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHeader and the two functions after it write a snapshot.
func appendHeader(b []byte, count int) []byte {
	b = append(b, snapshotMagic...)
	b = binary.LittleEndian.AppendUint32(b, snapshotVersion)
	return binary.LittleEndian.AppendUint64(b, uint64(count))
}

func appendEntry(b []byte, e Entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.Key.Limit)))
	b = append(b, e.Key.Limit...)
	b = append(b, byte(e.Key.Unit))
	b = binary.AppendUvarint(b, uint64(len(e.Key.Subject)))
	b = append(b, e.Key.Subject...)
	b = binary.AppendVarint(b, e.Key.Start)
	b = binary.AppendVarint(b, e.End)
	return binary.AppendUvarint(b, uint64(e.Used))
}

func appendSum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseSnapshot returns the entries of a snapshot, or an error that wraps
// [ErrForeign], [ErrVersion] or [ErrDamaged]. What it allocates is bounded by
// the length of b and by maxEntries, whatever lengths b claims.
func parseSnapshot(b []byte) (map[Key]Entry, error) {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	n := min(len(b), len(snapshotMagic))
	if string(b[:n]) != snapshotMagic[:n] {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrForeign, snapshotMagic)
	}
	if len(b) < headerSize+sumSize {
		return nil, damaged("it ends after %d bytes", len(b))
	}
	if v := binary.LittleEndian.Uint32(b[len(snapshotMagic):]); v != snapshotVersion {
		return nil, fmt.Errorf("%w %d; this program knows version %d", ErrVersion, v, snapshotVersion)
	}
	body, sum := b[:len(b)-sumSize], binary.LittleEndian.Uint32(b[len(b)-sumSize:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, damaged("its checksum is wrong")
	}
	count := binary.LittleEndian.Uint64(body[headerSize-8:])
	r := bytes.NewReader(body[headerSize:])
	if count > maxEntries || count > uint64(r.Len()/minEntrySize) {
		return nil, damaged("its %d bytes of entries cannot be %d entries", r.Len(), count)
	}
	entries := make(map[Key]Entry, count)
	for i := range count {
		e, err := readEntry(r)
		if err != nil {
			return nil, damaged("entry %d: %v", i+1, err)
		}
		if _, ok := entries[e.Key]; ok {
			return nil, damaged("entry %d: a counter appears twice", i+1)
		}
		entries[e.Key] = e
	}
	if r.Len() != 0 {
		return nil, damaged("%d bytes follow the last entry", r.Len())
	}
	return entries, nil
}

func readEntry(r *bytes.Reader) (e Entry, err error) {
	if e.Key.Limit, err = readString(r); err != nil {
		return e, fmt.Errorf("limit: %w", err)
	}
	unit, err := r.ReadByte()
	if err != nil {
		return e, fmt.Errorf("unit: %w", err)
	}
	if e.Key.Unit = Unit(unit); e.Key.Unit > Requests {
		return e, fmt.Errorf("unknown unit %d", unit)
	}
	if e.Key.Subject, err = readString(r); err != nil {
		return e, fmt.Errorf("subject: %w", err)
	}
	if e.Key.Start, err = binary.ReadVarint(r); err != nil {
		return e, fmt.Errorf("start: %w", err)
	}
	if e.End, err = binary.ReadVarint(r); err != nil {
		return e, fmt.Errorf("end: %w", err)
	}
	used, err := binary.ReadUvarint(r)
	if err != nil {
		return e, fmt.Errorf("used: %w", err)
	}
	if e.Used = int64(used); e.Used < 0 {
		return e, fmt.Errorf("used is out of range")
	}
	return e, nil
}

func readString(r *bytes.Reader) (string, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return "", err
	}
	if n > uint64(r.Len()) {
		return "", errors.New("it is longer than the file")
	}
	b := make([]byte, n)
	_, err = r.Read(b)
	if n == 0 {
		err = nil // bytes.Reader reports the end even if nothing was asked for
	}
	return string(b), err
}
