package exchange

import (
	"container/list"
	"hash/maphash"
	"sync"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// Contexts remembers how long the context of responses is that providers keep: the tokens of
// their input and output, as reported. A request that goes on from one of them
// ("previous_response_id", "conversation") reads all of it again, and its body has nothing of
// it. It is safe for concurrent use.
//
// Those that were not asked for longest make room. What is forgotten has a stated number of
// tokens held in its place, as what was never seen.
type Contexts struct {
	mu    sync.Mutex
	seed  maphash.Seed             // clients must not be able to make two upstreams one
	known map[string]*list.Element // by id; of two upstreams that have one, the last to say so
	used  *list.List               // of contextSize, the one that was used last in front
}

type contextSize struct {
	key    storedKey
	tokens int64
}

// storedKey is what an upstream knows by an id.
type storedKey struct {
	upstream uint64 // the host that was asked, and what stands in the path before the API's own
	id       string // bounded by dialect
}

// maxContexts bounds the contexts that are remembered; each takes some 250 bytes.
const maxContexts = 16_384

// ofConversation stands before ids of conversations, which no id of a response begins with.
const ofConversation = "conversation/"

// NewContexts returns one that remembers nothing.
func NewContexts() *Contexts {
	return &Contexts{seed: maphash.MakeSeed(), known: make(map[string]*list.Element), used: list.New()}
}

// key stands for an id at an upstream.
func (c *Contexts) key(authority, front, id string) storedKey {
	return storedKey{maphash.Comparable(c.seed, [2]string{authority, front}), id}
}

// of returns the tokens of a context, and false if they are not known.
func (c *Contexts) of(key storedKey) (tokens int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.known[key.id]
	if e == nil || e.Value.(*contextSize).key != key {
		return 0, false
	}
	c.used.MoveToFront(e)
	return e.Value.(*contextSize).tokens, true
}

// has says that an upstream has a context by this id.
func (c *Contexts) has(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[id] != nil
}

// learn remembers a context in place of what was known of it.
func (c *Contexts) learn(key storedKey, tokens int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.known[key.id]; e != nil {
		*e.Value.(*contextSize) = contextSize{key, tokens}
		c.used.MoveToFront(e)
		return
	}
	if len(c.known) >= maxContexts {
		oldest := c.used.Back()
		delete(c.known, oldest.Value.(*contextSize).key.id)
		c.used.Remove(oldest)
	}
	c.known[key.id] = c.used.PushFront(&contextSize{key, tokens})
}

// storedKey is the key of what the upstream of this exchange knows by an id.
func (x *Exchange) storedKey(id string) storedKey {
	return x.policy.Contexts.key(x.authority, dialect.StoredFront(x.path), id)
}

// holdEarlier has the prompt cost what an earlier response, or a conversation, is known to be.
// It is the provider's figure, so the model's factor is not its.
func (x *Exchange) holdEarlier() {
	x.earlier = 0
	e := &x.request.Earlier
	if e.Response != "" {
		x.know(x.storedKey(e.Response))
	}
	if e.Conversation != "" {
		x.know(x.storedKey(ofConversation + e.Conversation))
	}
}

func (x *Exchange) know(key storedKey) {
	if tokens, ok := x.policy.Contexts.of(key); ok {
		x.request.KnowEarlier()
		x.earlier += tokens
	}
}

// storedID is the id under which the provider keeps the answer, as far as it has come; "" if
// it says none.
func (x *Exchange) storedID() string {
	if s, ok := x.stream.(dialect.StoredStream); ok {
		return s.StoredID()
	}
	return x.stored.ID
}

// learnContext remembers how long the context of an answer is that has come whole.
func (x *Exchange) learnContext() {
	if !x.reported.Known || x.record.Outcome != Completed || x.counted != x.atReport || x.reported.Output == 0 {
		return
	}
	if id := x.storedID(); id != "" {
		x.policy.Contexts.learnAll(x.storedKey(id), x.request.Earlier.Conversation, x.reported)
	}
}

// learnAll remembers the context of a response, and of the conversation that it is the end of,
// if it has one.
func (c *Contexts) learnAll(key storedKey, conversation string, u dialect.Usage) {
	tokens := u.Input() + u.Output
	c.learn(key, tokens)
	if conversation != "" {
		c.learn(storedKey{key.upstream, ofConversation + conversation}, tokens)
	}
}

// readStored reads how the provider keeps a unary answer, which has been read as JSON.
func (x *Exchange) readStored() {
	if _, ok := x.api.(dialect.OpenAIResponses); ok {
		x.stored = dialect.StoredAnswer(x.answer)
		x.stored.Body = nil
	}
}
