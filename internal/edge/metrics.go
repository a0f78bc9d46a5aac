package edge

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the front door; see docs/metrics.md.
type Metrics struct {
	connections prometheus.Gauge
	rejected    *prometheus.CounterVec
	limited     *prometheus.CounterVec
	expiry      prometheus.Gauge
}

// NewMetrics registers the metrics of the front door; nil: they are counted, but not exported.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "changeover_http_connections", Help: "Open connections to http.listen and http.metricsListen, streams included.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_http_connections_rejected_total",
			Help: "Connections closed for want of room: total or address (at once, by which limit), evicted (of an unknown caller, for a newer one).",
		}, []string{"reason"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_http_requests_limited_total",
			Help: "Requests refused because their token or address sent too many.",
		}, []string{"by"}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "changeover_http_certificate_expiry_timestamp_seconds",
			Help: "When the TLS certificate in use expires; 0: there is none.",
		}),
	}
	for _, reason := range []string{"total", "address", "evicted"} {
		m.rejected.WithLabelValues(reason) // there before the first, or no increase is seen by it
	}
	for _, by := range []string{"address", "token"} {
		m.limited.WithLabelValues(by)
	}
	if reg != nil {
		reg.MustRegister(m.connections, m.rejected, m.limited, m.expiry)
	}
	return m
}
