package budget

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A snapshot has the balances of a file store as of some record of the journal:
//
//	magic    8 bytes  "tbledger"
//	version  4 bytes  2
//	next     8 bytes  sequence of the first record whose changes it may lack
//	entries           of all counters, in no order, each once; see appendEntry
//	sum      4 bytes  CRC-32C of all before it
//
// It is made while counters change, so it may have some later balances, too. Those
// are in the journal again.
//
// Version 1, which stood for a whole store without a journal, has the number of entries
// in place of next.
const (
	snapshotMagic   = "tbledger"
	snapshotVersion = 2
	headerSize      = len(snapshotMagic) + 4 + 8
	sumSize         = 4
	maxSnapshot     = 1 << 30 // bytes
)

func newHeader(version uint32, number uint64) []byte {
	b := []byte(snapshotMagic)
	b = binary.LittleEndian.AppendUint32(b, version)
	return binary.LittleEndian.AppendUint64(b, number)
}

// snapshotWriter writes a snapshot, bit by bit. Its error is sticky.
type snapshotWriter struct {
	w    *bufio.Writer
	sum  uint32
	size int64
	err  error
	buf  []byte
}

func newSnapshotWriter(w io.Writer, next uint64) *snapshotWriter {
	s := &snapshotWriter{w: bufio.NewWriterSize(w, 1<<16)}
	s.write(newHeader(snapshotVersion, next))
	return s
}

func (s *snapshotWriter) write(b []byte) {
	s.sum = crc32.Update(s.sum, castagnoli, b)
	s.size += int64(len(b))
	if s.size > maxSnapshot-sumSize && s.err == nil {
		s.err = fmt.Errorf("%w: a snapshot would have more than %d bytes; count limits per fewer identities", ErrFull, maxSnapshot)
	}
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
}

func (s *snapshotWriter) add(e Entry) {
	s.buf = appendEntry(s.buf[:0], e)
	s.write(s.buf)
}

func (s *snapshotWriter) end() error {
	s.write(binary.LittleEndian.AppendUint32(nil, s.sum))
	if s.err == nil {
		s.err = s.w.Flush()
	}
	return s.err
}

// readSnapshot reads and checks the snapshot in dir. Its error wraps [fs.ErrNotExist] if
// there is none.
func readSnapshot(dir string) (entries map[Key]Entry, version uint32, next uint64, err error) {
	f, err := os.Open(filepath.Join(dir, snapshotName))
	if err != nil {
		return nil, 0, 0, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, 0, 0, fmt.Errorf("%w: %s", ErrForeign, notRegular(info))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSnapshot+1))
	if err != nil {
		return nil, 0, 0, err
	}
	if len(data) > maxSnapshot {
		return nil, 0, 0, fmt.Errorf("%w: it has more than %d bytes", ErrForeign, maxSnapshot)
	}
	return parseSnapshot(data)
}

func notRegular(info fs.FileInfo) string { return fmt.Sprintf("it is no file but %s", info.Mode()) }

// parseSnapshot returns what a snapshot has, or an error that wraps [ErrForeign],
// [ErrVersion] or [ErrDamaged]. What it allocates is bounded by the length of b.
func parseSnapshot(b []byte) (entries map[Key]Entry, version uint32, next uint64, err error) {
	fail := func(err error) (map[Key]Entry, uint32, uint64, error) { return nil, 0, 0, err }
	damaged := func(format string, args ...any) (map[Key]Entry, uint32, uint64, error) {
		return fail(fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...)))
	}
	n := min(len(b), len(snapshotMagic))
	if string(b[:n]) != snapshotMagic[:n] {
		return fail(fmt.Errorf("%w: it does not begin with %q", ErrForeign, snapshotMagic))
	}
	if len(b) < headerSize+sumSize {
		return damaged("it ends after %d bytes", len(b))
	}
	version = binary.LittleEndian.Uint32(b[len(snapshotMagic):])
	if version < 1 || version > snapshotVersion {
		return fail(fmt.Errorf("%w %d; this program knows versions 1 to %d", ErrVersion, version, snapshotVersion))
	}
	body, sum := b[:len(b)-sumSize], binary.LittleEndian.Uint32(b[len(b)-sumSize:])
	if crc32.Checksum(body, castagnoli) != sum {
		return damaged("its checksum is wrong")
	}
	number := binary.LittleEndian.Uint64(body[headerSize-8:])
	entries = make(map[Key]Entry)
	var read uint64
	var twice bool
	if err := readEntries(body[headerSize:], func(e rawEntry) {
		twice = !e.addTo(entries) || twice
		read++
	}); err != nil {
		return damaged("%v", err)
	}
	switch {
	case twice:
		return damaged("a counter appears twice")
	case version > 1 && number == 0:
		return damaged("it claims to end before the first record")
	case version > 1:
		return entries, version, number, nil
	case number != read:
		return damaged("it has %d entries and claims %d", read, number)
	}
	return entries, version, 1, nil
}

// notExist reports whether err says that a file is absent.
func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
