package budget

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// loadTimeout is the longest that a read from the store may take.
	loadTimeout = 5 * time.Second
	// loadAttempts bounds how often a row is loaded again because it left memory
	// before it was pinned. Once is rare.
	loadAttempts = 100
	// keyBuffer is the length up to which a row's key needs no allocation.
	keyBuffer = 192
)

// pin returns the row of rule, window and subject with one more pin. A row that is
// in memory is found without an allocation, if its subject fits into buf.
func (l *Ledger) pin(ctx context.Context, r *rule, s *span, q *Request, buf []byte) (*row, error) {
	subject := appendSubject(buf[:0], r.per, q)
	hash := s.hash(subject)
	if w := l.table.pin(hash, s, subject); w != nil {
		return w, nil
	}
	w, err := l.pinAbsent(ctx, r, s, s.prefix+string(subject), hash)
	if errors.Is(err, errCrowded) {
		return l.pinShared(ctx, r, s, q)
	}
	return w, err
}

// pinAbsent brings the row into memory first.
func (l *Ledger) pinAbsent(ctx context.Context, r *rule, s *span, key string, hash uint64) (*row, error) {
	for range loadAttempts {
		if err := l.load(ctx, r, s, key, hash); err != nil {
			return nil, err
		}
		if w := l.table.pin(hash, s, []byte(key[len(s.prefix):])); w != nil {
			return w, nil
		}
	}
	return nil, errors.New("the counter left memory again and again before it could be used")
}

// load puts the row of key into the table, unless it is there. What calls for the
// same key wait for is the same read, which goes on if one of them gives up.
//
// Because there is only one such read of a key at a time, and no other way into the
// table, no read can be overtaken by a later one and insert an old balance.
func (l *Ledger) load(ctx context.Context, r *rule, s *span, key string, hash uint64) error {
	if l.store == nil || r.Unit == Streams {
		w, err := newRow(r, s, key, hash, true)
		if err != nil {
			return err
		}
		return l.table.insert(w)
	}
	done := l.loads.DoChan(key, func() (any, error) {
		if !l.gate.enter() {
			return nil, ErrClosed
		}
		defer l.gate.leave()
		present, generation := l.table.look(hash, key)
		if present {
			return nil, nil
		}
		w, err := newRow(r, s, key, hash, false)
		if err != nil {
			return nil, err
		}
		if w.history != nil {
			if err := l.learn(ctx, w, w.history.cell(l.options.Now().Unix())); err != nil {
				return nil, err
			}
			return nil, l.table.insert(w)
		}
		stored, ok := l.cache.get(key, generation)
		if !ok {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
			defer cancel()
			if stored, err = l.read(ctx, w.storeKey()); err != nil {
				return nil, err
			}
		}
		w.restore(stored)
		return nil, l.table.insert(w)
	})
	select {
	case res := <-done:
		return res.Err
	case <-ctx.Done():
		return fmt.Errorf("reading the store: %w", ctx.Err())
	}
}

// read returns the balance in the store, or absent.
func (l *Ledger) read(ctx context.Context, key Key) (int64, error) {
	e, ok, err := l.store.Get(ctx, key)
	switch {
	case err != nil:
		return 0, fmt.Errorf("reading the store: %w", err)
	case !ok:
		return absent, nil
	case e.Used < 0:
		return 0, fmt.Errorf("reading the store: negative usage %d", e.Used)
	}
	return e.Used, nil
}
