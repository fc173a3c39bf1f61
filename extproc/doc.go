// Package extproc is the server which Envoy's external processing filter talks
// to (envoy.service.ext_proc.v3, one bidirectional gRPC stream for each HTTP
// exchange).
//
// [Server.Process] drives one [exchange.Exchange]: it receives, steps the state
// machine, and does what that asks for. Two goroutines serve a stream: the
// receiver, which owns Recv and does all the work of a message itself, and the
// handler, which only waits for what does not come from Envoy: deadlines and the
// drain. A mutex makes their steps one after the other. Only when messages come faster
// than they are answered, a third one sends what the receiver has deferred, several
// pieces of an answer as one message.
//
//	          ┌── receiver: Recv → step ─┐
//	Envoy ────┤                          ├─► settle → send → log
//	          └── handler: deadline,     │
//	              drain → stop ──────────┘
//
// [Server.Serve] adds what a gRPC server needs to live beside Envoy: health and
// reflection services, keepalive, a message size above the body limit, and a
// drain which lets open streams finish up to a deadline, then cuts them.
//
// Before the exchange sees a request, the receiver may turn it away or let it wait:
// see [Overload]. Of an answer, each message is taken at once.
package extproc
