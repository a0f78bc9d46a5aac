package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"

	"changeover/internal/agents"
	"changeover/internal/api"
	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connect"
	"changeover/internal/failover"
	"changeover/internal/orchestrator"
	"changeover/internal/postgres"
	"changeover/internal/store"
	"changeover/internal/stream"
	"changeover/internal/tdg"
	"changeover/internal/webhook"
)

// How long the steps of a stop may take; draining has stream.drain besides.
const (
	drainGrace      = 2 * time.Second // for the last streams to get their last event
	shutdownTimeout = 5 * time.Second // for requests under way
	leaderTimeout   = 5 * time.Second // to end what it is doing and to release the lease
	partTimeout     = 5 * time.Second
	embeddedTimeout = 30 * time.Second // a checkpoint
)

const migrateAgain = 2 * time.Second

// Options of an App beside its configuration.
type Options struct {
	Log *slog.Logger
	// Registry takes the metrics; nil: a new one.
	Registry *prometheus.Registry
	// Transport replaces the connections to Amazon Connect in a Region, for tests that record or break them; nil: real ones.
	Transport func(region string) http.RoundTripper
}

// App is the whole service. Its methods may be called from any goroutine.
type App struct {
	config  *config.Config
	log     *slog.Logger
	life    lifecycle
	replica string

	databaseURL  string
	store        *store.Store
	hub          *stream.Hub
	api          *api.Server
	verifier     *auth.Verifier // nil: auth.mode none
	login        *auth.Login    // nil: nobody signs in with a browser
	orchestrator *orchestrator.Orchestrator
	webhooks     *webhook.Dispatcher
	inbox        chan struct{} // rings when the inbox may have grown
	fatal        chan error    // gets what Run ends with; nobody waits for its being heard
	metrics      http.Handler
	front        *front

	listener, metricsListener net.Listener // nil before Start
}

// New makes every part of the service. On an error all that was made is undone.
func New(ctx context.Context, c *config.Config, o Options) (_ *App, err error) {
	registry := o.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a := &App{
		config: c, log: o.Log, life: lifecycle{log: o.Log}, replica: replicaName(), inbox: make(chan struct{}, 1), fatal: make(chan error, 1),
		metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.life.stop(context.WithoutCancel(ctx)))
		}
	}()

	traces, err := newTracing(ctx, a.replica, a.log)
	if err != nil {
		return nil, err
	}
	var provider trace.TracerProvider // a nil one is none
	var tracer trace.Tracer
	if traces != nil {
		a.life.onStop("traces", partTimeout, traces.Shutdown)
		provider, tracer = traces, traces.Tracer("changeover")
	}
	a.log.Info("starting", "version", Version(), "replica", a.replica, "configuration", c)
	if a.databaseURL, err = a.database(ctx); err != nil {
		return nil, err
	}
	a.store, err = store.Open(ctx, store.Options{
		URL: a.databaseURL, ListenURL: string(c.Database.ListenURL), History: c.Database.HistoryRetention, Log: a.log, Metrics: store.NewMetrics(registry),
		Traces: provider, Traced: func(c store.TracedCommit) { a.hub.Expect(c) }, Committed: func() { a.hub.Ring() },
	})
	if err != nil {
		return nil, fmt.Errorf("database.url: %w", err)
	}
	a.life.onStop("store", partTimeout, func(context.Context) error { a.store.Close(); return nil })

	regions, err := newRegions(ctx, c, o.Transport, connect.NewMetrics(registry), a.log)
	if err != nil {
		return nil, err
	}
	a.life.onStop("connections to Amazon Connect", partTimeout, func(context.Context) error { regions.close(); return nil })

	a.hub = stream.New(stream.Options{
		Store:     &oneListener{Store: a.store, inbox: a.inbox},
		Heartbeat: c.Stream.Heartbeat, Retry: c.Stream.Retry, WriteTimeout: c.Stream.WriteTimeout, Drain: c.Stream.Drain,
		MaxConnections: c.Stream.MaxConnections, MaxPerAgent: c.Stream.MaxConnectionsPerAgent,
		CCPURL: ccpURLs(c.FailoverGroups), Replica: a.replica, Fresh: a.store.FreshEvents,
		Metrics: stream.NewMetrics(registry), Log: a.log, Tracer: tracer,
	})
	a.orchestrator = orchestrator.New(orchestrator.Options{
		Store: a.store, Holder: a.replica, Settings: settings(c), Groups: groupConfigs(c.FailoverGroups),
		Sources: a.sources(regions, tracer), Health: regions.health, Retention: c.Stream.ReplayRetention, Doorbell: a.inbox,
		Metrics: orchestrator.NewMetrics(registry), Log: a.log,
	})
	hooks, err := webhooks(c)
	if err != nil {
		return nil, err
	}
	a.webhooks = webhook.New(webhook.Options{
		Store: a.store, Hooks: hooks, Holder: a.replica, Changed: a.hub.Changed, Metrics: webhook.NewMetrics(registry), Log: a.log,
	})
	apiOptions := api.Options{
		Store: a.store, Hub: a.hub, Leader: a.leader, Groups: apiGroups(c.FailoverGroups), Settings: settings(c), Webhooks: hooks, Log: a.log,
		MaxPolls: c.Stream.MaxConnections, MaxPollsPerAgent: c.Stream.MaxConnectionsPerAgent,
	}
	if err = a.authenticate(ctx, &apiOptions); err != nil {
		return nil, err
	}
	if c.HTTP.MetricsListen == "" {
		apiOptions.Metrics = a.metrics
	}
	if a.front, err = newFront(c.HTTP, &apiOptions, registry); err != nil {
		return nil, err
	}
	if a.api, err = api.New(apiOptions); err != nil {
		return nil, err
	}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "changeover_long_polls", Help: "Long polls that wait for events on this replica.",
	}, func() float64 { return float64(a.api.Polls()) }))
	return a, nil
}

// database returns the URL of the database, after starting it if it is the embedded one.
func (a *App) database(ctx context.Context) (string, error) {
	if a.config.Database.URL != config.Embedded {
		return string(a.config.Database.URL), nil
	}
	dir := a.config.Database.DataDir
	if dir == "" {
		var err error
		if dir, err = postgres.DefaultDataDir(); err != nil {
			return "", fmt.Errorf("database.dataDir: %w", err)
		}
	}
	server, err := postgres.Start(ctx, postgres.Options{DataDir: dir, Log: a.log})
	if err != nil {
		return "", fmt.Errorf("database.url embedded: %w", err)
	}
	a.life.onStop("embedded PostgreSQL", embeddedTimeout, func(ctx context.Context) error { server.Stop(ctx); return nil })
	return server.URL(postgres.Database), nil
}

// sources are the readers of every failover group.
func (a *App) sources(r *regions, tracer trace.Tracer) []orchestrator.GroupSources {
	var sources []orchestrator.GroupSources
	for _, g := range a.config.FailoverGroups {
		var distributions []tdg.Instance
		var people []agents.Instance
		for _, in := range g.Instances {
			client := r.client(in)
			distributions = append(distributions, tdg.Instance{ID: in.InstanceID, Client: client})
			people = append(people, agents.Instance{ID: in.InstanceID, Client: client})
		}
		sources = append(sources, orchestrator.GroupSources{
			Group: g.Name,
			Distributions: tdg.New(tdg.Options{
				Group: g.Name, Instances: distributions, TDGs: g.TrafficDistributionGroups,
				Interval: a.config.Poll.DistributionInterval, Log: a.log, Tracer: tracer,
				RequestsPerSecond: a.config.Connect.RequestsPerSecond / float64(r.sharers(g)),
			}),
			Agents: agents.New(agents.Options{
				Group: g.Name, Routing: failover.Routing(g.Routing), Instances: people,
				AgentInterval: a.config.Poll.AgentInterval, DrainInterval: a.config.Poll.DrainInterval,
				MembershipInterval: a.config.Poll.MembershipInterval, Log: a.log, Tracer: tracer,
				RequestsPerSecond: a.config.Connect.RequestsPerSecond / float64(r.sharers(g)),
			}),
		})
	}
	return sources
}

// Start listens and begins to work. On an error the App has to be stopped.
func (a *App) Start(ctx context.Context) error {
	var err error
	if a.listener, err = a.listen(ctx, "http.listen", a.config.HTTP.Listen); err != nil {
		return err
	}
	if a.config.HTTP.MetricsListen != "" {
		if a.metricsListener, err = a.listen(ctx, "http.metricsListen", a.config.HTTP.MetricsListen); err != nil {
			return err
		}
	}

	a.life.goFunc("streams", partTimeout, func(ctx context.Context) error {
		if err := a.waitForSchema(ctx); err != nil {
			return err
		}
		return a.hub.Run(ctx)
	})
	a.life.goFunc("leader", leaderTimeout, func(ctx context.Context) error {
		if err := a.waitForHub(ctx); err != nil {
			return err
		}
		a.orchestrator.Run(ctx)
		return nil
	})
	a.life.goFunc("webhooks", partTimeout, func(ctx context.Context) error {
		if err := a.waitForHub(ctx); err != nil {
			return err
		}
		a.webhooks.Run(ctx)
		return nil
	})
	if a.verifier != nil {
		a.life.goFunc("keys of tokens", partTimeout, a.verifier.Run)
	}
	if a.front.certificates != nil {
		a.life.goFunc("TLS certificate", partTimeout, a.front.certificates.Run)
	}
	a.serve("HTTP", a.listener, a.public())
	if a.metricsListener != nil {
		a.serve("HTTP of the metrics", a.metricsListener, a.internal())
	}
	a.life.onStop("open streams", a.config.Stream.Drain+drainGrace, func(ctx context.Context) error {
		a.api.Drain()
		a.hub.Drain(ctx)
		return nil
	})
	a.log.Info("started", "version", Version(), "replica", a.replica, "listen", a.Addr(), "metrics", a.MetricsAddr(), "failover_groups", len(a.config.FailoverGroups))
	return nil
}

// waitForSchema brings the schema up to date, or waits until somebody has, for as long as it takes.
func (a *App) waitForSchema(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := a.schema(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, store.ErrNewSchema) { // only another program mends that
			a.fatal <- err
			return err
		}
		a.log.Error("the database is not ready, trying again", "attempt", attempt, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(migrateAgain):
		}
	}
}

func (a *App) schema(ctx context.Context) error {
	if err := a.store.CheckSchema(ctx); !a.config.Database.Migrate || errors.Is(err, store.ErrNewSchema) {
		return err
	}
	return migrate(ctx, a.config.Database, a.databaseURL, a.log)
}

func migrate(ctx context.Context, c config.Database, databaseURL string, log *slog.Logger) error {
	owner := databaseURL
	if c.MigrateURL != "" {
		owner = string(c.MigrateURL)
	}
	if err := store.Migrate(ctx, owner, log); err != nil {
		return err
	}
	if err := store.SetAuditRetention(ctx, owner, c.AuditRetention); err != nil {
		return err
	}
	if c.MigrateURL == "" {
		return nil
	}
	role, err := store.Role(databaseURL)
	if err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	return store.GrantService(ctx, owner, role)
}

// waitForHub returns when the log has been read for the first time: the schema is there then.
func (a *App) waitForHub(ctx context.Context) error {
	for {
		changed := a.hub.Changed() // before Ready is asked, so that nothing happens unheard in between
		if a.hub.Ready() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Addr is the address of the API, with the port that was bound; empty before Start.
func (a *App) Addr() string { return address(a.listener) }

// MetricsAddr is the address of the metrics where they have their own; else empty.
func (a *App) MetricsAddr() string { return address(a.metricsListener) }

func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// troubleAge is for how long /readyz tells of what kept the leader from deciding.
const troubleAge = 10 * time.Second

// leader is how this replica leads, for /readyz. It shows what a database that answers and cannot be written to does not.
func (a *App) leader() contract.Check {
	status := a.orchestrator.Status()
	check := contract.Check{Name: "leader", State: contract.HealthStateUnknown}
	switch trouble := status.LastError != "" && time.Since(status.LastErrorAt) < troubleAge; {
	case trouble:
		check.State, check.Since, check.LastError = contract.HealthStateDown, &status.LastErrorAt, &notDeciding
	case status.Deciding:
		check.State, check.Since = contract.HealthStateHealthy, &status.Since
	}
	return check
}

var notDeciding = "the database does not let this replica decide; see its log"

// Stop ends everything, last started first, and returns when all is gone. ctx shortens what it waits for; the streams are
// then closed faster. It may be called at any time, and again.
func (a *App) Stop(ctx context.Context) error { return a.life.stop(ctx) }

// replicaName names this process in the lease and in the registry of streams: where it runs, and which of its lives it is.
func replicaName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "-" + strings.ToLower(rand.Text()[:8])
}

// oneListener lets the hub's listening connection hear the inbox's doorbell too, so that a replica needs only one.
type oneListener struct {
	*store.Store
	inbox chan<- struct{}
}

// Listen adds the inbox to the channels.
func (l *oneListener) Listen(ctx context.Context, channels []string, wake func(channel string)) error {
	return l.Store.Listen(ctx, append(channels, store.ChannelInbox), func(channel string) {
		if channel != store.ChannelInbox {
			wake(channel)
			return
		}
		select {
		case l.inbox <- struct{}{}:
		default: // it has not been answered yet; one ring is enough
		}
	})
}

// Run starts the service, runs it until ctx ends, and stops it.
func Run(ctx context.Context, c *config.Config, o Options) error {
	a, err := New(ctx, c, o)
	if err != nil {
		return err
	}
	if err = a.Start(ctx); err == nil {
		select {
		case <-ctx.Done():
		case err = <-a.fatal:
		}
		o.Log.Info("stopping")
	}
	return errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
}
