// Package wire reads and writes the messages of ext_proc in protobuf's wire format
// (https://protobuf.dev/programming-guides/encoding), for the shapes that nearly
// every exchange consists of:
//
//	wire.Unmarshal(data, request, memory)    // of Envoy's
//	n, ok := wire.Size(response)     // for Envoy
//	wire.MarshalTo(make([]byte, n), response)
//
// It knows these shapes and no others. For what it does not know, Unmarshal calls
// package proto, and Size says so. So it decides only how fast a message is read, never
// what it means; the fuzz targets hold it to package proto.
//
// It is faster in three ways: all headers of a message are in a few pieces of memory
// rather than three for each; the body is not copied once more; and dynamic metadata,
// a map of maps, is written without reflection.
//
// # Caveats
//
//   - A request that was read refers to the bytes that it was read from: they must not
//     change as long as it is in use.
//   - Fields of a response that go-control-plane does not know are not written. The
//     server makes its responses itself, and sets none.
package wire
