package dialect

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// scanner walks one JSON text without building a tree. It can be used again for
// the next text; what it returns is valid until then.
type scanner struct {
	dec  *jsontext.Decoder
	src  bytes.Buffer
	opts []jsontext.Options
}

// newStrictScanner is for requests: duplicate names and invalid UTF-8 are errors.
func newStrictScanner() *scanner { return new(scanner) }

// newLenientScanner is for answers, which are passed on as they are.
func newLenientScanner() *scanner {
	return &scanner{opts: []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}}
}

func (s *scanner) reset(data []byte) {
	// The decoder reads a bytes.Buffer in place, so this copies nothing.
	s.src = *bytes.NewBuffer(data)
	if s.dec == nil {
		s.dec = jsontext.NewDecoder(&s.src, s.opts...)
		return
	}
	s.dec.Reset(&s.src, s.opts...)
}

// object calls member for every member of the object that comes next, with its
// raw name (quoted). member must consume the value. If another kind of value
// comes, it is skipped.
func (s *scanner) object(member func(name []byte) error) error {
	if s.dec.PeekKind() != jsontext.KindBeginObject {
		return s.dec.SkipValue()
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	for s.dec.PeekKind() != jsontext.KindEndObject {
		name, err := s.dec.ReadValue()
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := s.dec.ReadToken()
	return err
}

// array calls element for every element of the array that comes next; element
// must consume it. If another kind of value comes, it is skipped.
func (s *scanner) array(element func() error) error {
	if s.dec.PeekKind() != jsontext.KindBeginArray {
		return s.dec.SkipValue()
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	for s.dec.PeekKind() != jsontext.KindEndArray {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := s.dec.ReadToken()
	return err
}

// integer reads a number as an integer in [0, MaxInt64]: fractions are cut off,
// what is beyond is clamped. Other kinds are skipped and give ok = false.
func (s *scanner) integer() (n int64, ok bool, err error) {
	if s.dec.PeekKind() != jsontext.KindNumber {
		return 0, false, s.dec.SkipValue()
	}
	v, err := s.dec.ReadValue()
	if err != nil {
		return 0, false, err
	}
	return clampInteger(v), true, nil
}

func clampInteger(v []byte) int64 {
	var n int64
	for i, c := range v {
		if c < '0' || c > '9' || i == 18 {
			f, _ := strconv.ParseFloat(string(v), 64) // out of range is ±Inf, which clamps
			switch {
			case f <= 0:
				return 0
			case f >= math.MaxInt64:
				return math.MaxInt64
			}
			return int64(f)
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// unquote returns the text of a JSON string that a decoder has accepted. Invalid
// UTF-8 stays as it is; lone surrogates come out as U+FFFD.
func unquote(v []byte, scratch *[]byte) []byte {
	v = v[1 : len(v)-1]
	i := bytes.IndexByte(v, '\\')
	if i < 0 {
		return v
	}
	start := len(*scratch)
	out := slices.Grow(*scratch, len(v)) // what is unquoted is never longer
	for ; i >= 0; i = bytes.IndexByte(v, '\\') {
		out = append(out, v[:i]...)
		c := v[i+1]
		v = v[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hexRune(v)
			v = v[4:]
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(v) >= 6 && v[0] == '\\' && v[1] == 'u' {
					low = hexRune(v[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					v = v[6:]
				}
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	out = append(out, v...)
	*scratch = out
	return out[start:]
}

// hexRune reads the four hexadecimal digits of an escape.
func hexRune(v []byte) (r rune) {
	for _, c := range v[:4] {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}

// decisionKey checks the raw name of a member against the keys that are decided
// on. It returns the key, or "" for a name that has nothing to do with them. A
// name that another JSON parser might take for one of the keys is an error.
func decisionKey(raw []byte, keys []string) (string, error) {
	name := raw[1 : len(raw)-1]
	for _, k := range keys {
		if string(name) == k {
			return k, nil
		}
	}
	var scratch []byte
	plain := unquote(raw, &scratch)
	escaped := len(plain) != len(name)
	for _, k := range keys {
		if escaped && string(plain) == k {
			return "", &BadRequest{"the key " + strconv.Quote(k) + " is written with escapes; write it plainly"}
		}
		if foldsTo(plain, k) {
			return "", &BadRequest{"the key " + strconv.Quote(k) + " is written in another letter case; write it as the API names it"}
		}
	}
	return "", nil
}

// foldsTo is strings.EqualFold(string(name), key) without the copy, for the names
// that differ at once.
func foldsTo(name []byte, key string) bool {
	if len(name) < len(key) || len(name) > 3*len(key) { // no fold of a letter has more bytes
		return false
	}
	if c := name[0]; c < utf8.RuneSelf && c|0x20 != key[0]|0x20 {
		return false
	}
	return strings.EqualFold(string(name), key)
}

// validators keeps scanners for reuse: a new one allocates for every level of
// nesting.
var validators = sync.Pool{New: func() any { return newStrictScanner() }}

// maxPooled bounds the bodies after which a scanner is kept, in bytes; it may
// have grown with the body.
const maxPooled = 1 << 20

// validate checks that body is one JSON value in valid UTF-8, without duplicate
// names. The error is a [*BadRequest].
func validate(body []byte) error {
	if plainlyValid(body) {
		return nil
	}
	return decode(body)
}

// decode is validate by the decoder, which knows what is wrong, and where.
func decode(body []byte) error { return decodeBy(&validators, body) }

// decodeBy is decode by a scanner of a pool.
func decodeBy(pool *sync.Pool, body []byte) error {
	s := pool.Get().(*scanner)
	s.reset(body)
	_, err := s.dec.ReadValue()
	switch {
	case err != nil:
		err = jsonError(err, s.dec.InputOffset())
	default:
		if _, end := s.dec.ReadToken(); !errors.Is(end, io.EOF) {
			err = &BadRequest{"the request body has data after its JSON value"}
		}
	}
	s.reset(nil) // lets go of the body
	if len(body) <= maxPooled {
		pool.Put(s)
	}
	return err
}

// jsonError turns a decoder's error into what a client may read. The decoder's
// own text can quote the input, so only the kind of mistake and its place are
// told.
func jsonError(err error, offset int64) error {
	if bad, ok := errors.AsType[*BadRequest](err); ok {
		return bad
	}
	deep := false
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		offset = syn.ByteOffset
		deep = syn.Err != nil && syn.Err.Error() == "exceeded max depth" // jsontext exports no such error
	}
	at := " (near byte " + strconv.FormatInt(offset, 10) + ")"
	if deep {
		return &BadRequest{"the request body is nested deeper than 10000 levels" + at}
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return &BadRequest{"the request body has the same key twice in one object" + at}
	}
	return &BadRequest{"the request body is not valid JSON" + at}
}
