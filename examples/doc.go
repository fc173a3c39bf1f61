// Package examples holds no code, only configurations to copy and scripts that try them. Its
// tests keep them true: what is rendered must be what this version renders, manifests must
// decode strictly into Kubernetes' own types, configurations must run as a real server and a
// real Envoy, and each run.sh must pass and print what its README shows.
//
//	go test ./examples            # compares
//	go test ./examples -update    # writes the rendered files and the READMEs' output anew
//	go test -short ./examples     # without processes, and without the network
//
// Nothing is tried on a cluster or with Docker here. The manifests of Istio and Envoy Gateway
// are checked against their definitions by the tests of package envoy.
package examples
