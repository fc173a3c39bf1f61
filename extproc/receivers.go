package extproc

import "sync"

// maxIdleReceivers is how many receivers may wait for their next job. Each keeps a
// stack of some 16 KiB, grown to what an exchange needs. More than wait may work.
const maxIdleReceivers = 64

// receivers are the goroutines that receive Envoy's messages, one for each open exchange,
// and those that do something else for it. They do one job after the other: a new goroutine
// would have to grow its stack several times on its way down to the tokenizer. Their owner
// is the server.
type receivers struct {
	work   chan job      // to one that waits
	places chan struct{} // full when as many wait as may
	closed chan struct{}
	all    sync.WaitGroup
}

// job is what one of them does for a session.
type job struct {
	*session
	what task
}

type task uint8

const (
	taskReceive task = iota // receive its messages, to the end
	taskMessage             // make the step for one message
	taskFlush               // send what was deferred
)

func (j job) do() {
	switch j.what {
	case taskReceive:
		j.receive()
	case taskMessage:
		j.made <- j.message()
	case taskFlush:
		j.flush()
	}
}

func newReceivers() *receivers {
	return &receivers{work: make(chan job), places: make(chan struct{}, maxIdleReceivers), closed: make(chan struct{})}
}

// do has a job done.
func (r *receivers) do(j job) {
	select {
	case r.work <- j:
	default:
		r.all.Go(func() { r.run(j) })
	}
}

func (r *receivers) run(j job) {
	for {
		j.do()
		j.session = nil // it may be large
		select {
		case r.places <- struct{}{}:
		default:
			return
		}
		select {
		case j = <-r.work:
			<-r.places
		case <-r.closed:
			return
		}
	}
}

// close ends those that wait now, and the others after their job.
func (r *receivers) close() { close(r.closed) }

// wait waits for all to end, after close. There must be no handlers any more, so that
// what is left of an exchange is the step that its receiver is in.
func (r *receivers) wait() { r.all.Wait() }
