// Package exchange is one HTTP exchange as an Envoy filter sees it, as a state
// machine without I/O: messages of Envoy's external processing protocol go in by
// [Exchange.Step], and what is to be done comes out as data in [Ready].
//
//	RequestHeaders → RequestBody → Reserving ─┬→ Awaiting ─┬→ Streaming ─┬→ Ended
//	      │              │             │      │            │             └→ Cut → Ended
//	      ▼              ▼             ▼      │            ├→ Unary ───────→ Ended
//	   Passing         Ended         Ended    │            └→ Passing ─────→ Ended
//	  (unmetered)     (refused)    (refused)  └─ a reset or EOF anywhere → Ended
//
// The driver owns the gRPC stream, the ledger, the clock's alarms and the log. It
// must, for every Ready and in this order: reserve if asked and go on with
// [Exchange.Reserved]; settle; wait until the ledger's store has the growth or the
// settlement that the messages tell of ([budget.Reservation.Wait]); send the messages;
// write the record; end the gRPC stream if told so. An admitted exchange asks for
// settlement exactly once, on every path: the natural end, a cut, an error of the
// upstream, an abort of the client, a deadline, a drain. One whose answer goes on at the
// provider gives its reservation to [Background] instead ([Ready.Kept]), and another, whose
// answer shows the end, or the driver settles that ([Ready.Ending], [Background.Expired]).
//
// # A cut
//
// Text is charged before it is forwarded. When the ledger refuses the next piece,
// one message carries what was permitted of the bytes at hand, a comment which
// names the limit, the API's closing events and end_of_stream. Envoy then ends
// the client's answer cleanly and cancels the upstream. What still arrives is
// counted and charged, since the provider bills it, and is not forwarded.
//
// # Backlog
//
// A driver that has more messages at hand may [Exchange.Defer] what is to be sent of a
// stream, so that one message answers several. Whatever is sent next of the answer begins
// with it; if nothing comes, [Exchange.Flush] sends it.
//
// # What passes through
//
// Every byte of an answer leaves as it came, except the usage chunk which this
// filter asked for and the client did not. Whole events only are forwarded; what
// is withheld is one unfinished event, bounded by [Policy.MaxEvent].
//
// # Caveats
//
// All of this holds with request_body_mode BUFFERED and response_body_mode
// FULL_DUPLEX_STREAMED. With other modes the best is done that they allow:
// [Degradations] says what is lost, and [Exchange.Duplex] whether a driver may
// answer several messages together.
//
// Of an upstream that compresses in spite of everything the client gets the answer
// decoded. Codings other than gzip, deflate, br and zstd, or more than two in a row, are
// not read: the client gets a 502 in place of its answer.
package exchange
