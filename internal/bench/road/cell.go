package main

import (
	"fmt"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// load is a kind of request.
type load struct {
	name   string
	size   int          // of a request's body, in bytes
	answer stage.Answer // what the upstream answers
	http2  bool         // the upstream speaks HTTP/2
}

const (
	kb     = 1 << 10
	chunks = 200 // of a stream
	pause  = 5 * time.Millisecond
)

var loads = []load{
	{"unary, 2 KB", 2 * kb, stage.Answer{}, false},
	{"unary, 16 KB", 16 * kb, stage.Answer{}, false},
	{"unary, 256 KB", 256 * kb, stage.Answer{}, false},
	{"streamed, without pause", 2 * kb, stage.Answer{Chunks: chunks}, false},
	{"streamed, 5 ms", 2 * kb, stage.Answer{Chunks: chunks, Pause: pause}, false},
	{"streamed by HTTP/2, without pause", 2 * kb, stage.Answer{Chunks: chunks}, true},
}

// bodies are the requests of one connection.
func (l load) bodies(s *requests.Source) requests.Requests {
	if l.answer.Chunks > 0 {
		return requests.NewStreamed(s, l.size)
	}
	return requests.NewCold(s, l.size)
}

// cell is a load by so many clients at once.
type cell struct {
	load
	atOnce int
	number int // of its texts: no two cells ask the same
}

// maxAtOnce bounds the clients of a cell.
const maxAtOnce = 1_000_000

// source is where the texts of one client come from. Another cell's must not be seen again: tokenbudget remembers
// messages that it has counted.
func (c cell) source(lib *requests.Library, client int) *requests.Source {
	return lib.NewSource(uint64(c.number*maxAtOnce + client))
}

func (c cell) String() string { return fmt.Sprintf("%s, %d at once", c.name, c.atOnce) }

var parallel = []int{1, 32, 256}

func cells() (all []cell) {
	for _, l := range loads {
		for _, n := range parallel {
			if l.http2 && n == 1 {
				continue // what differs is the load of many
			}
			all = append(all, cell{l, n, len(all)})
		}
	}
	return all
}

// light reports whether the cell is one that products of others are measured in as well.
func (c cell) light() bool { return c.size == 2*kb && c.atOnce == 32 }
