package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	document "changeover/api"
	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// Livez implements GET /livez.
func (s *Server) Livez(context.Context, contract.LivezRequestObject) (contract.LivezResponseObject, error) {
	return contract.Livez200JSONResponse{Status: contract.LivenessStatusOk}, nil
}

// Readyz implements GET /readyz.
func (s *Server) Readyz(ctx context.Context, _ contract.ReadyzRequestObject) (contract.ReadyzResponseObject, error) {
	seen, _ := s.health.read(ctx, s.store) // the error is in what was seen
	body := contract.Readiness{Status: contract.ReadinessStatusReady, Checks: []contract.Check{
		{Name: "database", State: seen.database, Since: moment(seen.since), LastError: text(seen.lastError)},
	}}
	ready := s.hub.Ready()
	log := contract.Check{Name: "eventLog", State: contract.HealthStateUnknown}
	if ready {
		log.State = contract.HealthStateHealthy
	}
	body.Checks = append(body.Checks, log)
	if s.leader != nil {
		body.Checks = append(body.Checks, s.leader())
	}
	for _, name := range s.names {
		for _, in := range s.groups[name].Instances {
			h := seen.regions[regionKey{name, in.Region}]
			body.Checks = append(body.Checks, contract.Check{
				Name: "connect/" + name + "/" + in.Region, State: healthState(h.State), Since: moment(h.Since), LastError: text(h.LastError),
			})
		}
	}
	switch {
	case s.draining.Load():
		body.Status = contract.ReadinessStatusDraining
	case !ready:
		body.Status = contract.ReadinessStatusLoading
	default:
		return contract.Readyz200JSONResponse(body), nil
	}
	return contract.Readyz503JSONResponse(body), nil
}

// Metrics implements GET /metrics.
func (s *Server) Metrics(ctx context.Context, _ contract.MetricsRequestObject) (contract.MetricsResponseObject, error) {
	if s.metrics == nil {
		return nil, problemf(kindNotFound, "Metrics are served on a port of their own (http.metricsListen).")
	}
	return served(func(w http.ResponseWriter) { s.metrics.ServeHTTP(w, callOf(ctx).request) }), nil
}

// Openapi implements GET /openapi.yaml.
func (s *Server) Openapi(context.Context, contract.OpenapiRequestObject) (contract.OpenapiResponseObject, error) {
	return contract.Openapi200ApplicationYamlResponse{
		Body: bytes.NewReader(document.Document), ContentLength: int64(len(document.Document)),
	}, nil
}

const (
	probeTimeout = 900 * time.Millisecond // below the second that kubelets wait
	healthAge    = time.Second            // what was seen is not looked for again before that
)

type regionKey struct{ group, region string }

// sight is what this replica last saw of the service's dependencies.
type sight struct {
	database  contract.HealthState
	since     time.Time // of that state
	lastError string    // of the database, for people; without addresses or credentials
	regions   map[regionKey]store.RegionHealth
	setup     map[string][]failover.SetupError // by failover group
	pauses    map[string]*failover.Pause       // by failover group; nil: it is not paused
}

// health remembers the last sight, so that probes do not load the database and the last known is there when it is away.
// The zero value has seen nothing.
type health struct {
	mu   sync.Mutex
	at   time.Time // of the last look
	err  error     // of the last look
	seen sight
}

// read looks at the dependencies, at most once a second, and returns what is known. The error is the database's.
func (h *health) read(ctx context.Context, s Store) (sight, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < healthAge {
		return h.seen, h.err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	regions, err := s.Health(ctx)
	var groups []*failover.Group
	if err == nil {
		groups, err = s.Groups(ctx)
	}
	if errors.Is(err, context.Canceled) { // the caller has gone; it says nothing about the database
		return h.seen, err
	}
	now := time.Now() // after the look: those who waited for it take it
	h.at, h.err = now, err
	state := contract.HealthStateHealthy
	if err != nil {
		state = contract.HealthStateDown
		h.seen.lastError = "it does not answer"
		if !unavailable(err) {
			h.seen.lastError = "it answers with an error; see the log"
		}
	} else {
		// New maps: the old ones are being read.
		h.seen.regions = make(map[regionKey]store.RegionHealth, len(regions))
		for _, r := range regions {
			h.seen.regions[regionKey{r.Group, r.Region}] = r
		}
		h.seen.setup = make(map[string][]failover.SetupError, len(groups))
		h.seen.pauses = make(map[string]*failover.Pause, len(groups))
		for _, g := range groups {
			h.seen.setup[g.Name], h.seen.pauses[g.Name] = g.Setup, g.Pause
		}
	}
	if h.seen.database != state {
		h.seen.database, h.seen.since = state, now
	}
	return h.seen, err
}
