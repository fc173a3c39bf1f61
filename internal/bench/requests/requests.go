// Package requests makes up chat requests for benchmarks: prose, code and JSON, with the escapes that JSON needs,
// and with as many bytes to a token as real texts of the kind have. The same seeds make the same requests.
//
//	lib := requests.NewLibrary(seed)
//	r := requests.NewCold(lib.NewSource(stream), 2<<10)
//	body := r.Next()
package requests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// piecesKept bounds the texts that prompts are put together from, in bytes. They are
// many more than a prompt has, so that two prompts have few pieces in common, and
// none in the same order.
const piecesKept = 8 << 20

// Requests yields the bodies of requests, one after the other. What Next returns is
// valid until it is called again.
type Requests interface{ Next() []byte }

// Library holds pieces of text, a paragraph or a listing each, as they stand within
// a JSON string, without the quotes.
type Library struct{ pieces [][]byte }

// NewLibrary makes up texts of prose, code and JSON. The same seed makes the same.
func NewLibrary(seed uint64) *Library {
	w := &writer{rng: rand.New(rand.NewPCG(seed, 1))}
	l := &Library{}
	for size := 0; size < piecesKept; {
		w.b.Reset()
		switch n := w.rng.IntN(10); {
		case n < 6:
			w.paragraph()
		case n < 8:
			w.code()
		default:
			w.json()
		}
		piece := quoted(w.b.String())
		l.pieces = append(l.pieces, piece)
		size += len(piece)
	}
	return l
}

// quoted is text as it stands within a JSON string. HTML is left alone, as clients
// leave it.
func quoted(text string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic(err) // a string can be encoded
	}
	return bytes.Trim(b.Bytes(), "\"\n")
}

// Source yields texts of which no two are alike.
type Source struct {
	*Library
	rng    *rand.Rand
	number int // of the next piece
	stream uint64
}

// NewSource returns a source with texts of its own for each stream.
func (l *Library) NewSource(stream uint64) *Source {
	return &Source{Library: l, rng: rand.New(rand.NewPCG(stream, 2)), stream: stream}
}

// appendText appends about n bytes of text. Each piece begins with a number that
// comes only once, so that none of them has been seen before as a whole.
func (s *Source) appendText(b []byte, n int) []byte {
	for end := len(b) + n; len(b) < end; {
		s.number++
		b = fmt.Appendf(b, "%d.%d ", s.stream, s.number)
		piece := s.pieces[s.rng.IntN(len(s.pieces))]
		if room := end - len(b); len(piece) > room {
			piece = clipped(piece, max(room, 8))
		}
		b = append(b, piece...)
		b = append(b, `\n\n`...)
	}
	return b
}

// clipped is the beginning of a piece, up to a space: what is between two spaces is
// whole, escapes and characters included.
func clipped(piece []byte, n int) []byte {
	if i := bytes.LastIndexByte(piece[:min(n, len(piece))], ' '); i >= 0 {
		return piece[:i]
	}
	return nil
}

const (
	bodyHead = `{"model":"gpt-4o","max_tokens":512,"temperature":0.2,"messages":[{"role":"system","content":` +
		`"You are a careful engineer. Answer in a few sentences, and say what you are not sure of."}`
	bodyTail = `]}`
)

func appendMessage(b []byte, role string, s *Source, n int) []byte {
	b = append(b, `,{"role":"`...)
	b = append(b, role...)
	b = append(b, `","content":"`...)
	b = s.appendText(b, n)
	return append(b, `"}`...)
}

// Cold yields requests of a size in bytes that have nothing in common but their
// first message. They have one long message, or several, as real ones do.
type Cold struct {
	*Source
	head string
	size int
	body []byte
}

// NewCold returns requests of about size bytes for whole answers.
func NewCold(s *Source, size int) *Cold { return &Cold{Source: s, head: bodyHead, size: size} }

// NewStreamed returns requests of about size bytes for streams with usage.
func NewStreamed(s *Source, size int) *Cold {
	return &Cold{Source: s, head: `{"stream":true,"stream_options":{"include_usage":true},` + bodyHead[1:], size: size}
}

// Next implements [Requests].
func (c *Cold) Next() []byte {
	const longest = 24 << 10 // of one message
	b := c.body[:0]
	b = append(b, c.head...)
	for role := "user"; c.size-len(b) > 64; role = map[string]string{"user": "assistant", "assistant": "user"}[role] {
		b = appendMessage(b, role, c.Source, min(longest, c.size-len(b)-64))
	}
	b = append(b, bodyTail...)
	c.body = b
	return b
}

// Conversations yields the turns of some conversations, one turn of each after the
// other. A turn is all that was said before, and a short new message. Past a size,
// a conversation goes back to where it was in the beginning, and goes on from there
// with other words.
type Conversations struct {
	*Source
	said  [][]byte // the messages of each conversation so far, without the tail
	begin []int    // length of what each began with
	size  int
	turn  int
}

// Sizes within conversations, in bytes.
const (
	newMessage = 160     // what the user adds in a turn
	reply      = 480     // what the model has answered
	userTurn   = 600     // of those which a conversation begins with
	modelTurn  = 3000    // the same
	headroom   = 8 << 10 // for new turns
)

// Parallelism is how many conversations take turns.
const Parallelism = 3

// NewConversations returns conversations of up to size bytes.
func NewConversations(s *Source, size int) *Conversations {
	c := &Conversations{Source: s, size: size}
	for range Parallelism {
		b := []byte(bodyHead)
		for len(b) < size-headroom-userTurn-modelTurn {
			b = appendMessage(b, "user", s, userTurn)
			b = appendMessage(b, "assistant", s, modelTurn)
		}
		c.said = append(c.said, b)
		c.begin = append(c.begin, len(b))
	}
	return c
}

// Next implements [Requests].
func (c *Conversations) Next() []byte {
	i := c.turn % len(c.said)
	c.turn++
	b := c.said[i]
	switch {
	case len(b) > c.size-newMessage-reply-128:
		b = b[:c.begin[i]]
	case len(b) > c.begin[i]:
		b = appendMessage(b, "assistant", c.Source, reply)
	}
	b = appendMessage(b, "user", c.Source, newMessage)
	c.said[i] = append(b, bodyTail...)[:len(b)]
	return c.said[i][:len(b)+len(bodyTail)]
}

// writer makes up text.
type writer struct {
	rng *rand.Rand
	b   strings.Builder
}

// Of these, all is made. Words that real texts would not have are few: a tokenizer
// takes much longer for them. What comes out has 3.7 bytes to a token, and its prose
// 4.7: about as much as documentation with listings, and as English.
var (
	common = strings.Fields("the of and to in a is that it for was on are as with they at be this have from or one had by but not what " +
		"all were we when your can said there use an each which she do how their if will up other about out many then them these so some " +
		"her would make like him into time has look two more write go see number no way could people my than first been call who its now " +
		"find long down day did get come made may part over new take only little work know place year back give most very after thing our " +
		"just name good think great where help through much before line right too mean any same tell follow came want show also around " +
		"form three small set put end does another well large must big even such because turn here why ask went read need different home " +
		"us move try kind hand again change off still learn should between never last let last own under while every keep")
	content = strings.Fields("ability absence academic accept access account accurate achieve across action active actual addition address " +
		"adequate advance advice affect afford agency agreement already although amount analysis ancient annual answer anyone apparent appear " +
		"apply approach approval argue argument arrange article assume attempt attention audience author average avoid balance barrier because " +
		"become before begin behavior believe benefit between beyond billion boundary branch brief bring broken budget building business cache " +
		"calculate campaign capacity capital careful category cause central certain challenge chapter character choose circle citizen claim " +
		"climate closely cluster collect column combine comment commit common community company compare complete complex concern condition " +
		"confirm connect consider consist constant contain content context continue contract control convert copy correct council count country " +
		"couple course create credit critical culture current customer damage database deadline debate decade decide decision default define " +
		"degree delay deliver demand depend deploy describe design detail develop device diagram difficult digital direction disease display " +
		"distance document double driver during early economic education effect effort either election employee empty enable energy engine " +
		"enough ensure entire environment equal error especially estimate evening event evidence exact example except exchange exist expect " +
		"expensive experience explain express extend failure familiar feature field figure filter final finance finish flexible floor focus " +
		"foreign former forward foundation framework frequent function future garden general generate government gradual growth handle happen " +
		"health height history however hospital hundred identify image impact implement important improve include income increase index " +
		"industry influence inform initial inside instance instead interest internal interview introduce invest invoice island issue journal " +
		"journey justice kitchen knowledge language latency later latter launch leader league legal length letter level Library license likely " +
		"limit list local logical machine maintain major manage manual market material matter maximum measure medical meeting member memory " +
		"mention message method middle military million minute model modern moment monitor month morning mountain movement museum music narrow " +
		"national natural nature nearly necessary network nothing notice object observe obtain obvious occur offer office officer often open " +
		"operate opinion option order organize origin outage output outside package paper parent partner party passage patient pattern payment " +
		"perform perhaps period person physical picture planet player please point police policy popular population position possible power " +
		"practice prefer prepare present pressure prevent previous price private probably problem process produce product program project " +
		"promise proper property protect prove provide public purpose quality quarter question quick quite random rather reach reader ready " +
		"reality reason receive recent recognize record reduce refer region regular relation release remain remember remove repeat replace " +
		"report request require research reserve resolve resource respond result retry return review river school science season second " +
		"section secure select senior sentence separate series serious server service several shape share short signal similar simple single " +
		"social society software solution someone sometimes source special specific standard start state station storage stream street strong " +
		"structure student subject success sudden suggest summer supply support suppose surface system table teacher team technology theory " +
		"though thousand threshold throughput timeout together token tomorrow toward trade traffic training transfer travel treatment trouble " +
		"trust understand union unique university update upon usage useful usual value various version village visible volume wait warning " +
		"water weather week weight whether window winter within without wonder worker worry yesterday young")
	rare       = strings.Fields("Kowalczyk Lindqvist Adeyemi Okafor Tromsø Huang Brzezinski quorum backpressure idempotent hysteresis checksums tarpaulin marmalade Reykjavik thixotropic colophon perennially")
	foreign    = strings.Fields("café naïve Zürich façade über señor 東京 данные – … €20 “quoted” résumé 10 µs")
	keywords   = strings.Fields("if for while return switch case func def class var const import raise try defer match")
	operators  = strings.Fields("+ - * / == != <= >= && || := = -> | &")
	identParts = strings.Fields("get set load store parse user account total count index buffer request response handler config client server cache entry key value item list map node parent child next prev start end max min limit token budget window reserve settle ledger row")
)

func (w *writer) pick(from []string) string { return from[w.rng.IntN(len(from))] }

// word is one of the common words, mostly, the first ones more often.
func (w *writer) word() string {
	switch n := w.rng.IntN(100); {
	case n < 55:
		return common[int(float64(len(common))*w.rng.Float64()*w.rng.Float64())]
	case n < 94:
		return w.pick(content)
	case n < 97:
		return strconv.Itoa(w.rng.IntN(3000))
	case n < 99:
		return w.pick(rare)
	}
	return w.pick(foreign)
}

func (w *writer) paragraph() {
	for range 3 + w.rng.IntN(5) {
		for i := range 6 + w.rng.IntN(16) {
			word := w.word()
			if i == 0 {
				word = upper(word)
			} else {
				w.b.WriteString(w.pick([]string{" ", " ", " ", " ", " ", " ", " ", ", "}))
			}
			w.b.WriteString(word)
		}
		w.b.WriteString(w.pick([]string{". ", ". ", ". ", "? ", ": ", ".\n"}))
	}
	if w.rng.IntN(4) == 0 {
		fmt.Fprintf(&w.b, "As they say: \"%s %s %s.\"", w.word(), w.word(), w.word())
	}
}

// upper makes the first letter of an ASCII word upper case.
func upper(word string) string {
	if c := word[0]; 'a' <= c && c <= 'z' {
		return string(c-'a'+'A') + word[1:]
	}
	return word
}

func (w *writer) ident() string {
	parts := []string{w.pick(identParts)}
	for range w.rng.IntN(3) {
		parts = append(parts, upper(w.pick(identParts)))
	}
	return strings.Join(parts, "")
}

func (w *writer) code() {
	w.b.WriteString("```\n")
	for range 6 + w.rng.IntN(14) {
		w.b.WriteString(strings.Repeat("\t", w.rng.IntN(4)))
		switch w.rng.IntN(5) {
		case 0:
			fmt.Fprintf(&w.b, "%s %s(%s, %s) {", w.pick(keywords), w.ident(), w.ident(), w.ident())
		case 1:
			fmt.Fprintf(&w.b, "// %s %s %s %s", w.word(), w.word(), w.word(), w.word())
		case 2:
			fmt.Fprintf(&w.b, "%s.%s(\"%s %s: %%v\", %s)", w.ident(), w.ident(), w.word(), w.word(), w.ident())
		default:
			fmt.Fprintf(&w.b, "%s %s %s.%s %s %d", w.ident(), w.pick(operators), w.ident(), w.ident(), w.pick(operators), w.rng.IntN(500))
		}
		w.b.WriteByte('\n')
	}
	w.b.WriteString("```")
}

func (w *writer) json() {
	w.b.WriteString("[\n")
	for range 2 + w.rng.IntN(5) {
		fmt.Fprintf(&w.b, "  {\"%s\": \"%s-%06x\", \"%s\": %d.%02d, \"%s\": [%d, %d], \"%s\": {\"%s\": %t, \"%s\": \"%s %s\"}},\n",
			w.ident(), w.word(), w.rng.IntN(1<<24), w.ident(), w.rng.IntN(10000), w.rng.IntN(100), w.ident(), w.rng.IntN(100), w.rng.IntN(100),
			w.ident(), w.ident(), w.rng.IntN(2) == 0, w.ident(), w.word(), w.word())
	}
	w.b.WriteString("]")
}
