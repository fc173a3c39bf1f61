// Command road measures what tokenbudget costs on the whole road, beside the road without it: unary and streamed
// chat requests by 1, 32 and 256 clients at once.
//
//	make bench                                   # some 10 minutes; or: go run ./internal/bench/road
//	make bench BENCH='-quick -only "32 at once"' # while developing
//
// It runs in the root of the repository, prints tables, and writes them into docs/benchmarks.md with its charts.
//
//	direct         clients ───────────────────► upstream
//	Envoy alone    clients ──► Envoy ──────────► upstream
//	does nothing   clients ──► Envoy ──────────► upstream
//	                             └─► package noop
//	tokenbudget    clients ──► Envoy ──────────► upstream
//	                             └─► the real binary, with a file store and a log
//
// With -with, products of others as well, in few cells:
//
//	LiteLLM        clients ──► LiteLLM ────────► upstream
//	ratelimit      clients ──► Envoy ──────────► upstream
//	                             └─► envoyproxy/ratelimit ──► Redis
//
// Each Envoy and each server is a process of its own, the clients are this one, and the upstream, which all share,
// is another. In every cell the sides take turns, and a ratio is of two neighbouring turns, so that a machine whose
// speed drifts does not change it much.
//
// # What is measured
//
// Requests go in a closed loop, the next one as soon as the answer is there. All have different texts.
//
// A chunk's way is the time from the upstream's write to the moment at which the client has read the whole event:
// the upstream stamps each chunk ([bench.Now], one clock for all processes). Without pause, that is the time in
// queues, for the most part: the upstream writes faster than anybody reads. What a chunk's way is like in use is
// shown by the loads with pauses, as long as the machine has processor time left; at 256 at once, a small one has
// none.
//
// How many chunks share a message between Envoy and the server depends on the upstream. Of HTTP/1.1, Envoy reads many
// chunks at a time when they come without pause, and passes them on as one: some twenty to a message. Of HTTP/2 it
// passes on each frame by itself. Loads without pause are measured with both; there is no direct road with HTTP/2,
// since clients speak HTTP/1.1.
//
// CPU per chunk is that of whole exchanges, the requests' part included, divided by their chunks. It is read from
// the processes' own clocks, to well below a millisecond.
//
// Memory is what open, silent streams add to the memory that a process has in RAM. Each measurement has new processes.
//
// # What is checked
//
// Every byte of every answer; the chunks and requests, by what the upstream says it has sent; the exchanges, by
// Envoy's statistics; and of tokenbudget, in every turn, that its ledger was charged exactly the tokens which the
// upstream has reported, that nothing is held, and that its log has a line for each exchange; of ratelimit, that it has
// counted exactly these tokens. What does not agree is an error, not a figure.
//
// To see what a change is worth, build tokenbudget before it, and measure beside that:
//
//	go build -o before ./cmd/tokenbudget                               # before
//	go run ./internal/bench/road -against ./before -only streamed      # after
//
// # Caveats
//
//   - All share the machine's cores: figures of requests/s depend on it, ratios less so, CPU times least.
//   - CPU times and memory are read on Linux only.
package main
