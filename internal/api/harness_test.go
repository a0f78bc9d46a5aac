package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/apitest"
	"changeover/internal/api/auth"
	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
	"changeover/internal/stream"
	"changeover/internal/webhook"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

const (
	east  = "us-east-1"
	west  = "us-west-2"
	tdgID = "0aaaaaaa-0000-0000-0000-000000000001"
	arn   = "arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/" + tdgID
	jane  = "87654321-1111-2222-3333-000000000001" // on a call
	joe   = "87654321-1111-2222-3333-000000000002" // idle
	call  = "4f3e2d1c-0000-4000-8000-000000000001" // jane's
	task  = "4f3e2d1c-0000-4000-8000-000000000002" // jane's too; never holds
)

var groups = []api.Group{
	{Name: "main", Routing: failover.Regional, Instances: []api.Instance{
		{Region: east, InstanceID: "12345678-1234-1234-1234-123456789012", CCPURL: "https://a.my.connect.aws/ccp-v2/"},
		{Region: west, InstanceID: "12345678-1234-1234-1234-123456789012", CCPURL: "https://b.my.connect.aws/ccp-v2/"},
	}},
	{Name: "spare", Routing: failover.Global, Instances: []api.Instance{
		{Region: "eu-west-2", InstanceID: "22345678-1234-1234-1234-123456789012"},
		{Region: "eu-central-1", InstanceID: "22345678-1234-1234-1234-123456789012"},
	}},
}

var hooks = []webhook.Hook{{Name: "pager", URL: "https://pager.example/hooks/token", Events: []string{"failoverDetected"}}}

func configured() (list []failover.GroupConfig) {
	for _, g := range groups {
		c := failover.GroupConfig{Name: g.Name, Routing: g.Routing}
		for _, i := range g.Instances {
			c.Instances = append(c.Instances, failover.Instance{Region: i.Region, CCPURL: i.CCPURL})
		}
		list = append(list, c)
	}
	return list
}

// service is the API on real parts: PostgreSQL behind a proxy that can be cut, the store, a running hub, HTTP. Each response
// is held against the document. Only the leader is a small one of the tests, so that each observation is theirs.
type service struct {
	t      testing.TB
	db     *dbProxy
	store  *store.Store // through the proxy
	hub    *stream.Hub
	server *api.Server
	url    string
	client *http.Client
	leader *leader
	logs   *logtest.Buffer
}

func newService(t testing.TB, change ...func(*api.Options)) *service {
	t.Helper()
	s := startService(t, func(*dbProxy) {}, change...)
	require.Eventually(t, s.hub.Ready, 10*time.Second, 5*time.Millisecond, "the hub loads the log")
	return s
}

// startService does not wait for the hub; before is called while nothing runs yet.
func startService(t testing.TB, before func(*dbProxy), change ...func(*api.Options)) *service {
	t.Helper()
	s := &service{t: t, logs: &logtest.Buffer{}}
	direct := postgrestest.NewDatabase(t)
	s.db = newDBProxy(t, direct)
	log := logtest.New(s.logs)
	var err error
	s.store, err = store.Open(t.Context(), store.Options{URL: s.db.url, Log: log})
	require.NoError(t, err)
	s.leader = newLeader(t, direct)
	before(s.db)
	s.hub = stream.New(stream.Options{
		Store: s.store, Heartbeat: 15 * time.Second, Retry: 3 * time.Second, MaxConnections: 1000, MaxPerAgent: 8,
		WriteTimeout: 5 * time.Second, Drain: time.Second, Replica: "replica-1", Log: log,
	})
	o := api.Options{Store: s.store, Hub: s.hub, Auth: auth.None{}, Groups: groups, Webhooks: hooks, Log: log}
	for _, c := range change {
		c(&o)
	}
	s.server, err = api.New(o)
	require.NoError(t, err)
	http1 := httptest.NewServer(s.server)
	s.url = http1.URL
	base := http1.Client().Transport.(*http.Transport)
	s.client = &http.Client{Transport: apitest.NewTransport(t, base)}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.hub.Run(ctx) }()
	t.Cleanup(func() {
		base.CloseIdleConnections()
		cancel()
		http1.Close()
		require.NoError(t, <-done)
		s.store.Close()
		s.db.close()
	})
	return s
}

// caughtUp waits until the replica has read what is committed.
func (s *service) caughtUp() {
	s.t.Helper()
	head, err := s.leader.store.LogState(s.t.Context())
	require.NoError(s.t, err)
	require.Eventually(s.t, func() bool {
		items, _, err := s.hub.History(s.t.Context(), stream.HistoryQuery{All: true, Limit: 1000})
		return err == nil && int64(len(items)) == head.Head.Seq
	}, 10*time.Second, time.Millisecond)
}

// leader decides as the orchestrator does, one observation at a time.
type leader struct {
	t     testing.TB
	store *store.Store
	lease store.Lease
	mu    sync.Mutex
	state *failover.State
	now   time.Time
}

func newLeader(t testing.TB, url string) *leader {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{URL: url})
	require.NoError(t, err)
	t.Cleanup(st.Close)
	lease, ok, err := st.AcquireLease(t.Context(), "test", time.Hour)
	require.NoError(t, err)
	require.True(t, ok)
	l := &leader{t: t, store: st, lease: lease, now: time.Now().UTC().Truncate(time.Microsecond)}
	newID := func(time.Time) string { return uuid.Must(uuid.NewV7()).String() }
	l.state = failover.New(failover.Settings{
		Confirmations: 1, ConflictAfter: time.Minute, RegionDownAfter: 30 * time.Second, ContactsMaxAge: time.Minute, MaxUnknown: 15 * time.Minute,
		ConfigureErrorAfter: time.Minute, ConfirmWithin: 5 * time.Minute, DrainInterval: 5 * time.Second,
	}, configured(), failover.Snapshot{}, newID)
	l.step(failover.Started{})
	return l
}

// step feeds observations, each a second after the last, and commits what follows.
func (l *leader) step(observations ...failover.Observation) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range observations {
		l.now = l.now.Add(time.Second)
		_, err := l.store.Commit(context.Background(), l.lease.Epoch, l.state.Step(o, l.now))
		require.NoError(l.t, err)
	}
}

func distribution(eastPercent int) failover.Distribution {
	return failover.Distribution{{Region: east, Percent: eastPercent}, {Region: west, Percent: 100 - eastPercent}}
}

func (l *leader) distribute(eastPercent int) {
	d, on := distribution(eastPercent), failover.Distribution{{Region: east, Percent: 1}, {Region: west, Percent: 1}}
	l.step(failover.DistributionRound{Group: "main", TDG: tdgID, TickAt: l.now, Answers: []failover.RegionAnswer{
		{Region: east, Telephony: d, Agents: d, SignIn: on}, {Region: west, Telephony: d, Agents: d, SignIn: on},
	}})
}

// floor makes two agents who work in us-east-1: jane with a call and a task, joe with nothing.
func (l *leader) floor() {
	l.step(failover.TDGsListed{Group: "main", At: l.now, TDGs: []failover.TDGInfo{{ID: tdgID, ARN: arn, Name: "default", Status: "ACTIVE", IsDefault: true}}})
	l.distribute(100)
	l.step(
		failover.UsersListed{Group: "main", Region: east, Users: []failover.User{{ID: jane, Username: "jane.doe"}, {ID: joe, Username: "joe.bloggs"}}},
		failover.RosterPage{Group: "main", TDG: tdgID, Pass: 1, Last: true, UserIDs: []string{jane, joe}},
	)
	l.contacts(l.onCall(), failover.Contact{ID: task, Channel: "TASK", State: "CONNECTED", StateSince: l.now})
}

func (l *leader) onCall() failover.Contact {
	return failover.Contact{ID: call, Channel: "VOICE", State: "CONNECTED", StateSince: l.now, Began: l.now}
}

// contacts reads jane and joe in us-east-1: jane has these.
func (l *leader) contacts(of ...failover.Contact) {
	l.step(failover.UserData{Group: "main", Region: east, StartedAt: l.now.Add(500 * time.Millisecond), Users: []failover.UserRecord{
		{ID: jane, RoutingProfile: "rp", Contacts: of}, {ID: joe, RoutingProfile: "rp"},
	}})
}

// shift sends the floor to us-west-2: jane's failover becomes pending, joe's is completed.
func (l *leader) shift() {
	l.distribute(0)
	l.contacts(l.onCall())
}

// answer works the inbox off until the test ends.
func (l *leader) answer() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	bell := make(chan struct{}, 1)
	wg.Go(func() {
		_ = l.store.Listen(ctx, []string{store.ChannelInbox}, func(string) {
			select {
			case bell <- struct{}{}:
			default:
			}
		})
	})
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-bell:
				l.answerOnce(ctx)
			}
		}
	})
	l.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (l *leader) answerOnce(ctx context.Context) (n int) {
	commands, err := l.store.PendingCommands(ctx, 0, 1000)
	if err != nil {
		return 0
	}
	for _, c := range commands {
		var o failover.Observation
		switch c.Kind {
		case store.CommandReport:
			var v failover.Report
			err = json.Unmarshal(c.Payload, &v)
			v.CommandID = c.ID
			o = v
		case store.CommandForce:
			var v failover.Force
			err = json.Unmarshal(c.Payload, &v)
			v.CommandID = c.ID
			o = v
		case store.CommandBulkForce, store.CommandForceSelected, store.CommandForceNarrow:
			var v failover.BulkForce
			err = json.Unmarshal(c.Payload, &v)
			v.CommandID = c.ID
			o = v
		case store.CommandPause:
			var v failover.PauseGroup
			err = json.Unmarshal(c.Payload, &v)
			v.CommandID, v.By = c.ID, c.By
			o = v
		case store.CommandDrill:
			var v failover.StartDrill
			err = json.Unmarshal(c.Payload, &v)
			v.CommandID, v.By = c.ID, c.By
			o = v
		case store.CommandResume:
			var v failover.ResumeGroup
			err = json.Unmarshal(c.Payload, &v)
			v.CommandID = c.ID
			o = v
		default:
			err = fmt.Errorf("unknown kind %q", c.Kind)
		}
		if err != nil {
			l.t.Errorf("command %d: %v", c.ID, err)
			continue
		}
		l.step(o)
	}
	return len(commands)
}

// agent returns what the leader knows of an agent, as far as it does not go on deciding about it.
func (l *leader) agent(id string) failover.Agent {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.state.Agent(id)
	require.NotNil(l.t, a)
	copied := *a
	if a.Failover != nil {
		f := *a.Failover
		copied.Failover = &f
	}
	return copied
}

// openFailover returns the id of the agent's open failover.
func (l *leader) openFailover(id string) string {
	l.t.Helper()
	f := l.agent(id).Failover
	require.NotNil(l.t, f, "agent %s has no open failover", id)
	return f.ID
}

// answer is a response with its body.
type answer struct {
	status int
	header http.Header
	body   string
}

// request sends a request; headers are pairs. A body that is not a string is sent as JSON.
func (s *service) request(method, path string, body any, headers ...string) answer {
	s.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		require.NoError(s.t, err)
		reader = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, reader)
	require.NoError(s.t, err)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
		if headers[i] == "Content-Type" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := s.client.Do(r)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (s *service) get(path string, headers ...string) answer {
	s.t.Helper()
	return s.request(http.MethodGet, path, nil, headers...)
}

func (s *service) post(path string, body any, headers ...string) answer {
	s.t.Helper()
	return s.request(http.MethodPost, path, body, headers...)
}

// read decodes a successful answer.
func read[T any](t testing.TB, a answer, status int) (v T) {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	require.NoError(t, json.Unmarshal([]byte(a.body), &v))
	return v
}

// dbProxy stands between the program and PostgreSQL and can be cut, as a failed network or server does it.
type dbProxy struct {
	t        testing.TB
	url      string
	target   string
	path     string
	mu       sync.Mutex
	listener net.Listener // nil while cut
	silent   bool         // connections are accepted, and nobody answers
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

func newDBProxy(t testing.TB, direct string) *dbProxy {
	t.Helper()
	config, err := pgconn.ParseConfig(direct)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "pgproxy") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	socket := fmt.Sprintf(".s.PGSQL.%d", config.Port)
	p := &dbProxy{t: t, target: filepath.Join(config.Host, socket), path: filepath.Join(dir, socket), conns: make(map[net.Conn]struct{})}
	u, err := url.Parse(direct)
	require.NoError(t, err)
	q := u.Query()
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	p.url = u.String()
	t.Cleanup(func() { os.RemoveAll(dir) })
	p.mend()
	return p
}

// mend lets connections through.
func (p *dbProxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return
	}
	var err error
	p.listener, err = net.Listen("unix", p.path)
	require.NoError(p.t, err)
	listener := p.listener
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			if p.silent {
				p.conns[client] = struct{}{}
				p.mu.Unlock()
				continue
			}
			p.mu.Unlock()
			server, err := net.Dial("unix", p.target)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			if p.listener != listener {
				client.Close()
				server.Close()
			} else {
				p.conns[client], p.conns[server] = struct{}{}, struct{}{}
			}
			p.mu.Unlock()
			p.wg.Go(func() { pipe(client, server) })
			p.wg.Go(func() { pipe(server, client) })
		}
	})
}

func pipe(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	from.Close()
	to.Close()
}

// cut breaks all connections and refuses new ones.
func (p *dbProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return
	}
	p.listener.Close()
	p.listener = nil
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// hang breaks all connections; new ones are accepted and get no answer until the proxy is cut.
func (p *dbProxy) hang() {
	p.cut()
	p.mu.Lock()
	p.silent = true
	p.mu.Unlock()
	p.mend()
}

func (p *dbProxy) close() {
	p.cut()
	p.wg.Wait()
}

// as is an authenticator of the tests: who calls is in a header, as roles with + between them, and the agent after a colon.
type as struct{}

func (as) Authenticate(r *http.Request) (auth.Identity, error) {
	who := r.Header.Get("X-Test-As")
	if who == "" {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	roles, agent, _ := strings.Cut(who, ":")
	id := auth.Identity{Subject: who, AgentID: agent, Expires: time.Now().Add(time.Hour)}
	if roles != "nobody" {
		for role := range strings.SplitSeq(roles, "+") {
			id.Roles = append(id.Roles, auth.Role(role))
		}
	}
	return id, nil
}

func withRoles(o *api.Options) { o.Auth = as{} }
