// Package e2e holds the tests that need the whole road: a client, a real Envoy
// with the configuration which this project renders, the ext_proc server, and a
// stand-in upstream that replays recorded answers.
//
// Everything but Envoy (and the Python SDKs) runs in the test's process, so that a
// test can see both ends: what the upstream sent, what reached the server, what
// left it, what the client got, and what the ledger says.
package e2e
