// Package coding undoes the content codings of HTTP (RFC 9110, section 8.4) as their bytes
// come: gzip (RFC 1952), deflate (RFC 1950, and RFC 1951 as browsers take it), br (RFC 7932)
// and zstd (RFC 8878), and up to two of them in a row.
//
//	list, err := coding.Parse(slices.Values([]string{"br, gzip"}))
//	d := coding.NewDecoder(list)
//	defer d.Close()
//	err = d.Decode(piece, false, emit)   // emit gets what the piece decodes to
//	err = d.Decode(nil, true, emit)      // the data is whole, or this says that it is not
//
// Nothing waits for the end: what can be decoded of the bytes at hand is. For gzip and
// deflate that is all up to the last flush of the encoder or the last full window (32 KiB),
// for zstd all whole blocks (128 KiB at most), for br everything.
//
// # Bounds
//
// emit gets at most [MaxSlice] bytes at a time. Of n bytes of input no coding may make more
// than [FreeBytes] + [MaxRatio]·n; what is decoded once more may be [FreeBytes] + [MaxInner]·n. That
// bounds the time, too: frames of nothing take time and make nothing. A window is 8 MiB at most with zstd (RFC 9659), 16 MiB with br (the format's own bound), 32 KiB with the
// others; [Decoder.Memory] says what a decoder may take.
//
// # How
//
// The decoders of the libraries pull their input; here it is pushed. So each runs as a
// coroutine ([iter.Pull]), which is left when it has no more input, and entered again with
// the next. It is no goroutine that runs by itself, but holds a stack until the data has
// ended or failed, or until [Decoder.Close]: every decoder must be closed.
//
// # Caveats
//
// Data behind the end of a stream is an error, but for further members of gzip (RFC 1952,
// section 2.2) and further frames of zstd; behind the end of br it is ignored. No data at all is a whole stream of nothing:
// servers send that with empty answers. Frames of zstd behind the first one may not have a
// larger window than it, or than 1 MiB. Dictionaries are not known.
package coding
