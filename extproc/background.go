package extproc

import (
	"time"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// expireEvery is how often it is looked for responses in the background whose time is over.
const expireEvery = time.Second

// keepBackground lets responses go on in the background, until stop is called: that ends all of
// them, and returns when it is done.
func (s *Server) keepBackground() (stop func()) {
	background := s.settings.Load().policy.Background
	background.Open()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(expireEvery)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case now := <-tick.C:
				s.endAll(background.Expired(now))
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		s.endAll(background.Close(time.Now()))
	}
}

func (s *Server) endAll(endings []*exchange.Ending) {
	for _, e := range endings {
		s.endBackground(e)
	}
}

// endBackground settles a response that went on in the background, and tells of it. A panic of the
// log ends nothing else: not the server, nor the exchange that showed the end.
func (s *Server) endBackground(e *exchange.Ending) {
	defer func() {
		if p := recover(); p != nil {
			s.report(p)
		}
	}()
	if !e.Apply() {
		s.opts.Log.Error("a response in the background was settled twice")
	}
	s.opts.Metrics.background.Dec()
	s.opts.Metrics.ended.WithLabelValues(string(e.By)).Inc()
	s.opts.Metrics.observeTokens(e.Record)
	s.line("background", e.Record)
}
