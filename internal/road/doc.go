// Package road holds no code. Its tests guard two things which no compiler does.
//
// The first is the direction of imports:
//
//	cmd → envoy, extproc → budget → leaves (internal/tokens, sse, dialect)
//
// Packages import along the arrows only, so that a byte of a stream travels in
// one straight line, and so that the ledger and the state machine of an exchange
// can be understood and tested without a network. The rules are the table at the
// top of road_test.go, each with its reason. They are about the packages' own
// files: tests may import what they like.
//
// The second is that no file names a directory of somebody's machine or the host
// of a package registry: what is built from the project must not depend on where
// it was written.
package road
