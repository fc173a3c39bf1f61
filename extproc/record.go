package extproc

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// record writes the one log line of an exchange and counts it.
func (s *Server) record(r *exchange.Record) {
	s.opts.Metrics.observe(r)
	s.noteDegraded(r)
	if s.overload.tells(r) {
		s.line("exchange", r)
	}
}

// line writes a line to the log.
func (s *Server) line(msg string, r *exchange.Record) {
	fields := make([]zap.Field, 0, 28)
	fields = append(fields, zap.String("request_id", r.RequestID))
	for _, id := range r.Identities {
		fields = append(fields, zap.String(id.Name, id.Value))
	}
	if r.Path != "" {
		fields = append(fields, zap.String("path", r.Path))
	}
	fields = append(fields,
		zap.String("api", r.API),
		zap.String("model", r.Model),
		zap.Bool("stream", r.Stream),
		zap.Int64("input_tokens", r.Input),
		zap.Int64("output_tokens", r.Output),
		zap.Int64("cached_tokens", r.Cached),
		zap.Int64("reasoning_tokens", r.Reasoning),
		zap.String("input_source", r.InputSource),
		zap.String("output_source", r.OutputSource),
		zap.String("outcome", string(r.Outcome)),
		zap.String("limit", r.Limit),
		zap.Int("status", r.Status),
		zap.Int64("held", r.Held.Input+r.Held.Output),
		zap.Int64("duration_ms", r.Duration.Milliseconds()),
		zap.Int64("ttft_ms", r.TTFT.Milliseconds()),
	)
	if r.Background {
		fields = append(fields, zap.Bool("background", true))
	}
	if r.Throttled > 0 {
		fields = append(fields, zap.Int64("throttled_ms", r.Throttled.Milliseconds()))
	}
	if len(r.Shadow) > 0 {
		fields = append(fields, zap.String("shadow", r.ShadowText()))
	}
	if r.Degraded != "" {
		fields = append(fields, zap.String("degraded", r.Degraded))
	}
	if r.Truncated > 0 {
		fields = append(fields, zap.Int64("truncated_messages", r.Truncated))
	}
	if r.Reason != "" {
		fields = append(fields, zap.String("reason", r.Reason))
	}
	s.opts.Log.Info(msg, fields...)
}

// Metrics are the server's Prometheus metrics. Their labels come from small fixed
// sets and from the names of configured limits, never from clients.
type Metrics struct {
	open      prometheus.Gauge
	conns     prometheus.Gauge
	panics    prometheus.Counter
	exchanges *prometheus.CounterVec // api, outcome
	limited   *prometheus.CounterVec // outcome, limit
	shadow    *prometheus.CounterVec // limit, outcome
	waiting   prometheus.Gauge
	throttled *prometheus.HistogramVec // limit; seconds
	tokens    *prometheus.CounterVec   // kind, source, api
	duration  *prometheus.HistogramVec // api, outcome; seconds
	ttft      *prometheus.HistogramVec // api; seconds
	degraded  *prometheus.CounterVec   // mode
	buffered  prometheus.Gauge
	shed      *prometheus.CounterVec // reason

	background prometheus.Gauge
	ended      *prometheus.CounterVec // by
}

// NewMetrics returns metrics that are registered with reg, or nowhere if it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	seconds := prometheus.ExponentialBuckets(0.01, 2.5, 12) // 10 ms … 4 min
	m := &Metrics{
		open:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "tokenbudget_open_exchanges", Help: "Exchanges that are under way."}),
		conns:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "tokenbudget_connections", Help: "Connections to listen.extproc that are open: for each Envoy one of each of its worker threads, and one of its health checks."}),
		panics:    prometheus.NewCounter(prometheus.CounterOpts{Name: "tokenbudget_panics_total", Help: "Exchanges that ended in a panic of the server."}),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tokenbudget_exchanges_total", Help: "Exchanges by API and outcome."}, []string{"api", "outcome"}),
		limited:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tokenbudget_limited_total", Help: "Exchanges that a limit refused or cut, by outcome and limit."}, []string{"outcome", "limit"}),
		shadow:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tokenbudget_shadow_total", Help: "Admitted exchanges that a limit with action: shadow would have refused (denied) or cut."}, []string{"limit", "outcome"}),
		waiting:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "tokenbudget_waiting_requests", Help: "Requests that wait for a limit that throttles."}),
		throttled: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tokenbudget_throttled_seconds", Help: "How long requests waited for a limit that throttles, whatever became of them.", Buckets: seconds}, []string{"limit"}),
		tokens:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tokenbudget_tokens_total", Help: "Tokens charged, by kind (input, output), source of the figure and API."}, []string{"kind", "source", "api"}),
		duration:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tokenbudget_exchange_duration_seconds", Help: "Duration of exchanges.", Buckets: seconds}, []string{"api", "outcome"}),
		buffered:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "tokenbudget_buffered_bytes", Help: "Bytes of bodies that are kept: requests that are decided on or wait, and of answers what is unfinished or not yet read."}),
		shed:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tokenbudget_overload_total", Help: "Exchanges that were turned away because of overload, by reason."}, []string{"reason"}),
		ttft:      prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tokenbudget_time_to_first_token_seconds", Help: "Time from a request's headers to the first text of its stream.", Buckets: seconds}, []string{"api"}),
		degraded:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tokenbudget_degraded_exchanges_total", Help: "Exchanges in modes of Envoy's filter in which less can be done, by what of its configuration is not as it should be."}, []string{"mode"}),
	}
	m.background = prometheus.NewGauge(prometheus.GaugeOpts{Name: "tokenbudget_background_responses", Help: "Responses that go on at their provider, of which it is not known yet what they cost."})
	m.ended = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tokenbudget_background_ended_total", Help: "Responses in the background that were settled, by how their end was noticed."}, []string{"by"})
	for _, by := range []exchange.EndedBy{exchange.EndedSeen, exchange.EndedDeadline, exchange.EndedCrowded, exchange.EndedShutdown} {
		m.ended.WithLabelValues(string(by))
	}
	for _, reason := range overloadReasons {
		m.shed.WithLabelValues(reason) // a counter that is missing alarms nobody
	}
	if reg != nil {
		reg.MustRegister(m.open, m.conns, m.panics, m.exchanges, m.limited, m.shadow, m.waiting, m.throttled, m.tokens, m.duration, m.ttft, m.degraded, m.buffered, m.shed, m.background, m.ended)
	}
	return m
}

func (m *Metrics) observe(r *exchange.Record) {
	outcome := string(r.Outcome)
	m.exchanges.WithLabelValues(r.API, outcome).Inc()
	m.duration.WithLabelValues(r.API, outcome).Observe(r.Duration.Seconds())
	if r.Degraded != "" {
		m.degraded.WithLabelValues(r.Degraded).Inc()
	}
	if r.Limit != "" {
		m.limited.WithLabelValues(outcome, r.Limit).Inc()
	}
	for _, s := range r.Shadow {
		m.shadow.WithLabelValues(s.Limit, s.Outcome.String()).Inc()
	}
	if r.ThrottledBy != "" {
		m.throttled.WithLabelValues(r.ThrottledBy).Observe(r.Throttled.Seconds())
	}
	if r.Outcome != exchange.Denied && r.API != "" && !r.Background {
		m.observeTokens(r)
	}
	if r.TTFT > 0 {
		m.ttft.WithLabelValues(r.API).Observe(r.TTFT.Seconds())
	}
}

// observeTokens counts what was charged.
func (m *Metrics) observeTokens(r *exchange.Record) {
	m.tokens.WithLabelValues("input", r.InputSource, r.API).Add(float64(r.Input))
	m.tokens.WithLabelValues("output", r.OutputSource, r.API).Add(float64(r.Output))
}
