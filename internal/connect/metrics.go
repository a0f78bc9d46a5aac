package connect

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts and times the requests of all Regions. Requests that were not sent (open breaker) or that the caller
// cancelled are not counted.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics registers changeover_connect_requests_total, whose code is "ok" or a [Kind], and
// changeover_connect_request_seconds. It panics if they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_connect_requests_total",
			Help: "Requests to Amazon Connect by result: ok, throttled, unavailable, denied, not_found, invalid, malformed.",
		}, []string{"region", "operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "changeover_connect_request_seconds",
			Help:    "Time from sending a request to Amazon Connect to its complete answer or failure.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8},
		}, []string{"region", "operation"}),
	}
	reg.MustRegister(m.requests, m.seconds)
	return m
}

// observe counts one request; a nil *Metrics counts nothing.
func (m *Metrics) observe(region, operation string, kind Kind, took time.Duration) {
	if m == nil {
		return
	}
	code := string(kind)
	if code == "" {
		code = "ok"
	}
	m.requests.WithLabelValues(region, operation, code).Inc()
	m.seconds.WithLabelValues(region, operation).Observe(took.Seconds())
}
