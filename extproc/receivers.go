package extproc

import "sync"

// maxIdleReceivers is how many receivers may wait for their next exchange. Each keeps a
// stack of some 16 KiB, grown to what an exchange needs. More than wait may work.
const maxIdleReceivers = 64

// receivers are the goroutines that receive Envoy's messages, one for each open exchange.
// They serve one exchange after the other: a new goroutine would have to grow its stack
// several times on its way down to the tokenizer. Their owner is the server.
type receivers struct {
	work   chan *session // to one that waits
	places chan struct{} // full when as many wait as may
	closed chan struct{}
	all    sync.WaitGroup
}

func newReceivers() *receivers {
	return &receivers{work: make(chan *session), places: make(chan struct{}, maxIdleReceivers), closed: make(chan struct{})}
}

// receive has the messages of e received.
func (r *receivers) receive(e *session) {
	select {
	case r.work <- e:
	default:
		r.all.Go(func() { r.run(e) })
	}
}

func (r *receivers) run(e *session) {
	for {
		e.receive()
		select {
		case r.places <- struct{}{}:
		default:
			return
		}
		select {
		case e = <-r.work:
			<-r.places
		case <-r.closed:
			return
		}
	}
}

// close ends those that wait now, and the others after their exchange.
func (r *receivers) close() { close(r.closed) }

// wait waits for all to end, after close. There must be no handlers any more, so that
// what is left of an exchange is the step that its receiver is in.
func (r *receivers) wait() { r.all.Wait() }
