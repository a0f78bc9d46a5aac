package console_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/api/auth/dextest"
	"changeover/internal/app"
	"changeover/internal/browsertest"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// patience is for one scenario; on an idle machine the longest takes a sixth of it.
const patience = 3 * time.Minute

// TestBrowser drives the console in Chromium, against the real service, the simulator and PostgreSQL. What happens is in
// test/scenarios.mjs, which gets a stack of its own for each scenario, and leaves screenshots in .cache/console.
func TestBrowser(t *testing.T) {
	browsertest.Wanted(t)
	browser := browsertest.Chromium(t)
	browsertest.Packages(t, "../..")
	for name, o := range map[string]options{
		"shift":      {agents: 2000},
		"operations": {agents: 40, webhooks: true},
		"signin":     {agents: 3, dex: true},
		"trouble":    {agents: 20},
		"away":       {agents: 20},
		"still":      {agents: 100, webhooks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, browser, name, o, patience)
		})
	}
}

// TestFleet has the console show CONSOLE_AGENTS agents and a shift of them: make test/console.
func TestFleet(t *testing.T) {
	agents, err := strconv.Atoi(cmp.Or(os.Getenv("CONSOLE_AGENTS"), "0"))
	require.NoError(t, err, "CONSOLE_AGENTS")
	if agents == 0 {
		t.Skip("CONSOLE_AGENTS is not set")
	}
	browser := browsertest.Chromium(t)
	browsertest.Packages(t, "../..")
	play(t, browser, "fleet", options{agents: agents}, 5*patience)
}

func play(t *testing.T, browser, name string, o options, patience time.Duration) {
	s := newStack(t, o)
	out, err := browsertest.Play(t, patience, browser, s.describe(), "test/run.mjs", name)
	if err != nil {
		t.Errorf("%v\n%s\nlog of the service:\n%s", err, out, s.log.String())
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// options of a stack.
type options struct {
	agents   int
	dex      bool // people sign in; else every caller is admin
	webhooks bool // to a receiver that the scenario can break
}

// host is where browsers find the service that has people sign in; run.mjs has Chromium connect to its address.
const host = "changeover.example.com"

// stack is the service and everything around it.
type stack struct {
	t      *testing.T
	sim    *connectsim.Sim
	config *config.Config
	urls   map[string]string
	people []dextest.User
	answer atomic.Int64 // of the receiver of webhooks: a status
	mu     sync.Mutex
	app    *app.App
	log    logtest.Buffer // of the service
}

func newStack(t *testing.T, o options) *stack {
	s := &stack{t: t, urls: map[string]string{}}
	s.sim = connectsim.New(connectsim.Config{Agents: o.agents, MoveDelay: -1}) // nobody does anything by themselves, and moves at once
	s.serve("sim", s.sim.Handler())
	s.config = s.configuration()
	if o.webhooks {
		s.answer.Store(http.StatusNoContent)
		url := s.serve("receiver", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(s.answer.Load())) }))
		s.config.Webhooks = []config.Webhook{{
			Name: "pager", URL: config.Secret(url), SigningKey: config.Secret(logtest.Secret("a key for the tests of the console")), Events: []string{"failoverDetected", "failoverCompleted"},
		}}
	}
	if o.dex {
		s.signIn()
	}
	require.NoError(t, s.start())
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	s.urls["console"] = "http://" + s.config.HTTP.Listen
	if o.dex {
		s.urls["console"] = "https://" + host
	}
	s.serve("control", s.control())
	return s
}

// serve runs a server until the test ends.
func (s *stack) serve(name string, h http.Handler) string {
	server := httptest.NewServer(h)
	s.t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.urls[name] = server.URL
	return server.URL
}

func (s *stack) configuration() *config.Config {
	c := servertest.Config(s.sim, s.urls["sim"], postgrestest.NewDatabase(s.t))
	c.Connect.RequestTimeout = 5 * time.Second
	c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 300*time.Millisecond, 2*time.Second, 300*time.Millisecond
	c.Stream.Heartbeat, c.Stream.Retry = time.Second, 500*time.Millisecond
	return c
}

// signIn has a real identity provider, with one person for each role, and TLS, as the session's cookie wants it.
func (s *stack) signIn() {
	redirect := "https://" + host + "/console/auth/callback"
	secret := logtest.Secret("the-console's-secret-at-dex")
	for _, role := range []string{"viewer", "operator", "admin"} {
		address := role + "@acme.example"
		s.people = append(s.people, dextest.User{
			ID: "u-" + role, Email: address, Password: logtest.Secret(role + "'s password"), PreferredUsername: address, Groups: []string{"changeover-" + role},
		})
	}
	dex := dextest.Start(s.t, dextest.Config{
		Clients: []dextest.Client{{ID: "changeover", TrustedPeers: []string{"console"}}, {ID: "console", Secret: secret, RedirectURIs: []string{redirect}}},
		Users:   s.people, TokenLife: time.Hour,
	})
	s.config.Auth = config.Auth{
		Mode: config.AuthJWT, Issuer: dex.Issuer(), Audience: "changeover", AgentClaim: "preferred_username", RolesClaim: "groups", SameSite: "strict",
		Login: config.Login{
			ClientID: "console", ClientSecret: config.Secret(secret), RedirectURL: redirect,
			Scopes: []string{"profile", "email", "groups", "audience:server:client_id:changeover"},
		},
	}
	s.config.HTTP.TLSCert, s.config.HTTP.TLSKey = certificate(s.t)
}

// certificate writes a certificate of host and its key into files.
func certificate(t *testing.T) (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key
}

// start the service, at the same address if it ran before.
func (s *stack) start() error {
	c := *s.config
	a, err := app.New(s.t.Context(), &c, app.Options{Log: logtest.New(&s.log)})
	if err != nil {
		return err
	}
	if err := a.Start(s.t.Context()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.app, s.config.HTTP.Listen = a, a.Addr()
	return nil
}

func (s *stack) stop() error {
	s.mu.Lock()
	a := s.app
	s.app = nil
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return a.Stop(ctx)
}

// describe is the stack as test/run.mjs gets it.
func (s *stack) describe() string {
	var agents []map[string]string
	for _, a := range s.sim.Agents() {
		agents = append(agents, map[string]string{"id": a.ID, "username": a.Username})
	}
	people := map[string]map[string]string{}
	for _, p := range s.people {
		people[p.Groups[0][len("changeover-"):]] = map[string]string{"email": p.Email, "password": p.Password}
	}
	shots, err := filepath.Abs("../../.cache/console")
	require.NoError(s.t, err)
	require.NoError(s.t, os.MkdirAll(shots, 0o755))
	file := filepath.Join(s.t.TempDir(), "stack.json")
	b, err := json.Marshal(map[string]any{
		"console": s.urls["console"], "address": s.config.HTTP.Listen, "host": host, "sim": s.urls["sim"], "control": s.urls["control"],
		"regions": s.sim.Regions(), "agents": agents, "size": len(s.sim.Agents()), "people": people, "shots": shots,
	})
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(file, b, 0o600))
	return file
}

// control lets a scenario stop and start the service, break the receiver of webhooks, and have a day pass for what that did not take.
func (s *stack) control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	handle("POST /stop", func(*http.Request) error { return s.stop() })
	handle("POST /start", func(*http.Request) error { return s.start() })
	handle("POST /receiver/{status}", func(r *http.Request) error {
		status, err := strconv.Atoi(r.PathValue("status"))
		s.answer.Store(int64(status))
		return err
	})
	handle("POST /a-day-passes", func(r *http.Request) error {
		db, err := pgx.Connect(r.Context(), string(s.config.Database.URL))
		if err != nil {
			return err
		}
		defer db.Close(context.WithoutCancel(r.Context()))
		_, err = db.Exec(r.Context(), "UPDATE webhook_deliveries SET give_up_at = clock_timestamp(), next_at = clock_timestamp() WHERE status = 'pending'")
		return err
	})
	return mux
}
