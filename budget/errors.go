package budget

import "errors"

// Errors of the ledger.
var (
	// ErrClosed is returned after [Ledger.Close] or [Store.Close].
	ErrClosed = errors.New("budget: closed")
	// ErrFull means that a bound on the number of counters is reached, see
	// [Options.MaxCounters] and [FileStore.Get]. Requests on known counters go on, and
	// new subjects share one ([Overflow]) where memory is full; others are refused.
	ErrFull = errors.New("budget: too many counters")
)

// Errors of the file store. None of them is mended by the store itself: to reset
// usage is for people to decide.
var (
	// ErrLocked means that another process, or another store of this one, has the
	// folder open.
	ErrLocked = errors.New("budget: store is in use")
	// ErrForeign means that a file in the ledger's place is not a ledger.
	ErrForeign = errors.New("budget: not a ledger")
	// ErrVersion means that the ledger was written in a format which this version
	// does not know.
	ErrVersion = errors.New("budget: unknown format version")
	// ErrDamaged means that the ledger was changed by something else, or that a part
	// of it is missing.
	ErrDamaged = errors.New("budget: ledger is damaged")
	// ErrTorn means that the journal ends within a record: the process or the machine
	// stopped while it was written. Nothing had been told to anybody that depends on
	// it. The record is left out; that is a report, see [WithReport], not a failure.
	ErrTorn = errors.New("budget: the journal's last record is incomplete")
	// ErrReadOnly means that a store was opened by [OpenReadOnly].
	ErrReadOnly = errors.New("budget: store is open for reading only")
)
