package tokens

// startBits are enough for a position modulo maxTokenLen.
const startBits = 7

// An appender counts the tokens of one piece which grows byte by byte, in bounded memory.
//
// For each prefix of a piece there is one token its encoding ends with, and what comes before that token is the
// encoding of a shorter prefix (see encode.go). So the new byte's last token is, of the tokens that end here,
// the one which is stable beside the last token of the prefix before it. No token is longer than maxTokenLen,
// so that many prefixes are enough to remember, and the tokens that could end here are those whose beginnings
// are followed through the trie since.
//
// It must be reset before use. An appended byte costs a trie step for each beginning alive, in ordinary text
// about three, at most maxTokenLen.
type appender struct {
	total int // tokens of the whole prefix
	n     int // bytes of the whole prefix

	// prefixes[p%maxTokenLen] is of the prefix of p bytes: the number of its tokens modulo 2^14 and, in the low
	// idBits, its last token. Between prefixes less than 2^13 tokens apart the difference of the numbers is
	// certain.
	prefixes [maxTokenLen]uint32

	// open holds, oldest first, where a longer token may have begun: its trie node and, in the low startBits,
	// its position. It does not hold what began with the newest byte, which is newest.
	open   [maxTokenLen]uint32
	opens  int
	newest byte
	same   int // how many of the newest bytes are equal
}

func (a *appender) reset() {
	a.total, a.n, a.opens, a.same = 0, 0, 0, 0
	a.prefixes[0] = noToken
}

// last returns the last token of the prefix; noToken if it is empty.
func (a *appender) last() uint32 { return a.prefixes[a.n%maxTokenLen] & noToken }

// floor returns a number that total does not fall below, whatever is appended: the encoding of what comes begins
// with that of one of the last maxTokenLen prefixes, as there is a border among them.
func (a *appender) floor() int {
	now := a.prefixes[a.n%maxTokenLen] &^ noToken
	least := int32(0)
	for p := max(0, a.n-maxTokenLen+1); p < a.n; p++ {
		least = min(least, int32(a.prefixes[p%maxTokenLen]&^noToken-now)>>idBits)
	}
	return a.total + int(least)
}

// appendAll adds the bytes of b.
func (a *appender) appendAll(v *vocab, b []byte) {
	for _, c := range b {
		a.append(v, c)
	}
}

// append adds one byte.
func (a *appender) append(v *vocab, c byte) {
	current := a.prefixes[a.n%maxTokenLen]
	found, before := uint32(noToken), uint32(0) // the last token, and the prefix in front of it
	if a.opens > 8 {
		// Each candidate costs several look-ups. Mostly the last token just grew: of many candidates try that
		// one first.
		found, before = a.grown(v, c)
	}
	if c != a.newest {
		a.same = 0
	}
	if found != noToken && a.same > maxTokenLen {
		// In a long run of one byte, the same nodes are reached again, a byte later. There may be as many as
		// maxTokenLen of them.
		for i, o := range a.open[:a.opens] {
			a.open[i] = o&^(maxTokenLen-1) | (o+1)%maxTokenLen
		}
	} else {
		found, before = a.advance(v, c, found, before)
	}
	a.same++
	if found == noToken {
		found, before = v.trie.bytes[c], current
	}
	a.newest = c
	a.n++
	a.total += int(int32(before&^noToken-current&^noToken+1<<idBits) >> idBits) // the high 14 bits are a signed number
	a.prefixes[a.n%maxTokenLen] = (before+1<<idBits)&^noToken | found
}

// advance follows what is open through the trie, and looks for the last token if it is not found.
func (a *appender) advance(v *vocab, c byte, found, before uint32) (uint32, uint32) {
	open := a.open[:0]
	for _, o := range a.open[:a.opens] {
		e := v.trie.step(o>>startBits, c)
		if e == 0 {
			continue
		}
		if found == noToken && e.token() != noToken {
			found, before = a.try(v, e.token(), o)
		}
		if node := e.node(); node != 0 {
			open = append(open, node<<startBits|o%maxTokenLen)
		}
	}
	if a.n > 0 {
		e := v.trie.roots[a.newest][c]
		start := uint32(a.n-1) % maxTokenLen
		if found == noToken && e.token() != noToken {
			found, before = a.try(v, e.token(), start)
		}
		if node := e.node(); node != 0 {
			open = append(open, node<<startBits|start)
		}
	}
	a.opens = len(open)
	return found, before
}

// try returns token and the prefix in front of it if it may be the last token when it begins where o does.
func (a *appender) try(v *vocab, token, o uint32) (found, before uint32) {
	before = a.prefixes[o%maxTokenLen]
	if last := before & noToken; last == noToken || v.pairs.stable(last, token) {
		return token, before
	}
	return noToken, 0
}

// grown tries the candidate that begins where the last token does.
func (a *appender) grown(v *vocab, c byte) (found, before uint32) {
	start := uint32(a.n-v.len(a.last())) % maxTokenLen
	for _, o := range a.open[:a.opens] {
		if o%maxTokenLen == start {
			if e := v.trie.step(o>>startBits, c); e != 0 && e.token() != noToken {
				return a.try(v, e.token(), o)
			}
			break
		}
	}
	return noToken, 0
}
