package budget

import (
	"bytes"
	"encoding/binary"
	"errors"
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
	b = binary.AppendVarint(b, e.End)
	return binary.AppendUvarint(b, uint64(e.Used))
}

// checkEntry returns an error for an entry which a reader would refuse.
func checkEntry(e Entry) error {
	if e.Key.Unit > Requests || e.Used < 0 || len(e.Key.Limit)+len(e.Key.Subject) > maxEntrySize-64 {
		return fmt.Errorf("budget: cannot store %s of limit %.64q with usage %d and a subject of %d bytes", e.Key.Unit, e.Key.Limit, e.Used, len(e.Key.Subject))
	}
	return nil
}

// readEntries calls f for every entry in b. What it allocates is bounded by the length
// of b, whatever lengths b claims.
func readEntries(b []byte, f func(Entry)) error {
	r := bytes.NewReader(b)
	for i := 1; r.Len() > 0; i++ {
		e, err := readEntry(r)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		f(e)
	}
	return nil
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
