package stream

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Why a stream was closed: the label of changeover_stream_closed_total.
const (
	closedClient   = "client"         // the desktop closed it, or its network did
	closedSlow     = "slow"           // it did not take a write within writeTimeout
	closedDraining = "draining"       // this replica stops
	closedExpired  = "token_expiring" // its token is about to expire
	closedStopped  = "stopped"        // this replica stopped without the time to drain
	refusedLimit   = "overload"       // maxConnections; never opened
	refusedAgent   = "agent_limit"    // maxConnectionsPerAgent; never opened
	refusedDrain   = "refused_draining"
	refusedFront   = "refused_front" // asked too often, or its proof cannot be checked now; never opened
)

// Metrics of the streams; see docs/metrics.md.
type Metrics struct {
	connections prometheus.Gauge
	events      *prometheus.CounterVec
	closed      *prometheus.CounterVec
	delivery    prometheus.Histogram

	known map[string]prometheus.Counter // of events, by their names: writers have small stacks and no time
}

// NewMetrics registers the metrics of the streams.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "changeover_stream_connections", Help: "Open event streams of this replica.",
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_stream_events_total", Help: "Events sent to streams, by event name.",
		}, []string{"type"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_stream_closed_total", Help: "Streams closed or refused, by reason.",
		}, []string{"reason"}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "changeover_event_delivery_seconds",
			Help:    "From the commit of an event to its write to the socket of a stream that was open by then.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
	m.known = make(map[string]prometheus.Counter, len(names))
	for name := range names {
		m.known[name] = m.events.WithLabelValues(name)
	}
	for _, reason := range []string{
		closedClient, closedSlow, closedDraining, closedExpired, closedStopped, refusedLimit, refusedAgent, refusedDrain, refusedFront,
	} {
		m.closed.WithLabelValues(reason) // there before the first, or no increase is seen by it
	}
	if reg != nil {
		reg.MustRegister(m.connections, m.events, m.closed, m.delivery)
	}
	return m
}

// sent counts events.
func (m *Metrics) sent(name string, n int) {
	counter, ok := m.known[name]
	if !ok { // of a newer version
		counter = m.events.WithLabelValues(name)
	}
	counter.Add(float64(n))
}
