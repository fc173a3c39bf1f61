// Package stage is what the benchmarks of the whole road run on: servers, each a
// process of its own with an Envoy of its own, an upstream, and clients. What the
// servers are compared by is up to the programs that use it.
//
//	clients ──► Envoy ──► upstream
//	              │
//	              └─► server
//
// [Upstream] and [Conn] are as light as they can be, since what they cost brings
// ratios closer to one. Both speak HTTP/1.1 as far as the other one and Envoy do,
// and no further; [HTTP2Upstream] is Go's server. An answer is the same bytes for every server, but for the
// stamps: each chunk of a stream carries the time at which the upstream sent it
// ([bench.Now]), which a client in another process takes from the time at which
// it came. [Stream] checks all other bytes.
//
// # Caveats
//
//   - Nothing here is an HTTP implementation for anything else: what none of
//     these programs sends is an error.
//   - Processes end with this one only if it ends in good order, or their
//     standard input is read ([Parent]).
package stage
