// Package envoy renders the Envoy configuration that tokenbudget needs, from the
// types of Envoy's own API.
//
//	yaml, err := envoy.BootstrapYAML(envoy.Options{Upstream: "https://api.openai.com"})
//
// [Bootstrap] is a whole configuration: a listener, the ext_proc filter, the
// model API as upstream, and the tokenbudget server as a gRPC cluster. [Filter]
// is the filter alone, and [FilterYAML] that filter together with the settings
// around it which an existing configuration has to take over.
//
// # What belongs together
//
// Metering is only as good as these settings are complete:
//
//   - The request body is BUFFERED: nothing reaches the upstream before the
//     decision. Envoy answers 413 to a body beyond the virtual host's
//     request_body_buffer_limit.
//   - The answer is FULL_DUPLEX_STREAMED with trailers SEND, the only mode in
//     which the server can end a stream in the middle and have the upstream
//     cancelled.
//   - The server sees the JWT only through forwarding_namespaces, and the access
//     log sees its verdict only through receiving_namespaces.
//   - The route has no timeout but an idle timeout, for answers take minutes, and
//     no retries, for a retry is spent but not metered.
//   - The gRPC cluster has HTTP/2 keepalive, which notices a dead server; in
//     FULL_DUPLEX_STREAMED no message timeout does.
//
// # Caveats
//
//   - A header that Envoy sets for the server (identity with set_by: envoy) must
//     be set by a filter in front of ext_proc. Removing the client's copy happens
//     in the early header mutation; request_headers_to_remove of a route comes
//     too late, after ext_proc.
//   - A path with %2F or %5C is refused with 400, and a header with an underscore
//     in its name is dropped: Envoy, the server and the upstream might each read
//     them differently, and a budget could be passed by.
//   - Clients at addresses in internal_address_config may set x-envoy-retry-on, and
//     what is retried is spent but not metered. The bootstrap has no such
//     addresses (Envoy's default since 1.33); an existing configuration may.
//   - FailOpen lets requests pass unmetered while the server cannot be reached.
//     A stream that is running then is broken off all the same.
//   - The CA file of an https upstream is a path on the machine that runs Envoy.
package envoy
