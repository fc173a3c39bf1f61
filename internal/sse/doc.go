// Package sse splits a stream of Server-Sent Events into blocks, as its bytes
// arrive, and says which bytes each block is made of. It is made for a proxy
// that passes the bytes on unchanged and may stop after any event.
//
// # Format
//
// WHATWG HTML, section 9.2.5 and 9.2.6 (Parsing and Interpreting an event
// stream). An event is a run of lines ended by a blank one:
//
//	event: content_block_delta     the event's name; the last one counts
//	data: first line               data fields are joined by a line feed
//	data: second line
//	: a comment
//	                               the blank line dispatches the event
//
// Lines end in LF, CRLF or CR, also mixed. One byte order mark may open the
// stream. One space after the colon is not part of the value, a line without a
// colon is a field with an empty value, and names other than event and data
// (id, retry, anything) are skipped.
//
// # Blocks
//
// A [Block] reaches from the end of the block before to the blank line which
// ends it: a line which is not blank, then a blank one. Blank lines before the
// first other line do not end anything and belong to the block that follows.
// Blocks leave no gaps, so the bytes of all blocks, the one of [Parser.Flush]
// included, are the bytes of the stream, however it was cut into chunks.
//
// A block is returned as soon as its blank line is complete. A comment with a
// blank line after it, the usual keep-alive, is a block without data and passes
// at once.
//
// A CR completes a line although an LF may follow. Where that LF comes in a
// later chunk than the CR which ended a block, it opens the next block; there
// it is no line of its own. This is the only thing that depends on the chunks.
//
// # Use
//
// After each [Parser.Feed] call [Parser.Next] until it returns false, at the end
// of the stream [Parser.Flush], and look at [Parser.Err] when Next has returned
// false.
//
// # Caveats
//
//   - A browser discards an event whose blank line never came. Flush returns it,
//     because a client in front of this proxy may well read it, and because what
//     was paid for must be counted.
//   - Bytes are not checked to be UTF-8, and a NUL is an ordinary byte.
//   - Lone blank lines are withheld until the next block, and so is an LF which
//     was parted from its CR: a server that keeps its connection alive with bare
//     line ends, rather than comments, does not reach the client with them.
package sse
