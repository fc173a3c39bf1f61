// Package runner runs every fuzz target of a repository with Go's own fuzzer, as many at once
// as there are processors.
//
// Each package's test binary is built once, with the fuzzer's instrumentation (go test -c
// -fuzz), and run once for each of its targets, with one worker each: targets beside each
// other use a machine better than workers of one, which share a corpus. What was found to reach
// new code is kept where go test -fuzz keeps it, in Go's build cache, and is there again the
// next time.
//
// A target has failed when its process has, with one exception. At the end of a time
// (-fuzztime 60s, not 1000x), Go up to 1.26 can report its own deadline as the target's failure
// (go.dev/issue/75804): "context deadline exceeded" is all that it says, and no input is
// written. That alone is taken for an end, and told. A target that has run nothing has failed,
// too.
//
// # Caveats
//
// A failing input stays below the package's testdata/fuzz, as go test leaves it, and is a part
// of its tests from then on.
package runner
