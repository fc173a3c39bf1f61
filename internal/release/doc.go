// Package release holds no code, only the tests of what a release consists of: the image, its
// Dockerfile, and .goreleaser.yaml.
//
// There is no Docker where tests run. So the binary is built as the Dockerfile builds it, and run
// as the image's user in an empty root that has what the image has and nothing else: no shell, no
// libraries, no time zones, no /tmp, no /proc. The Dockerfile itself is read by hadolint.
//
// Of .goreleaser.yaml each test run checks that GoReleaser knows every key, by the source of
// GoReleaser's own configuration types. Building GoReleaser takes minutes, so its own check and a
// whole release, of a snapshot, are a target of their own: make release-check. What that has made
// is looked at by TestSnapshot.
package release
