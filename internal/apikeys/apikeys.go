// Package apikeys tells whose API key a request shows, without having the keys: only a
// hash of each is known, HMAC-SHA256 (RFC 2104) of the key under a secret.
//
//	keys := apikeys.New(secret, map[apikeys.Hash]*apikeys.Subject{hash: {"team": "search"}})
//	subject := keys.Find(key) // nil if nobody has this key
//
// With the secret apart from the hashes, neither is worth anything alone: who has read the
// hashes cannot try keys against them.
//
// To look a hash up in a map takes a time that depends on the hash. That tells nothing of a key:
// without the secret nobody can make keys whose hashes are alike, and who knows how far a hash
// of his agrees with another one knows nothing of the key behind that.
package apikeys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"sync"
)

// MaxKey is the longest key that is known, in bytes. Tokens with claims are the longest there are.
const MaxKey = 8 << 10

// Hash stands for a key.
type Hash [sha256.Size]byte

// ErrHash is the error of a text that is no hash.
var ErrHash = errors.New("not 64 characters of 0-9 and a-f")

// ParseHash reads a hash as [Hash.String] writes it. The error is [ErrHash], and tells nothing
// of the text.
func ParseHash(s string) (h Hash, err error) {
	if len(s) != 2*len(h) {
		return Hash{}, ErrHash
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Hash{}, ErrHash
		}
	}
	_, err = hex.Decode(h[:], []byte(s))
	return h, err
}

// String writes the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// HashOf is the hash of a key under a secret.
func HashOf(secret, key []byte) (h Hash) {
	mac := hmac.New(sha256.New, secret)
	mac.Write(key) // which never fails
	mac.Sum(h[:0])
	return h
}

// Subject is what is known of who has a key: values by name.
type Subject map[string]string

// Keys are those that are known. They are not changed, and may be shared.
type Keys struct {
	subjects map[Hash]*Subject
	hashers  sync.Pool // to begin an HMAC costs as much as a short one
}

// New returns the keys with the given hashes under a secret. It keeps subjects.
func New(secret []byte, subjects map[Hash]*Subject) *Keys {
	k := &Keys{subjects: subjects}
	secret = append([]byte(nil), secret...)
	k.hashers.New = func() any { return &hasher{mac: hmac.New(sha256.New, secret)} }
	return k
}

// hasher hashes one key at a time.
type hasher struct {
	mac hash.Hash
	sum Hash
}

// Find returns whose key it is; nil if nobody's. It may be called by many at once, takes one HMAC, and
// does not keep key.
func (k *Keys) Find(key []byte) *Subject {
	if len(key) == 0 || len(key) > MaxKey {
		return nil
	}
	h := k.hashers.Get().(*hasher)
	defer k.hashers.Put(h)
	h.mac.Reset()
	h.mac.Write(key)
	h.mac.Sum(h.sum[:0])
	return k.subjects[h.sum]
}
