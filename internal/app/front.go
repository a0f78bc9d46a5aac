package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"changeover/internal/api"
	"changeover/internal/config"
	"changeover/internal/edge"
)

// metricsConnections are for Prometheus, probes and a few people on http.metricsListen.
const metricsConnections = 1000

// front is what stands before the API: the limits, the certificate, and who may stand in between.
type front struct {
	metrics      *edge.Metrics
	limiter      *edge.Limiter
	certificates *edge.Certificates // nil: plain HTTP
}

// newFront also tells the API of the limits.
func newFront(c config.HTTP, o *api.Options, registry prometheus.Registerer) (*front, error) {
	f := &front{metrics: edge.NewMetrics(registry)}
	f.limiter = edge.NewLimiter(c.RequestsPerSecondPerToken, c.RequestsPerSecondPerAddress, f.metrics)
	o.Limiter, o.Identified = f.limiter, edge.Identified
	if c.TLSCert == "" {
		return f, nil
	}
	var err error
	if f.certificates, err = edge.LoadCertificates(c.TLSCert, c.TLSKey, o.Log, f.metrics); err != nil {
		return nil, fmt.Errorf("http.tlsCert, http.tlsKey: %w", err)
	}
	return f, nil
}

// public is the server of http.listen.
func (a *App) public() *edge.Server {
	c := a.config.HTTP
	var trusted []netip.Prefix
	for _, network := range c.TrustedProxies {
		prefix, err := config.ParseNetwork(network)
		if err != nil { // the configuration has been checked
			panic(err)
		}
		trusted = append(trusted, prefix)
	}
	return edge.NewServer(edge.Options{
		Handler: a.handler(), TrustedProxies: trusted, AllowedOrigins: a.config.CORS.AllowedOrigins, FrameAncestors: c.FrameAncestors,
		MaxConnections: c.MaxConnections, MaxConnectionsPerAddress: c.MaxConnectionsPerAddress,
		Certificates: a.front.certificates, Log: a.log, Metrics: a.front.metrics,
	})
}

// internal is the server of http.metricsListen.
func (a *App) internal() *edge.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics)
	mux.Handle("GET /livez", a.api)
	mux.Handle("GET /readyz", a.api)
	if a.config.HTTP.Profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return edge.NewServer(edge.Options{Handler: mux, MaxConnections: metricsConnections, Log: a.log, Metrics: a.front.metrics})
}

func (a *App) listen(ctx context.Context, key, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	a.life.onStop(key, partTimeout, func(context.Context) error {
		_ = l.Close() // the server may have closed it
		return nil
	})
	return l, nil
}

func (a *App) serve(name string, l net.Listener, server *edge.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); err != nil {
			a.log.Error("server ended", "server", name, "error", err)
		}
	}()
	a.life.onStop(name, shutdownTimeout, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		<-done
		return err
	})
}
