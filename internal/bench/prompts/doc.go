// Command prompts measures what counting prompts costs on the whole road: unary
// chat requests through a real Envoy, with tokenbudget and with an ext_proc server
// that does nothing (package noop).
//
//	make bench-tokens      # its second part; or: go run ./internal/bench/prompts
//
// It runs in the root of the repository, prints a table and writes it into
// docs/benchmarks.md.
//
//	clients ──► Envoy ──► upstream        each server has an Envoy of its own,
//	              │                       with the same configuration
//	              └─► server              a child process: this program again
//
// A few connections ask in a closed loop, the next request as soon as the answer
// is there. The two servers take turns, and a ratio is of two neighbouring turns,
// so that a machine whose speed drifts does not change it much. Clients and
// upstream are this process, and as light as they can be: what they cost would
// bring the ratio closer to one.
//
// The requests of a row have different texts, in every turn and for each server, so
// that nothing can be known from before, except for the row of seen conversations:
// there, all but the last turns of a request have been sent before.
//
// To see what a change is worth, build the program before it, and measure beside that:
//
//	go build -o before ./internal/bench/prompts      # before
//	go run ./internal/bench/prompts -against ./before  # after
//
// The column of the server that does nothing is then the other build's. CPU time shows
// smaller differences than requests/s do, above all on a machine that has other work.
//
// # Caveats
//
//   - All share the machine's cores: figures of requests/s depend on it, ratios
//     less so.
//   - CPU times are known on Linux only.
package main
