package budget

import "errors"

// Errors of the ledger.
var (
	// ErrClosed is returned after [Ledger.Close] or [Store.Close].
	ErrClosed = errors.New("budget: closed")
	// ErrFull means that a bound on the number of counters is reached, see
	// [Options.MaxCounters] and [FileStore.Put]. Requests on counters that are in
	// memory go on, and new subjects share one ([Overflow]) where memory is full; others
	// are refused.
	ErrFull = errors.New("budget: too many counters")
)

// Errors of the file store. None of them is mended by the store itself: to reset
// usage is for people to decide.
var (
	// ErrLocked means that another process, or another store of this one, has the
	// folder open.
	ErrLocked = errors.New("budget: store is in use")
	// ErrForeign means that the file in the ledger's place is not a ledger.
	ErrForeign = errors.New("budget: not a ledger")
	// ErrVersion means that the ledger was written in a format which this version
	// does not know.
	ErrVersion = errors.New("budget: unknown format version")
	// ErrDamaged means that the ledger is truncated or was changed by something
	// else.
	ErrDamaged = errors.New("budget: ledger is damaged")
)
