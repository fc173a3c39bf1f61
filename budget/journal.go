package budget

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// The journal is a chain of files, each named by the sequence of its first record.
// A file is
//
//	magic    8 bytes  "tbjournl"
//	version  4 bytes  1
//	first    8 bytes  sequence of the first record
//	sum      4 bytes  CRC-32C of all before it
//	records
//
// and a record, which is written by one write, is
//
//	length    4 bytes  of the entries, in bytes
//	sequence  8 bytes  one more than that of the record before
//	sum       4 bytes  CRC-32C of the entries
//	header    4 bytes  CRC-32C of the 16 bytes before it
//	entries            see appendEntry; of one counter the last counts
//
// An entry is a counter's whole balance, not a change of it. To read it twice does no
// harm.
//
// # What a fault at the end means
//
// A write that a crash of the process interrupts leaves a beginning of its record.
// Since the header has a checksum of its own, its length can be trusted, and a record
// that the file is too short for is such a beginning: it is torn. After a power failure the
// file may also be long enough, but with zeros in place of sectors that never came
// to the disk. Everything else was changed after it was written: it is damage, in the
// last record, too. Torn records had not been acknowledged, or, after a power failure,
// not been flushed; a damaged one may have been.
const (
	journalMagic   = "tbjournl"
	journalVersion = 1
	journalHeader  = len(journalMagic) + 4 + 8 + 4
	recordHeader   = 4 + 8 + 4 + 4
	// recordTarget is from how many bytes on a record takes no further entry.
	recordTarget = 1 << 20
	maxRecord    = recordTarget + maxEntrySize
	sector       = 512 // bytes; what a disk writes whole
	zerosAtLeast = 8   // an entry ends in five at most, unless its limit's name ends in them
)

// journalName is the name of the file whose first record has the sequence first.
func journalName(first uint64) string { return fmt.Sprintf("%s%020d", journalPrefix, first) }

// journalFirst is the reverse of journalName.
func journalFirst(name string) (first uint64, ok bool) {
	digits, ok := strings.CutPrefix(filepath.Base(name), journalPrefix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0
}

func newJournalHeader(first uint64) []byte {
	b := []byte(journalMagic)
	b = binary.LittleEndian.AppendUint32(b, journalVersion)
	b = binary.LittleEndian.AppendUint64(b, first)
	return appendSum(b)
}

// appendRecords appends entries as records from sequence next on, and returns the
// sequence after them.
func appendRecords(b []byte, next uint64, entries []Entry) ([]byte, uint64) {
	for len(entries) > 0 {
		start := len(b)
		b = append(b, make([]byte, recordHeader)...)
		for len(entries) > 0 && len(b)-start < recordTarget {
			b = appendEntry(b, entries[0])
			entries = entries[1:]
		}
		h, body := b[start:start+recordHeader], b[start+recordHeader:]
		binary.LittleEndian.PutUint32(h, uint32(len(body)))
		binary.LittleEndian.PutUint64(h[4:], next)
		binary.LittleEndian.PutUint32(h[12:], crc32.Checksum(body, castagnoli))
		binary.LittleEndian.PutUint32(h[16:], crc32.Checksum(h[:16], castagnoli))
		next++
	}
	return b, next
}

// scan is what a journal file turned out to have.
type scan struct {
	next uint64 // sequence after its last whole record
	end  int64  // bytes up to the end of that record
	torn bool   // there is a beginning of another one
}

// scanJournal reads a journal file of size bytes whose first record must have the
// sequence first, and calls f for the entries of each record from sequence from on. Errors
// other than those of r wrap [ErrForeign], [ErrVersion] or [ErrDamaged]. It allocates
// no more than a record at a time, and not more than r has.
func scanJournal(r io.ReaderAt, size int64, first, from uint64, f func(rawEntry)) (s scan, err error) {
	damaged := func(at int64, format string, args ...any) (scan, error) {
		return scan{}, fmt.Errorf("%w: at byte %d: %s", ErrDamaged, at, fmt.Sprintf(format, args...))
	}
	head := make([]byte, journalHeader)
	if err := readAt(r, head[:min(size, int64(len(head)))], 0); err != nil {
		return scan{}, err
	}
	n := min(size, int64(len(journalMagic)))
	switch version := binary.LittleEndian.Uint32(head[len(journalMagic):]); {
	case string(head[:n]) != journalMagic[:n]:
		return scan{}, fmt.Errorf("%w: it does not begin with %q", ErrForeign, journalMagic)
	case size < int64(journalHeader): // it was written whole before it got its name
		return damaged(0, "it ends after %d bytes", size)
	case version != journalVersion:
		return scan{}, fmt.Errorf("%w %d; this program knows version %d", ErrVersion, version, journalVersion)
	case !sumOK(head) || binary.LittleEndian.Uint64(head[len(journalMagic)+4:]) != first:
		return damaged(0, "its header is wrong")
	}
	s = scan{next: first, end: int64(journalHeader)}
	var body []byte
	for head := head[:recordHeader]; ; {
		rest := size - s.end
		if rest == 0 {
			return s, nil
		}
		if rest < recordHeader {
			s.torn = true
			return s, nil
		}
		if err := readAt(r, head, s.end); err != nil {
			return scan{}, err
		}
		length := int64(binary.LittleEndian.Uint32(head))
		switch {
		case !sumOK(head):
			if s.torn, err = lost(r, s.end, s.end+recordHeader, size); err != nil || s.torn {
				return s, err
			}
			return damaged(s.end, "the header of record %d is wrong", s.next)
		case binary.LittleEndian.Uint64(head[4:]) != s.next || s.next == math.MaxUint64:
			return damaged(s.end, "record %d is missing", s.next)
		case length > maxRecord:
			return damaged(s.end, "record %d claims %d bytes", s.next, length)
		case rest < recordHeader+length:
			s.torn = true
			return s, nil
		}
		if int64(cap(body)) < length {
			body = make([]byte, length)
		}
		body = body[:length]
		if err := readAt(r, body, s.end+recordHeader); err != nil {
			return scan{}, err
		}
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[12:]) {
			if s.torn, err = lost(r, s.end, s.end+recordHeader+length, size); err != nil || s.torn {
				return s, err
			}
			return damaged(s.end, "the checksum of record %d is wrong", s.next)
		}
		add := f
		if s.next < from {
			add = func(rawEntry) {}
		}
		if err := readEntries(body, add); err != nil {
			return damaged(s.end, "record %d: %v", s.next, err)
		}
		s.next++
		s.end += recordHeader + length
	}
}

// sumOK reports whether b ends with the checksum of the rest.
func sumOK(b []byte) bool {
	n := len(b) - sumSize
	return crc32.Checksum(b[:n], castagnoli) == binary.LittleEndian.Uint32(b[n:])
}

func readAt(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	return err
}

// lost reports whether a power failure has kept from the disk what is wrong in the bytes
// from at to end: from one of them on there is nothing but zeros, or a sector of them is
// zeros and the end of the file is as well. Whatever else is wrong was changed later, and
// what follows it had perhaps been flushed.
func lost(r io.ReaderAt, at, end, size int64) (bool, error) {
	if zeros, err := zerosFrom(r, max(at, min(end-1, size-zerosAtLeast)), size); zeros || err != nil {
		return zeros, err
	}
	b := make([]byte, end-at)
	if err := readAt(r, b, at); err != nil {
		return false, err
	}
	for len(b) > 0 {
		n := min(int64(len(b)), sector-at%sector)
		if n == sector && allZero(b[:n]) {
			return zerosFrom(r, (size-zerosAtLeast)/sector*sector, size)
		}
		at, b = at+n, b[n:]
	}
	return false, nil
}

// zerosFrom reports whether the file has, from byte at on, nothing but zeros, and enough
// of them that no entry ends so.
func zerosFrom(r io.ReaderAt, at, size int64) (bool, error) {
	if size-at < zerosAtLeast {
		return false, nil
	}
	b := make([]byte, min(size-at, 1<<16))
	for ; at < size; at += int64(len(b)) {
		b = b[:min(size-at, int64(len(b)))]
		if err := readAt(r, b, at); err != nil || !allZero(b) {
			return false, err
		}
	}
	return true, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
