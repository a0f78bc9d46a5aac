package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/agents"
	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
	"changeover/internal/tdg"
)

// database is a real one, with a connection to look behind the store.
type database struct {
	t testing.TB
	*store.Store
	sql *pgx.Conn
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	url := postgrestest.NewDatabase(t)
	s, err := store.Open(t.Context(), store.Options{URL: url, Log: logtest.New(nil)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return &database{t: t, Store: s, sql: conn}
}

// expire makes the lease free, as ten seconds without a renewal would.
func (d *database) expire() {
	d.t.Helper()
	_, err := d.sql.Exec(d.t.Context(), "UPDATE leases SET expires_at = '-infinity'")
	require.NoError(d.t, err)
}

func (d *database) number(query string) (n int) {
	d.t.Helper()
	require.NoError(d.t, d.sql.QueryRow(d.t.Context(), query).Scan(&n))
	return n
}

// histories are the events of every agent, by type and in order, snapshots left out.
func (d *database) histories() map[string][]failover.EventType {
	d.t.Helper()
	byAgent := map[string][]failover.EventType{}
	for after := int64(0); ; {
		events, err := d.EventsAfter(d.t.Context(), after, 10_000)
		require.NoError(d.t, err)
		if len(events) == 0 {
			return byAgent
		}
		for _, e := range events {
			require.Equal(d.t, after+1, e.Seq, "the log has no gaps")
			after = e.Seq
			if e.Type != failover.EventSnapshot {
				byAgent[e.AgentID] = append(byAgent[e.AgentID], e.Type)
			}
		}
	}
}

// dying is a store whose user is killed at its nth commit of a kind: nothing gets through after that, not even the
// release of the lease.
type dying struct {
	Store
	counts func(failover.Effects) bool
	n      int  // commits that count until it dies
	after  bool // it dies with the nth committed and the answer lost, else just before

	mu   sync.Mutex
	dead bool
}

var errKilled = errors.New("killed")

func (d *dying) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

func (d *dying) Commit(ctx context.Context, epoch int64, e failover.Effects) (store.Committed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead && d.counts(e) {
		if d.n--; d.n < 0 {
			d.dead = true
			if d.after {
				if _, err := d.Store.Begin(ctx, epoch, e, nil)(); err != nil {
					return store.Committed{}, err
				}
			}
		}
	}
	if d.dead {
		return store.Committed{}, errKilled
	}
	return d.Store.Begin(ctx, epoch, e, nil)()
}

func (d *dying) Begin(ctx context.Context, epoch int64, e failover.Effects, _ store.Wait) store.Wait {
	return over(d.Commit(ctx, epoch, e))
}

func (d *dying) Load(ctx context.Context) (failover.Snapshot, error) {
	if d.isDead() {
		return failover.Snapshot{}, errKilled
	}
	return d.Store.Load(ctx)
}

func (d *dying) RenewLease(ctx context.Context, l store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error) {
	if d.isDead() {
		return l, false, errKilled
	}
	return d.Store.RenewLease(ctx, l, holder, ttl)
}

func (d *dying) AcquireLease(ctx context.Context, holder string, ttl time.Duration) (store.Lease, bool, error) {
	if d.isDead() {
		return store.Lease{}, false, errKilled
	}
	return d.Store.AcquireLease(ctx, holder, ttl)
}

func (d *dying) ReleaseLease(ctx context.Context, l store.Lease, holder string) error {
	if d.isDead() {
		return errKilled
	}
	return d.Store.ReleaseLease(ctx, l, holder)
}

func has(types ...failover.EventType) func(failover.Effects) bool {
	return func(e failover.Effects) bool {
		return slices.ContainsFunc(e.Events, func(ev *failover.Event) bool { return slices.Contains(types, ev.Type) })
	}
}

// populate has a replica commit a floor in the east, and stops it.
func populate(t testing.TB, db *database, ids []string) {
	t.Helper()
	r := start(t, "first", db)
	r.distributions.say <- listed()
	until(t, 10*time.Second, "the group", func() bool { return db.number("SELECT count(*) FROM traffic_distribution_groups") == 1 })
	r.people.say <- users(ids)
	until(t, 30*time.Second, "the agents", func() bool { return db.number("SELECT count(*) FROM agents") == len(ids) })
	r.distribute(east)
	until(t, 30*time.Second, "their baseline", func() bool {
		return db.number("SELECT count(*) FROM agents WHERE active_region <> ''") == len(ids)
	})
	r.stop()
}

// A leader that is killed between the transactions of a large shift leaves some agents detected and others not. The next one
// detects the rest: nobody is lost, nobody's failover is doubled or taken back, and the change is recorded once.
func TestKilledBetweenTheTransactionsOfAShift(t *testing.T) {
	t.Parallel()
	ids := numbered("agent-", 2*maxAgents+500) // three transactions
	for _, tt := range []struct {
		name  string
		n     int
		after bool
	}{
		{"before the first", 0, false}, {"after the first, its answer lost", 0, true}, {"before the second", 1, false},
		{"before the last", 2, false}, {"after the last, its answer lost", 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t)
			populate(t, db, ids)
			d := &dying{Store: db, counts: has(failover.EventFailoverDetected), n: tt.n, after: tt.after}
			first := start(t, "killed", d)
			first.distribute(west)
			until(t, 30*time.Second, "it dies", d.isDead)
			first.stop()
			detected := db.number("SELECT count(*) FROM failovers")
			if tt.after {
				tt.n++
			}
			require.Equal(t, min(tt.n*maxAgents, len(ids)), detected)
			db.expire()

			second := start(t, "second", db)
			defer second.stop()
			if detected == 0 { // nothing was committed of it: it is seen again
				second.distribute(west)
			}
			until(t, 30*time.Second, "everybody is detected", func() bool { return db.number("SELECT count(*) FROM failovers") == len(ids) })
			second.distribute(west)
			until(t, 10*time.Second, "the readers are told", func() bool { return len(second.people.lastWork().Drain) == len(ids) })
			for batch := range slices.Chunk(ids, 100) {
				second.people.say <- failover.UserData{Group: group, Region: east, StartedAt: time.Now(), Absent: batch}
			}
			until(t, 30*time.Second, "everybody completes", func() bool {
				return db.number("SELECT count(*) FROM failovers WHERE status = 'completed'") == len(ids)
			})
			histories := db.histories()
			require.Len(t, histories, len(ids))
			for id, types := range histories {
				if !slices.Equal(types, []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}) {
					t.Fatalf("%s heard %v", id, types)
				}
			}
			require.Equal(t, 2, db.number("SELECT count(*) FROM distribution_changes"), "the first distribution, and the shift")
		})
	}
}

// R17: set-up errors that concern everybody reach everybody once, also when the leader is killed while they are being told.
func TestR17KilledWhileASetUpErrorIsTold(t *testing.T) {
	t.Parallel()
	ids := numbered("agent-", maxAgents+500)
	for _, tt := range []struct {
		name, tdg string
		n         int
		after     bool
	}{
		{"of a group, after the first transaction", tdgID, 0, true}, {"of a group, before the last", tdgID, 1, false},
		{"of the failover group, after the first", "", 0, true}, {"of the failover group, before the last", "", 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t)
			populate(t, db, ids)
			atOnce := func(o *Options) { o.Settings.ConfigureErrorAfter = 0 }
			d := &dying{Store: db, counts: has(failover.EventConfigureError), n: tt.n, after: tt.after}
			first := start(t, "killed", d, atOnce)
			denied := failover.SetupObserved{Group: group, TDG: tt.tdg, Code: failover.CodeAccessDenied, Message: "not allowed"}
			first.distributions.say <- denied
			until(t, 30*time.Second, "it dies", d.isDead)
			first.stop()
			db.expire()
			second := start(t, "second", db, atOnce)
			defer second.stop()
			second.distributions.say <- denied
			until(t, 30*time.Second, "everybody has heard", func() bool {
				return db.number("SELECT count(*) FROM events WHERE type = 'configureError'") >= len(ids)
			})
			for id, types := range db.histories() {
				if !slices.Equal(types, []failover.EventType{failover.EventConfigureError}) {
					t.Fatalf("%s heard %v", id, types)
				}
			}
		})
	}
}

// slowToCommit holds a commit of detections back until it is let go.
type slowToCommit struct {
	Store
	held, letGo chan struct{}
	err         chan error
}

func (s *slowToCommit) Commit(ctx context.Context, epoch int64, e failover.Effects) (store.Committed, error) {
	if !has(failover.EventFailoverDetected)(e) {
		return s.Store.Begin(ctx, epoch, e, nil)()
	}
	close(s.held)
	<-s.letGo
	c, err := s.Store.Begin(context.WithoutCancel(ctx), epoch, e, nil)()
	s.err <- err
	return c, err
}

func (s *slowToCommit) Begin(ctx context.Context, epoch int64, e failover.Effects, _ store.Wait) store.Wait {
	return over(s.Commit(ctx, epoch, e))
}

// R19: a leader that was frozen just before its commit, and replaced meanwhile, commits nothing.
func TestR19FencedLeaderCommitsNothing(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	populate(t, db, []string{"one"})
	slow := &slowToCommit{Store: db, held: make(chan struct{}), letGo: make(chan struct{}), err: make(chan error, 1)}
	frozen := start(t, "frozen", slow)
	frozen.distribute(west)
	<-slow.held
	db.expire()
	second := start(t, "second", db)
	defer second.stop()
	until(t, 10*time.Second, "the second leads", func() bool { return second.Status().Deciding })
	second.distribute(west)
	until(t, 10*time.Second, "it detects", func() bool { return db.number("SELECT count(*) FROM failovers") == 1 })
	close(slow.letGo)
	require.ErrorIs(t, <-slow.err, store.ErrFenced)
	until(t, 10*time.Second, "the first steps down", func() bool { return !frozen.Status().Leading })
	frozen.stop()
	require.Equal(t, []failover.EventType{failover.EventFailoverDetected}, db.histories()["one"])
	require.Equal(t, 1, db.number("SELECT count(*) FROM failovers"))
	require.True(t, second.Status().Leading)
}

// realSources are those that read a simulated Amazon Connect.
func realSources(t *testing.T, sim *connectsim.Sim) func(*Options) {
	t.Helper()
	log := logtest.New(nil)
	var distributions []tdg.Instance
	var people []agents.Instance
	for _, region := range []string{east, west} {
		client, err := connect.New(t.Context(), connect.Options{
			Region: region, Endpoint: "http://connect.test", RequestsPerSecond: 100, Burst: 100, RequestTimeout: 2 * time.Second,
			Transport: sim.Transport(), Log: log,
		})
		require.NoError(t, err)
		distributions = append(distributions, tdg.Instance{ID: sim.InstanceID(), Client: client})
		people = append(people, agents.Instance{ID: sim.InstanceID(), Client: client})
	}
	return func(o *Options) {
		o.Settings.DrainInterval = 200 * time.Millisecond
		o.Sources = []GroupSources{{
			Group: group,
			Distributions: tdg.New(tdg.Options{
				Group: group, Instances: distributions, Interval: 200 * time.Millisecond, RequestsPerSecond: 100, Log: log,
			}),
			Agents: agents.New(agents.Options{
				Group: group, Routing: failover.Regional, Instances: people, RequestsPerSecond: 100, Log: log,
				AgentInterval: 500 * time.Millisecond, DrainInterval: 200 * time.Millisecond, MembershipInterval: time.Minute,
			}),
		}}
	}
}

// From the shift of a traffic distribution group to the rows of the log, with replicas that are killed and replaced all the
// time: nothing is lost, nothing doubled, and nobody is released who is on a call.
func TestShiftAcrossRestarts(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	sim := connectsim.New(connectsim.Config{Agents: 300, RoutingProfiles: 10, MoveDelay: 500 * time.Millisecond})
	busy := map[string]string{}
	for i, a := range sim.Agents() {
		if i%3 == 0 {
			id, err := sim.StartContact(a.ID, "VOICE")
			require.NoError(t, err)
			busy[a.ID] = id
		}
	}
	r := start(t, "first", db, realSources(t, sim))
	until(t, 20*time.Second, "everybody is read", func() bool {
		return db.number("SELECT count(*) FROM agents WHERE active_region = 'us-east-1'") == 300 &&
			db.number("SELECT count(*) FROM contacts") == 100
	})
	require.NoError(t, sim.Shift("", west, 100))
	until(t, 20*time.Second, "detections", func() bool { return db.number("SELECT count(*) FROM failovers") > 0 })
	r.stop()

	replace := func(name string) {
		r.stop()
		r = start(t, name, db, realSources(t, sim))
	}
	replace("second")
	until(t, 20*time.Second, "everybody decided", func() bool {
		return db.number("SELECT count(*) FROM failovers WHERE status = 'completed'") == 200 &&
			db.number("SELECT count(*) FROM failovers WHERE status = 'pending'") == 100
	})
	replace("third")
	n := 0
	for _, contact := range busy {
		require.NoError(t, sim.EndContact(contact))
		require.NoError(t, sim.ClearContact(contact))
		if n++; n%40 == 0 {
			replace(fmt.Sprint("after ", n))
			until(t, 20*time.Second, "it leads", func() bool { return r.Status().Deciding })
		}
	}
	until(t, 20*time.Second, "everybody has moved, and is seen there", func() bool {
		return db.number("SELECT count(*) FROM failovers WHERE status = 'completed' AND confirmed_at IS NOT NULL") == 300
	})
	r.stop()
	histories := db.histories()
	require.Len(t, histories, 300)
	for id, types := range histories {
		want := []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}
		if busy[id] != "" {
			want = slices.Insert(want, 1, failover.EventFailoverPending)
		}
		// While pending the set may also be told empty before the completion.
		require.Equal(t, want, types, id)
	}
	require.Equal(t, 300, db.number("SELECT count(*) FROM failovers"))
}

// The effects of a shift of 10,000 agents, from the observation to the last row.
func BenchmarkShift(b *testing.B) {
	ids := numbered("agent-", 10_000)
	for b.Loop() {
		b.StopTimer()
		db := newDatabase(b)
		populate(b, db, ids)
		r := start(b, "shift", db)
		until(b, 10*time.Second, "it leads", func() bool { return r.Status().Deciding })
		b.StartTimer()
		r.distribute(west)
		until(b, time.Minute, "all detected", func() bool { return db.number("SELECT count(*) FROM failovers") == len(ids) })
		for batch := range slices.Chunk(ids, 100) {
			r.people.say <- failover.UserData{Group: group, Region: east, StartedAt: time.Now(), Absent: batch}
		}
		until(b, time.Minute, "all completed", func() bool {
			return db.number("SELECT count(*) FROM failovers WHERE status = 'completed'") == len(ids)
		})
		b.StopTimer()
		r.stop()
		b.StartTimer()
	}
}
