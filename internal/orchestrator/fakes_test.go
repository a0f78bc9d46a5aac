package orchestrator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"changeover/internal/agents"
	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/store"
)

const (
	east  = "us-east-1"
	west  = "us-west-2"
	group = "main"
	tdgID = "0aaaaaaa-0000-0000-0000-000000000001"
)

var errAway = errors.New("the database is away")

// memory is a database in memory with the store's promises: terms of the lease, fenced commits, a state that is loaded as it
// was committed.
type memory struct {
	mu      sync.Mutex
	holder  string
	epoch   int64
	expires time.Time

	agents  map[string][]byte
	tdgs    map[string][]byte
	groups  map[string][]byte
	commits []failover.Effects
	results map[int64]failover.Result
	inbox   []store.Command
	stream  map[string]time.Time
	health  int
	loads   int

	ahead       time.Duration                         // its clock, of that of the replicas
	away        bool                                  // every call fails
	before      func(operation string)                // may block
	failCommit  func(n int, e failover.Effects) error // instead of the nth commit
	afterCommit func(n int, e failover.Effects) error // the commit is done, its answer lost
	polled      int
}

func newMemory() *memory {
	return &memory{
		agents: map[string][]byte{}, tdgs: map[string][]byte{}, groups: map[string][]byte{}, results: map[int64]failover.Result{},
		stream: map[string]time.Time{},
	}
}

func (m *memory) enter(ctx context.Context, operation string) error {
	m.mu.Lock()
	before, away := m.before, m.away
	m.mu.Unlock()
	if before != nil {
		before(operation)
	}
	if away {
		return errAway
	}
	return ctx.Err()
}

func (m *memory) AcquireLease(ctx context.Context, holder string, ttl time.Duration) (store.Lease, bool, error) {
	if err := m.enter(ctx, "acquire"); err != nil {
		return store.Lease{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Now().Before(m.expires) {
		return store.Lease{}, false, nil
	}
	m.holder, m.epoch, m.expires = holder, max(m.epoch+1, time.Now().UnixMilli()), time.Now().Add(ttl)
	return store.Lease{Epoch: m.epoch, TrustedUntil: time.Now().Add(ttl - ttl/10)}, true, nil
}

func (m *memory) Clock(ctx context.Context) (time.Time, error) {
	if err := m.enter(ctx, "clock"); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(m.ahead).UTC().Round(0), nil
}

func (m *memory) RenewLease(ctx context.Context, lease store.Lease, _ string, ttl time.Duration) (store.Lease, bool, error) {
	started := time.Now()
	if err := m.enter(ctx, "renew"); err != nil {
		return lease, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if lease.Epoch != m.epoch {
		return lease, false, nil
	}
	m.expires = time.Now().Add(ttl)
	return store.Lease{Epoch: lease.Epoch, TrustedUntil: started.Add(ttl - ttl/10)}, true, nil
}

func (m *memory) ReleaseLease(ctx context.Context, lease store.Lease, _ string) error {
	if err := m.enter(ctx, "release"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if lease.Epoch == m.epoch {
		m.expires = time.Time{}
	}
	return nil
}

func (m *memory) Load(ctx context.Context) (failover.Snapshot, error) {
	if err := m.enter(ctx, "load"); err != nil {
		return failover.Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	return failover.Snapshot{
		Agents: decoded[failover.Agent](m.agents), TDGs: decoded[failover.TDG](m.tdgs), Groups: decoded[failover.Group](m.groups),
	}, nil
}

func decoded[T any](rows map[string][]byte) (list []*T) {
	for _, row := range rows {
		v := new(T)
		if err := json.Unmarshal(row, v); err != nil {
			panic(err)
		}
		list = append(list, v)
	}
	return list
}

func encoded(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (m *memory) Commit(ctx context.Context, epoch int64, e failover.Effects) (store.Committed, error) {
	if err := m.enter(ctx, "commit"); err != nil {
		return store.Committed{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.commits)
	if epoch != m.epoch {
		return store.Committed{}, store.ErrFenced
	}
	if m.failCommit != nil {
		if err := m.failCommit(n, e); err != nil {
			return store.Committed{}, err
		}
	}
	for _, a := range e.Agents {
		m.agents[a.ID] = encoded(a)
	}
	for _, id := range e.RemovedAgents {
		delete(m.agents, id)
	}
	for _, t := range e.TDGs {
		m.tdgs[t.ID] = encoded(t)
	}
	for _, g := range e.Groups {
		m.groups[g.Name] = encoded(g)
	}
	for _, r := range e.Results {
		m.results[r.CommandID] = r
	}
	m.commits = append(m.commits, e)
	if m.afterCommit != nil {
		return store.Committed{}, m.afterCommit(n, e)
	}
	return store.Committed{}, nil
}

// over is a commit that has ended before Begin returned.
func over(c store.Committed, err error) store.Wait {
	return func() (store.Committed, error) { return c, err }
}

func (m *memory) Begin(ctx context.Context, epoch int64, e failover.Effects, _ store.Wait) store.Wait {
	return over(m.Commit(ctx, epoch, e))
}

func (m *memory) PendingCommands(ctx context.Context, afterID int64, limit int) ([]store.Command, error) {
	if err := m.enter(ctx, "inbox"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.polled++
	var list []store.Command
	for _, c := range m.inbox {
		if _, done := m.results[c.ID]; !done && c.ID > afterID && len(list) < limit {
			list = append(list, c)
		}
	}
	return list, nil
}

func (m *memory) StreamingAgents(ctx context.Context) (map[string]time.Time, error) {
	if err := m.enter(ctx, "streaming"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stream, nil
}

func (m *memory) SaveHealth(ctx context.Context, epoch int64, _ []store.RegionHealth) error {
	if err := m.enter(ctx, "health"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch != m.epoch {
		return store.ErrFenced
	}
	m.health++
	return nil
}

func (m *memory) SucceedLease(ctx context.Context, lease store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error) {
	if err := m.enter(ctx, "succeed"); err != nil {
		return lease, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if lease.Epoch != m.epoch || m.holder != holder {
		return lease, false, nil
	}
	m.epoch, m.expires = max(m.epoch+1, time.Now().UnixMilli()), time.Now().Add(ttl)
	return store.Lease{Epoch: m.epoch, TrustedUntil: time.Now().Add(ttl - ttl/10)}, true, nil
}

func (m *memory) MaintainPartitions(ctx context.Context, _ time.Duration) error {
	return m.enter(ctx, "partitions")
}

func (m *memory) Prune(ctx context.Context) error { return m.enter(ctx, "prune") }

// events are the committed events in order.
func (m *memory) events() (list []failover.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.commits {
		for _, e := range c.Events {
			list = append(list, *e)
		}
	}
	return list
}

func (m *memory) with(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// source emits what a test tells it to, and notes what it is told.
type source struct {
	say chan failover.Observation // emitted by whichever Run is under way

	running, runs atomic.Int32
	emitted       atomic.Int32

	mu      sync.Mutex
	known   []failover.TDGInfo
	work    []failover.Work
	rosters [][]agents.Roster
}

func newSource() *source { return &source{say: make(chan failover.Observation, 10_000)} }

func (s *source) Run(ctx context.Context, emit func(context.Context, failover.Observation)) {
	s.runs.Add(1)
	s.running.Add(1)
	defer s.running.Add(-1)
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-s.say:
			emit(ctx, o)
			s.emitted.Add(1)
		}
	}
}

func (s *source) SetKnown(known []failover.TDGInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = known
}

func (s *source) SetWork(w failover.Work) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work = append(s.work, w)
}

func (s *source) SetRosters(rosters []agents.Roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rosters = append(s.rosters, rosters)
}

func (s *source) lastWork() failover.Work {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.work) == 0 {
		return failover.Work{}
	}
	return s.work[len(s.work)-1]
}

// replica is an Orchestrator between a store and sources of the test's.
type replica struct {
	*Orchestrator
	distributions, people *source
	registry              *prometheus.Registry
	doorbell              chan struct{}
	log                   *bytes.Buffer
	stop                  func() // and wait until it is gone
}

func settings() failover.Settings {
	return failover.Settings{
		Confirmations: 1, ConflictAfter: time.Minute, RegionDownAfter: 30 * time.Second, ContactsMaxAge: time.Minute, MaxUnknown: 15 * time.Minute,
		ConfigureErrorAfter: time.Minute, ConfirmWithin: 5 * time.Minute, DrainInterval: 5 * time.Second,
	}
}

func groups() []failover.GroupConfig {
	return []failover.GroupConfig{{
		Name: group, Routing: failover.Regional, Instances: []failover.Instance{
			{Region: east, CCPURL: "https://east.example/ccp-v2/"}, {Region: west, CCPURL: "https://west.example/ccp-v2/"},
		},
	}}
}

// start starts a replica; the test stops it.
func start(t testing.TB, name string, s Store, change ...func(*Options)) *replica {
	t.Helper()
	r := &replica{
		distributions: newSource(), people: newSource(), registry: prometheus.NewRegistry(), doorbell: make(chan struct{}, 1),
		log: &bytes.Buffer{},
	}
	o := Options{
		Store: s, Holder: name, Settings: settings(), Groups: groups(),
		Sources: []GroupSources{{Group: group, Distributions: r.distributions, Agents: r.people}},
		Health: func() []store.RegionHealth {
			return []store.RegionHealth{{Group: group, Region: east, State: "healthy"}}
		},
		Retention: 24 * time.Hour, Doorbell: r.doorbell, Metrics: NewMetrics(r.registry), Log: logtest.New(r.log),
	}
	for _, c := range change {
		c(&o)
	}
	r.Orchestrator = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	r.stop = func() { cancel(); <-done }
	return r
}

// floor tells a replica of one traffic distribution group with so many agents, all of them in the east.
func (r *replica) floor(ids ...string) {
	r.distributions.say <- listed()
	synctest.Wait()
	r.people.say <- users(ids)
	synctest.Wait()
	r.distribute(east)
	synctest.Wait()
}

func listed() failover.TDGsListed {
	return failover.TDGsListed{Group: group, At: time.Now(), TDGs: []failover.TDGInfo{
		{ID: tdgID, ARN: "arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/" + tdgID, Name: "default", Status: "ACTIVE", IsDefault: true},
	}}
}

func users(ids []string) failover.UsersListed {
	list := make([]failover.User, len(ids))
	for i, id := range ids {
		list[i] = failover.User{ID: id, Username: "user-" + id}
	}
	return failover.UsersListed{Group: group, Region: east, Users: list, StartedAt: time.Now(), Last: true}
}

// distribute tells a replica where both Regions send the agents.
func (r *replica) distribute(region string) { r.distributions.say <- round(region) }

func round(region string) failover.DistributionRound {
	d := failover.Distribution{{Region: east}, {Region: west}}
	for i := range d {
		if d[i].Region == region {
			d[i].Percent = 100
		}
	}
	return failover.DistributionRound{Group: group, TDG: tdgID, TickAt: time.Now(), Answers: []failover.RegionAnswer{
		{Region: east, Telephony: d, Agents: d}, {Region: west, Telephony: d, Agents: d},
	}}
}

// read is a read by id that shows no contact of an agent.
func read(id string) failover.UserData {
	return failover.UserData{Group: group, Region: east, StartedAt: time.Now(), Absent: []string{id}}
}

// on is a read that shows an agent on a call.
func on(id string, contacts ...string) failover.UserData {
	u := failover.UserRecord{ID: id, RoutingProfile: "profile"}
	for _, c := range contacts {
		u.Contacts = append(u.Contacts, failover.Contact{ID: c, Channel: "VOICE", State: "CONNECTED", Began: time.Now()})
	}
	return failover.UserData{Group: group, Region: east, StartedAt: time.Now(), Users: []failover.UserRecord{u}}
}

// types are the events of an agent by type, snapshots left out.
func types(events []failover.Event, agent string) (list []failover.EventType) {
	for _, e := range events {
		if e.AgentID == agent && e.Type != failover.EventSnapshot {
			list = append(list, e.Type)
		}
	}
	return list
}

// until lets time pass until something is true, at most so long.
func until(t testing.TB, atMost time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(atMost); !is(); time.Sleep(10 * time.Millisecond) {
		require.Truef(t, time.Now().Before(deadline), "not within %s: %s", atMost, what)
	}
}

func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = prefix + string(rune('a'+i/26/26%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26))
	}
	return ids
}

type agentsRoster = agents.Roster

// frozen is the memory seen by a replica whose connection hangs for a while, as that of a frozen or cut-off one does.
type frozen struct {
	*memory
	mu    sync.Mutex
	until time.Time
	gone  chan struct{}
}

func (f *frozen) freeze(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until, f.gone = time.Now().Add(d), make(chan struct{})
}

func (f *frozen) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.gone)
}

// wait hangs, whatever the context says: the worst client.
func (f *frozen) wait() {
	f.mu.Lock()
	d, gone := time.Until(f.until), f.gone
	f.mu.Unlock()
	if d <= 0 || gone == nil {
		return
	}
	select {
	case <-time.After(d):
	case <-gone:
	}
}

func (f *frozen) RenewLease(ctx context.Context, lease store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error) {
	started := time.Now()
	f.wait()
	next, ok, err := f.memory.RenewLease(ctx, lease, holder, ttl)
	next.TrustedUntil = started.Add(ttl - ttl/10)
	return next, ok, err
}
