package coding

import (
	"errors"
	"fmt"
)

// Bounds of what is decoded.
const (
	MaxSlice  = 16 << 10 // bytes that emit gets at a time
	FreeBytes = 1 << 20  // bytes that any input may decode to
	MaxRatio  = 100      // and how many more for each byte of it
	MaxInner  = 4        // the same of what is decoded once more; compressed data hardly shrinks again
)

// What is wrong with data, for [errors.Is].
var (
	ErrCorrupt   = errors.New("it is corrupt")
	ErrTruncated = errors.New("it ends too early")
	ErrExpands   = fmt.Errorf("it expands to more than %d times its size, or to more than %d times of compressed data", MaxRatio, MaxInner)
	ErrWindow    = fmt.Errorf("it needs a window of more than %d MiB", maxZstdWindow>>20)
)

// Error is what is wrong with data, and in which coding. It quotes nothing of it.
type Error struct {
	Coding Coding
	Err    error // one of those above
}

func (e *Error) Error() string {
	return fmt.Sprintf("the %s data cannot be decoded: %v", e.Coding, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Decoder undoes a list of codings. It is not safe for concurrent use.
type Decoder struct {
	stages []*stage // the one that is undone first is the first
	read   int64    // bytes of input
	err    error    // for good
}

// NewDecoder returns a decoder, which must be closed.
func NewDecoder(l List) *Decoder {
	d := &Decoder{stages: make([]*stage, len(l))}
	for i, c := range l {
		d.stages[len(l)-1-i] = newStage(c)
	}
	return d
}

// Decode takes the next bytes of the data, and end with the last ones, which may be none. It
// calls emit with what they decode to, slice by slice; a slice is valid until emit returns.
// in is not kept.
//
// An error is an [*Error], or the one that emit returns; it is the decoder's last word. What
// was decoded before it has been emitted.
func (d *Decoder) Decode(in []byte, end bool, emit func([]byte) error) error {
	if d.err != nil {
		return d.err
	}
	d.read += int64(len(in))
	err := d.decode(0, in, end, emit)
	d.err = err
	if err != nil || end {
		d.Close()
	}
	return err
}

// decode lets the stage i and those behind it take bytes.
func (d *Decoder) decode(i int, in []byte, end bool, emit func([]byte) error) error {
	if i == len(d.stages) {
		if len(in) == 0 {
			return nil
		}
		return emit(in)
	}
	s := d.stages[i]
	ratio := int64(MaxRatio)
	if i < len(d.stages)-1 {
		ratio = MaxInner
	}
	err := s.decode(in, end, func(out []byte) error {
		if s.made += int64(len(out)); s.made > FreeBytes+ratio*d.read {
			return &Error{s.coding, ErrExpands}
		}
		return d.decode(i+1, out, false, emit)
	})
	if err == nil && end {
		return d.decode(i+1, nil, true, emit)
	}
	return err
}

// Memory is how many bytes the decoder may take, besides what emit makes of its slices: the
// windows and the buffers, as far as they are known from the data by now.
func (d *Decoder) Memory() (n int64) {
	for _, s := range d.stages {
		n += s.memory
	}
	return n
}

// Close ends the coroutines. Decode cannot be called any more, Close can.
func (d *Decoder) Close() {
	for _, s := range d.stages {
		s.stop()
		s.memory = 0
	}
	if d.err == nil {
		d.err = errClosed
	}
}

// errClosed is a mistake of the caller.
var errClosed = errors.New("coding: the decoder is closed")
