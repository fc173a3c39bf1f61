package sse_test

import (
	"fmt"

	"github.com/tokenbudget/tokenbudget/internal/sse"
)

// A proxy looks at each event before it passes the event's bytes on.
func ExampleParser() {
	var p sse.Parser
	show := func(b sse.Block) {
		fmt.Printf("%q is made of the bytes %q\n", b.Data, p.Bytes(b.Start, b.End))
	}
	for _, chunk := range []string{"data: Hel", "lo\n\n: ping\n\ndata: wor", "ld"} {
		p.Feed([]byte(chunk))
		for b, ok := p.Next(); ok; b, ok = p.Next() {
			show(b)
		}
		if err := p.Err(); err != nil {
			fmt.Println(err)
			return
		}
	}
	for b, ok := p.Flush(); ok; b, ok = p.Flush() {
		show(b)
	}
	// Output:
	// "Hello" is made of the bytes "data: Hello\n\n"
	// "" is made of the bytes ": ping\n\n"
	// "world" is made of the bytes "data: world"
}
