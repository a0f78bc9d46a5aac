package desktop_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/app"
	"changeover/internal/browsertest"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
	"changeover/web/desktop"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// patience is for one scenario; the longest takes a third of it on an idle machine.
const patience = 3 * time.Minute

// TestBrowser drives the desktop in Chromium, against the real service, the simulator with its Contact Control Panels, and PostgreSQL. What
// happens is in test/scenarios.mjs, which gets a stack of its own for each scenario, and leaves screenshots in .cache/desktop.
func TestBrowser(t *testing.T) {
	browsertest.Wanted(t)
	browser := browsertest.Chromium(t)
	browsertest.Packages(t, "../..")
	buildClient(t)
	for name, o := range map[string]options{
		"story":    {},
		"cancel":   {},
		"force":    {},
		"reload":   {},
		"restart":  {},
		"tabs":     {},
		"takeover": {replicas: 2, proxies: true, heartbeat: 2 * time.Second},
		"polling":  {blockStreams: true},
		"setup":    {},
		"late":     {},
		"pause":    {},
		"lag":      {lag: 20 * time.Second},
		"disagree": {lag: 24 * time.Hour, confirmWithin: 2 * time.Second},
		"single":   {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, o)
			out, err := browsertest.Play(t, patience, browser, s.describe(t), "test/run.mjs", name)
			if err != nil {
				t.Errorf("%v\n%s\nlog of the service:\n%s", err, out, s.log.String())
			}
		})
	}
}

// buildClient builds the TypeScript client, which two scenarios use as it is published, if `make client` has not.
func buildClient(t *testing.T) {
	if _, err := os.Stat("../../clients/typescript/dist/esm/index.js"); err == nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "../../scripts/npm-ci && npm run --silent build")
	cmd.Dir = "../../clients/typescript"
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// options of a stack.
type options struct {
	replicas     int           // default: 1
	proxies      bool          // stand between desktop and replicas, and can fall silent
	blockStreams bool          // the desktop's network has a proxy that holds streams back until they end
	lag          time.Duration // until a shift reaches a panel, at most; Amazon's takes up to five minutes. Default: 500 ms
	// confirmWithin is the service's failover.confirmWithin. Default: its own
	confirmWithin time.Duration
	// heartbeat is after how long nothing the service says something: a desktop gives a stream up after twice as long. Default: longer than a
	// browser with eight tabs does nothing on a busy machine
	heartbeat time.Duration
}

// stack is everything that a desktop meets.
type stack struct {
	t        *testing.T
	sim      *connectsim.Sim
	config   *config.Config
	urls     map[string]string
	panels   []desktop.CCP
	proxies  []*postgrestest.Proxy
	entries  []string // what the desktop has as endpoints
	mu       sync.Mutex
	replicas []*app.App
	listen   []string       // addresses of the replicas, the same after a restart
	log      logtest.Buffer // of the replicas
}

func newStack(t *testing.T, o options) *stack {
	s := &stack{t: t, urls: map[string]string{}}
	if o.lag == 0 {
		o.lag = 500 * time.Millisecond
	}
	s.sim = connectsim.New(connectsim.Config{Agents: 3, MoveDelay: o.lag}) // nobody does anything by themselves
	serve := func(name string, h http.Handler) string {
		server := httptest.NewServer(h)
		t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
		s.urls[name] = server.URL
		return server.URL
	}
	serve("sim", s.sim.Handler())
	for _, region := range s.sim.Regions() {
		h, err := s.sim.CCP(region)
		require.NoError(t, err)
		s.panels = append(s.panels, desktop.CCP{Region: region, URL: serve("ccp "+region, h) + "/ccp-v2/"})
	}
	page := httptest.NewUnstartedServer(nil)
	t.Cleanup(func() { page.CloseClientConnections(); page.Close() })
	s.urls["desktop"] = "http://" + page.Listener.Addr().String()

	s.config = s.configuration()
	s.config.Stream.Heartbeat = cmp.Or(o.heartbeat, 5*time.Second)
	if o.confirmWithin != 0 {
		s.config.Failover.ConfirmWithin = o.confirmWithin
	}
	for i := range max(1, o.replicas) {
		s.replicas, s.listen = append(s.replicas, nil), append(s.listen, "127.0.0.1:0")
		require.NoError(t, s.start(i))
	}
	t.Cleanup(func() {
		for i := range s.replicas {
			if err := s.stop(i); err != nil {
				t.Error(err)
			}
		}
	})
	for _, address := range s.listen {
		entry := "http://" + address
		if o.proxies {
			proxy := postgrestest.NewProxy(t, "postgres://"+address+"/") // it forwards whatever comes
			s.proxies = append(s.proxies, proxy)
			entry = "http://" + proxy.Addr()
		}
		if o.blockStreams {
			entry = serve("proxy", holdStreamsBack(t, entry))
		}
		s.entries = append(s.entries, entry)
	}
	serve("control", s.control())

	h, err := desktop.Handler(desktop.Settings{
		Endpoints: s.entries, Heartbeat: s.config.Stream.Heartbeat.Milliseconds(), CCPs: s.panels, LoginURL: s.urls["sim"],
	})
	require.NoError(t, err)
	page.Config.Handler = h
	page.Start()
	return s
}

func (s *stack) configuration() *config.Config {
	c := servertest.Config(s.sim, s.urls["sim"], postgrestest.NewDatabase(s.t))
	c.CORS.AllowedOrigins = []string{s.urls["desktop"]}
	c.Stream.Retry = 500 * time.Millisecond
	for i, panel := range s.panels { // in the order of the Regions
		c.FailoverGroups[0].Instances[i].CCPURL = panel.URL
	}
	return c
}

func (s *stack) start(i int) error {
	c := *s.config
	c.HTTP.Listen = s.listen[i]
	a, err := app.New(s.t.Context(), &c, app.Options{Log: logtest.New(&s.log)})
	if err != nil {
		return err
	}
	if err := a.Start(s.t.Context()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas[i], s.listen[i] = a, a.Addr()
	return nil
}

func (s *stack) stop(i int) error {
	s.mu.Lock()
	a := s.replicas[i]
	s.replicas[i] = nil
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return a.Stop(ctx)
}

// describe is the stack as test/run.mjs gets it.
func (s *stack) describe(t *testing.T) string {
	var agents []map[string]string
	for _, a := range s.sim.Agents() {
		agents = append(agents, map[string]string{"id": a.ID, "username": a.Username})
	}
	shots, err := filepath.Abs("../../.cache/desktop")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(shots, 0o755))
	b, err := json.Marshal(map[string]any{
		"desktop": s.urls["desktop"], "sim": s.urls["sim"], "control": s.urls["control"], "panels": s.panels, "entries": s.entries,
		"replicas": s.listen, "agents": agents, "shots": shots,
	})
	require.NoError(t, err)
	return string(b)
}

// control lets a scenario stop and start replicas, and silence the ways to them: POST /{what}/{replica}.
func (s *stack) control() http.Handler {
	mux := http.NewServeMux()
	handle := func(what string, do func(i int) error) {
		mux.HandleFunc("POST /"+what+"/{replica}", func(w http.ResponseWriter, r *http.Request) {
			i, err := strconv.Atoi(r.PathValue("replica"))
			if err == nil && i >= len(s.replicas) {
				err = errors.New("there is no such replica")
			}
			if err == nil {
				err = do(i)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	handle("stop", s.stop)
	handle("start", s.start)
	handle("silence", func(i int) error { s.proxies[i].Silence(); return nil })
	handle("restore", func(i int) error { s.proxies[i].Restore(); return nil })
	mux.HandleFunc("POST /idle", func(w http.ResponseWriter, r *http.Request) {
		if err := s.idle(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

// idle makes an hour pass in which no desktop reports: what the leader remembers of them is an hour older, and so are the streams that stay open
// meanwhile. It loads that in a new term.
func (s *stack) idle(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, string(s.config.Database.URL))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`UPDATE leases SET epoch = epoch + 1, expires_at = '-infinity'`,
			`UPDATE connections SET since = since - interval '1 h'`,
			`UPDATE agents SET memory = jsonb_set(memory, '{desktop}', memory->'desktop' || jsonb_build_object(
				'at', (memory->'desktop'->>'at')::timestamptz - interval '1 h', 'activeAt', (memory->'desktop'->>'activeAt')::timestamptz - interval '1 h'))
			 WHERE memory->'desktop'->>'active' <> ''`,
		} {
			if tag, err := tx.Exec(ctx, sql); err != nil || tag.RowsAffected() == 0 {
				return fmt.Errorf("%s: %d rows: %w", sql, tag.RowsAffected(), err)
			}
		}
		return nil
	})
	for leading := false; err == nil && !leading; {
		err = conn.QueryRow(ctx, `SELECT expires_at > clock_timestamp() FROM leases, pg_sleep(0.05)`).Scan(&leading)
	}
	return err
}

// holdStreamsBack is a proxy as some offices have it: it hands an answer on when it is complete, which a stream never is.
func holdStreamsBack(t *testing.T, to string) http.Handler {
	target, err := url.Parse(to)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport = transport
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of clients that have gone
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			<-r.Context().Done()
			return
		}
		r.Host = target.Host
		proxy.ServeHTTP(w, r)
	})
}
