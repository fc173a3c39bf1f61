// Package charts holds no code, only Helm charts and the tests that keep them true: each file of
// values in testdata is rendered by Helm's own engine, decoded strictly into Kubernetes' own types,
// compared with what is written down, and the configuration in it is checked by the real program.
//
//	go test .            # compares
//	go test . -update    # writes testdata, the table of README.md and the schema anew
//
// make test does so with -count=1, since the go command does not know that the program has changed.
//
// It is a module of its own, so that neither Helm nor Kubernetes' types are dependencies of the
// server. Nothing here is tried on a cluster; internal/cluster gives the chart to a real API server.
package charts
