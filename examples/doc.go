// Package examples holds no code, only configurations to copy. Its tests keep them
// true: each file must parse, must be what this version renders, and must be
// accepted by a real Envoy.
//
//	go test ./examples            # compares
//	go test ./examples -update    # writes the rendered files anew
//
// The Kubernetes manifests are read strictly as far as this project's own settings
// reach (addresses, ports, the filter, the configuration in the ConfigMap). They are
// not tried on a cluster here.
package examples
