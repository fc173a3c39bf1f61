package coding

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"iter"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// What decoders may take, in bytes.
const (
	flateMemory   = 64 << 10  // a window of 32 KiB, tables, a slice, a stack
	brotliMemory  = 128 << 10 // beside the window: input, tables, a slice
	zstdMemory    = 512 << 10 // beside the window: blocks, literals, sequences, tables
	maxZstdWindow = 8 << 20   // RFC 9659, section 3
	minZstdWindow = 1 << 20   // that any frame may have
)

// stage undoes one coding, as a coroutine around a decoder that reads from it.
type stage struct {
	coding Coding
	made   int64 // bytes, so far
	memory int64 // that the decoder may take, in bytes

	in     []byte // what was fed and not read
	held   []byte // what was looked at, and is read before in
	any    bool   // there was a byte of input
	end    bool   // there is no more input behind in
	closed bool   // the coroutine is to end

	next  func() (step, bool)
	stop  func()
	yield func(step) bool
}

// step is why the coroutine was left: for a slice, with an error, io.EOF at the end of the
// data, or with neither because it needs input.
type step struct {
	out []byte
	err error
}

func newStage(c Coding) *stage {
	s := &stage{coding: c, memory: flateMemory}
	s.next, s.stop = iter.Pull(s.run)
	return s
}

// decode feeds bytes and emits what comes of them.
func (s *stage) decode(in []byte, end bool, emit func([]byte) error) error {
	s.in, s.end = in, end
	defer func() { s.in = nil }() // it is the caller's
	s.any = s.any || len(in) > 0
	if end && !s.any {
		return nil
	}
	for {
		step, ok := s.next()
		switch {
		case !ok:
			return errClosed
		case errors.Is(step.err, io.EOF):
			return nil
		case step.err != nil:
			return &Error{s.coding, step.err}
		case step.out == nil:
			return nil
		}
		if err := emit(step.out); err != nil {
			return err
		}
	}
}

// run is the coroutine.
func (s *stage) run(yield func(step) bool) {
	s.yield = yield
	if err := s.all(); !s.closed {
		yield(step{err: explain(err)})
	}
}

// all decodes all of the data.
func (s *stage) all() error {
	switch s.coding {
	case Gzip:
		return s.gzip()
	case Deflate:
		return s.deflate()
	case Brotli:
		return s.brotli()
	default:
		return s.zstd()
	}
}

func (s *stage) gzip() error {
	r, err := gzip.NewReader(s)
	if err != nil {
		return err
	}
	return s.copy(r)
}

// deflate is zlib's format, but there are servers that leave its frame out. Its first two
// bytes tell: they are a multiple of 31 (RFC 1950, section 2.2), and say that method 8 is
// used. Raw data that begins so has a block of a type that encoders make for what cannot be
// compressed, with bits set that should not be.
func (s *stage) deflate() error {
	head, err := s.peek(2)
	if err != nil && len(head) < 2 {
		return err
	}
	if head[0]&15 != 8 || head[0]>>4 > 7 || (int(head[0])<<8|int(head[1]))%31 != 0 {
		return s.single(flate.NewReader(s))
	}
	r, err := zlib.NewReader(s)
	if err != nil {
		return err
	}
	return s.single(r)
}

// single copies what r reads, behind which there may be nothing.
func (s *stage) single(r io.Reader) error {
	if err := s.copy(r); err != nil {
		return err
	}
	switch _, err := s.ReadByte(); {
	case err == nil:
		return ErrCorrupt
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func (s *stage) brotli() error {
	head, err := s.peek(1)
	if err != nil {
		return err
	}
	s.memory = brotliMemory + 1<<brotliWindow(head[0])
	err = s.copy(brotli.NewReader(s))
	if err != nil && err.Error() == excessive {
		return s.drain()
	}
	return err
}

// excessive is what the library says of data behind the end. But it says so, too, when the
// last bytes came in small pieces, which it copies and then takes for more. So what is behind
// the end of br is ignored.
const excessive = "brotli: excessive input"

// drain reads on to the end.
func (s *stage) drain() error {
	for {
		s.held, s.in = nil, nil
		if err := s.fill(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// brotliWindow reads the window's size from the first byte of a stream: the size is 2 to this
// power (RFC 7932, section 9.1).
func brotliWindow(b byte) int {
	switch high, low := int(b>>1&7), int(b>>4&7); {
	case b&1 == 0:
		return 16
	case high != 0:
		return 17 + high
	case low == 0:
		return 17
	case low == 1:
		return 10 // a mistake, which the decoder finds
	default:
		return 8 + low
	}
}

func (s *stage) zstd() error {
	window, err := s.zstdWindow()
	if err != nil {
		return err
	}
	if window > maxZstdWindow {
		return ErrWindow
	}
	window = max(window, minZstdWindow)
	s.memory = zstdMemory + window
	r, err := zstd.NewReader(s, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(window)), zstd.WithDecoderMaxMemory(uint64(window)))
	if err != nil {
		return err
	}
	defer r.Close()
	// WriteTo leaves each block as it is decoded; Read may wait for the next one first.
	_, err = r.WriteTo(emitter{s})
	return err
}

// zstdWindow is the window of the first frame, in bytes.
func (s *stage) zstdWindow() (int64, error) {
	for n := 5; ; n++ {
		head, err := s.peek(n)
		var h zstd.Header
		switch e := h.Decode(head); {
		case e == nil && h.Skippable:
			return maxZstdWindow, nil
		case e == nil && h.SingleSegment:
			// Of a size that is no int64 it must not become a small one.
			return int64(min(h.FrameContentSize, maxZstdWindow+1)), nil
		case e == nil:
			return int64(min(h.WindowSize, maxZstdWindow+1)), nil
		case !errors.Is(e, io.ErrUnexpectedEOF):
			return 0, e
		case err != nil:
			return 0, err
		}
	}
}

// copy emits what r reads.
func (s *stage) copy(r io.Reader) error {
	buf := make([]byte, MaxSlice)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if e := s.emit(buf[:n]); e != nil {
				return e
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// explain is io.EOF at the end of the data, or says what is wrong with it, of which each
// library has words of its own.
func explain(err error) error {
	switch {
	case err == nil:
		return io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return ErrTruncated
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, ErrWindow):
		return ErrWindow
	}
	return ErrCorrupt
}

// emitter is a writer whose bytes are emitted.
type emitter struct{ s *stage }

func (e emitter) Write(b []byte) (int, error) {
	for part := range sliced(b) {
		if err := e.s.emit(part); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// sliced cuts b into parts of MaxSlice bytes at most.
func sliced(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(len(b), MaxSlice)
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// The coroutine's side: what is called from within it.

// errStopped lets the decoder end.
var errStopped = errors.New("stopped")

// emit leaves the coroutine with a slice.
func (s *stage) emit(b []byte) error { return s.leave(step{out: b}) }

func (s *stage) leave(st step) error {
	if !s.closed && s.yield(st) {
		return nil
	}
	s.closed = true
	return errStopped
}

// fill leaves the coroutine until there is input.
func (s *stage) fill() error {
	for len(s.in) == 0 {
		if s.closed {
			return errStopped
		}
		if s.end {
			return io.EOF
		}
		if err := s.leave(step{}); err != nil {
			return err
		}
	}
	return nil
}

// peek returns the next n bytes, or fewer with an error.
func (s *stage) peek(n int) ([]byte, error) {
	for len(s.held) < n {
		if err := s.fill(); err != nil {
			return s.held, err
		}
		s.held, s.in = append(s.held, s.in[0]), s.in[1:]
	}
	return s.held, nil
}

// Read gives a decoder its input.
func (s *stage) Read(p []byte) (int, error) {
	if len(s.held) > 0 {
		n := copy(p, s.held)
		s.held = s.held[n:]
		return n, nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.fill(); err != nil {
		return 0, err
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

// ReadByte keeps the decoders that have it read no byte too many, and thus from waiting for
// one that they do not need.
func (s *stage) ReadByte() (byte, error) {
	if len(s.held) > 0 {
		b := s.held[0]
		s.held = s.held[1:]
		return b, nil
	}
	if err := s.fill(); err != nil {
		return 0, err
	}
	b := s.in[0]
	s.in = s.in[1:]
	return b, nil
}

var _ interface {
	io.Reader
	io.ByteReader
} = (*stage)(nil)
