// Package cluster holds no code, only a check: everything for Kubernetes that this project prints
// or ships is given to a real kube-apiserver with a real etcd, both built from source by this
// module, and to nothing else. There are no controllers, no kubelet and no container.
//
//	make cluster-check    # in the root, on Linux; builds the servers into .cache/tools first, many minutes
//
// The server judges what Go types and schemas cannot: admission, Pod Security, defaults and their
// validation, CEL rules, fields that may not change. It warns, too; a warning is a failure here.
//
// It is a module of its own, so that Kubernetes is no dependency of the server, and no part of
// make test.
package cluster
