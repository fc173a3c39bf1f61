package python

import (
	"context"
	_ "embed" // the script
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed oracle.py
var oracleScript string

// BenchScript is the program which takes turns in the benchmark; its docstring says how.
//
//go:embed bench.py
var BenchScript string

const (
	// replyTimeout bounds the wait for one batch, which is a second unless the machine is overwhelmed.
	replyTimeout = 10 * time.Minute
	// maxReply bounds a reply, in words. A batch has some megabytes of text.
	maxReply = 64 << 20
)

// An Oracle is a Python process that encodes batches of texts. It is not safe for concurrent use.
type Oracle struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	in     io.WriteCloser
	out    io.Reader
	errors *lastLines
}

// Start starts a process. It ends with Close, or with ctx.
func (r *Reference) Start(ctx context.Context) (*Oracle, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := r.Command(ctx, append([]string{"-c", oracleScript}, Encodings...)...)
	cmd.WaitDelay = time.Second
	o := &Oracle{cmd: cmd, cancel: cancel, errors: &lastLines{}}
	cmd.Stderr = o.errors
	in, err := cmd.StdinPipe()
	if err == nil {
		o.in = in
		o.out, err = cmd.StdoutPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("python: %w", err)
	}
	return o, nil
}

// Encode returns the tokens of each text. Ill-formed UTF-8 is replaced as Python's decode(errors="replace")
// does. After an error the Oracle is of no use.
func (o *Oracle) Encode(encoding string, texts [][]byte) ([][]uint32, error) {
	number := slices.Index(Encodings, encoding)
	if number < 0 {
		return nil, fmt.Errorf("python: unknown encoding %q; use one of %s", encoding, strings.Join(Encodings, ", "))
	}
	defer time.AfterFunc(replyTimeout, o.cancel).Stop()
	reply, err := o.call(request(byte(number), texts))
	if err != nil {
		return nil, fmt.Errorf("python: the reference gave no answer within %v: %w\n%s", replyTimeout, err, o.errors)
	}
	return parseReply(reply, len(texts))
}

func request(encoding byte, texts [][]byte) []byte {
	size := 9
	for _, t := range texts {
		size += 4 + len(t)
	}
	b := append(make([]byte, 0, size), encoding)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(texts)))
	b = binary.LittleEndian.AppendUint32(b, uint32(size-9))
	for _, t := range texts {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t)))
		b = append(b, t...)
	}
	return b
}

func (o *Oracle) call(request []byte) ([]byte, error) {
	if _, err := o.in.Write(request); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(o.out, head[:]); err != nil {
		return nil, err
	}
	words := binary.LittleEndian.Uint32(head[:])
	if words > maxReply {
		return nil, fmt.Errorf("a reply of %d words, want at most %d", words, maxReply)
	}
	reply := make([]byte, 4*words)
	_, err := io.ReadFull(o.out, reply)
	return reply, err
}

// parseReply reads the token lists of n texts.
func parseReply(reply []byte, n int) ([][]uint32, error) {
	words := make([]uint32, len(reply)/4)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(reply[4*i:])
	}
	var ids [][]uint32
	for len(words) > 0 && len(ids) < n {
		count := uint64(words[0])
		if count > uint64(len(words)-1) {
			return nil, errors.New("python: a reply ends within a text")
		}
		ids = append(ids, words[1:1+count:1+count])
		words = words[1+count:]
	}
	if len(ids) != n || len(words) > 0 || len(reply)%4 != 0 {
		return nil, fmt.Errorf("python: a reply for %d texts and %d words more, want %d texts", len(ids), len(words), n)
	}
	return ids, nil
}

// Close ends the process.
func (o *Oracle) Close() error {
	defer o.cancel()
	err := o.in.Close()
	defer time.AfterFunc(replyTimeout, o.cancel).Stop()
	if werr := o.cmd.Wait(); werr != nil {
		return fmt.Errorf("python: the reference failed: %w\n%s", werr, o.errors)
	}
	return err
}

// lastLines keeps the last kilobytes of what a process says of its failure.
type lastLines struct {
	mu   sync.Mutex
	tail []byte
}

func (l *lastLines) Write(p []byte) (int, error) {
	const most = 4 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	if extra := len(l.tail) - most; extra > 0 {
		l.tail = append(l.tail[:0], l.tail[extra:]...)
	}
	return len(p), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.tail))
}
