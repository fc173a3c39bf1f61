// Package load puts a real server under load for a long time or with many streams, and
// holds its ledger against what it was sent:
//
//	bin, err := load.Build(ctx, dir)
//	result, err := load.Streams(ctx, load.StreamsOptions{Binary: bin, Streams: 10_000})
//	result, err := load.Soak(ctx, load.SoakOptions{Binary: bin, Lasts: time.Hour})
//
// The server is a process of its own, so that what it takes (memory, goroutines, file
// descriptors) is its own, too; its metrics, balances and log are read as anybody would.
//
// Streams go event by event: the next one is sent when the one before has come through. So
// what has reached the server is known exactly, at any time, whatever becomes of a stream.
// There are two roads: straight to the server, with this package in Envoy's place, and
// through a real Envoy, between a client and an upstream of this package.
package load
