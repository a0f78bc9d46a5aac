package stream

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

// logStore is a Store with the leader's side, so that the fake and PostgreSQL can be put to the same tests.
type logStore interface {
	Store
	commitAll(t testing.TB, events ...failover.Event)
	nextLeader(t *testing.T)
	dropBefore(t *testing.T, seq int64)
}

type fakeLog struct{ *fakeStore }

func (f fakeLog) commitAll(_ testing.TB, events ...failover.Event) { f.commit(events...) }
func (f fakeLog) nextLeader(*testing.T)                            { f.newLeader() }
func (f fakeLog) dropBefore(_ *testing.T, seq int64)               { f.prune(seq) }

// postgresLog is the real one.
type postgresLog struct {
	*store.Store
	url    string
	lease  store.Lease
	holder string
	agents map[string]*failover.Agent
}

func openPostgres(t testing.TB) *postgresLog {
	url := postgrestest.NewDatabase(t)
	s, err := store.Open(t.Context(), store.Options{URL: url, Log: logtest.New(nil)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	p := &postgresLog{Store: s, url: url, holder: "leader-0", agents: make(map[string]*failover.Agent)}
	p.acquire(t)
	return p
}

func (p *postgresLog) acquire(t testing.TB) {
	lease, ok, err := p.AcquireLease(t.Context(), p.holder, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	p.lease = lease
}

// commitAll commits events together with the state that they tell, as the leader does.
func (p *postgresLog) commitAll(t testing.TB, events ...failover.Event) {
	e := failover.Effects{}
	touched := make(map[string]bool)
	for i := range events {
		ev := &events[i]
		e.Events = append(e.Events, ev)
		if ev.Time.IsZero() {
			ev.Time = time.Now()
		}
		a := p.agents[ev.AgentID]
		if a == nil {
			a = &failover.Agent{ID: ev.AgentID, Group: ev.Group, ActiveRegion: east}
			p.agents[ev.AgentID] = a
		}
		switch ev.Type {
		case failover.EventFailoverDetected, failover.EventFailoverPending:
			if a.Failover == nil {
				a.Failover = &failover.Failover{ID: ev.FailoverID, AgentID: a.ID, Group: a.Group, From: east, To: west, DetectedAt: ev.Time}
			}
			a.Failover.Status, a.Failover.ContactIDs = failover.Detected, ev.ContactIDs
			if ev.Type == failover.EventFailoverPending {
				a.Failover.Status = failover.Pending
			}
			e.Failovers = append(e.Failovers, a.Failover)
		case failover.EventFailoverCompleted:
			a.Failover, a.ActiveRegion = nil, ev.ActiveRegion
		case failover.EventSnapshot:
			a.ActiveRegion = ev.ActiveRegion
		}
		if !touched[a.ID] {
			touched[a.ID] = true
			e.Agents = append(e.Agents, a)
		}
	}
	slices.Reverse(e.Failovers) // each once, as it is now
	seen := make(map[string]bool)
	e.Failovers = slices.DeleteFunc(e.Failovers, func(f *failover.Failover) bool { defer func() { seen[f.ID] = true }(); return seen[f.ID] })
	_, err := p.Commit(t.Context(), p.lease.Epoch, e)
	require.NoError(t, err)
}

func (p *postgresLog) nextLeader(t *testing.T) {
	require.NoError(t, p.ReleaseLease(t.Context(), p.lease, p.holder))
	p.holder += "+"
	p.acquire(t)
}

func (p *postgresLog) exec(t *testing.T, sql string, args ...any) {
	conn, err := pgx.Connect(t.Context(), p.url)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

func (p *postgresLog) dropBefore(t *testing.T, seq int64) {
	p.exec(t, "DELETE FROM events WHERE seq < $1", seq)
	p.exec(t, "UPDATE event_log SET oldest_seq = $1", seq)
}

// loseAfter leaves what an asynchronous failover leaves: the database as it was, and the next leader's epoch.
func (p *postgresLog) loseAfter(t *testing.T, seq int64) {
	p.exec(t, "DELETE FROM events WHERE seq > $1", seq)
	p.exec(t, "DELETE FROM terms WHERE first_seq > $1", seq)
	p.exec(t, "UPDATE event_log SET seq = $1, epoch = coalesce((SELECT max(epoch) FROM terms), 0)", seq)
	p.nextLeader(t)
}

func eachLog(t *testing.T, test func(t *testing.T, s logStore)) {
	t.Run("fake", func(t *testing.T) { test(t, fakeLog{newFakeStore()}) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, openPostgres(t)) })
}

func seqs(rows []store.LogEvent) []int64 {
	list := []int64{}
	for _, r := range rows {
		list = append(list, r.Seq)
	}
	return list
}

// The fake that the other tests use does what PostgreSQL does.
func TestStoreConformance(t *testing.T) {
	t.Run("an empty log", func(t *testing.T) {
		eachLog(t, func(t *testing.T, s logStore) {
			state, err := s.LogState(t.Context())
			require.NoError(t, err)
			require.True(t, validLogID(state.LogID), state.LogID)
			require.Equal(t, store.Position{}, state.Head)
			require.Equal(t, int64(1), state.OldestSeq)
			require.Empty(t, state.Terms)
			rows, err := s.EventsAfter(t.Context(), 0, 10)
			require.NoError(t, err)
			require.Empty(t, rows)
			views, at, err := s.AgentViews(t.Context())
			require.NoError(t, err)
			require.Empty(t, views)
			require.Equal(t, store.Position{}, at)
		})
	})
	t.Run("events", func(t *testing.T) {
		eachLog(t, func(t *testing.T, s logStore) {
			first := []failover.Event{detected("a", "f1"), detected("b", "f2"), pending("a", "f1", "c1"), completed("b", "f2")}
			s.commitAll(t, first...)
			s.nextLeader(t)
			s.commitAll(t, completed("a", "f1"))

			state, err := s.LogState(t.Context())
			require.NoError(t, err)
			require.Equal(t, int64(5), state.Head.Seq)
			require.Len(t, state.Terms, 2)
			require.Equal(t, []int64{1, 5}, []int64{state.Terms[0].FirstSeq, state.Terms[1].FirstSeq})
			require.Less(t, state.Terms[0].Epoch, state.Terms[1].Epoch)
			require.Equal(t, state.Terms[1].Epoch, state.Head.Epoch)

			rows, err := s.EventsAfter(t.Context(), 0, 10)
			require.NoError(t, err)
			require.Equal(t, []int64{1, 2, 3, 4, 5}, seqs(rows))
			for i, r := range rows[:4] {
				require.Equal(t, state.Terms[0].Epoch, r.Epoch)
				require.Equal(t, first[i].AgentID, r.AgentID)
				require.Equal(t, first[i].Type, r.Type)
				require.Equal(t, first[i].FailoverID, r.FailoverID)
				require.Equal(t, "main", r.Group)
				require.JSONEq(t, string(first[i].AppendData(nil)), string(zeroTime(t, r.Data, first[i].Time)))
				require.WithinDuration(t, time.Now(), r.CommittedAt, time.Minute)
			}
			again, err := s.EventsAfter(t.Context(), 0, 10)
			require.NoError(t, err)
			require.True(t, rows[0].CommittedAt.Equal(again[0].CommittedAt))
			rows, err = s.EventsAfter(t.Context(), 2, 2)
			require.NoError(t, err)
			require.Equal(t, []int64{3, 4}, seqs(rows))
			rows, err = s.EventsAfter(t.Context(), 5, 10)
			require.NoError(t, err)
			require.Empty(t, rows)

			views, at, err := s.AgentViews(t.Context())
			require.NoError(t, err)
			require.Equal(t, state.Head, at)
			require.Len(t, views, 2)
			for _, v := range views {
				require.Equal(t, west, v.ActiveRegion)
				require.Equal(t, failover.AgentActive, v.State)
			}
		})
	})
	t.Run("events of agents", func(t *testing.T) {
		eachLog(t, func(t *testing.T, s logStore) {
			s.commitAll(t, detected("a", "f1"), detected("b", "f2"), detected("c", "f3"), pending("a", "f1", "c1"), completed("b", "f2"), completed("a", "f1"))
			for name, q := range map[string]struct {
				agents      []string
				after, upto int64
				types       []string
				limit       int
				want        []int64
			}{
				"all":                {nil, 0, 100, nil, 100, []int64{1, 2, 3, 4, 5, 6}},
				"one":                {[]string{"a"}, 0, 100, nil, 100, []int64{1, 4, 6}},
				"two":                {[]string{"b", "a"}, 1, 100, nil, 100, []int64{2, 4, 5, 6}},
				"nobody":             {[]string{"x"}, 0, 100, nil, 100, []int64{}},
				"up to":              {[]string{"a", "b"}, 1, 4, nil, 100, []int64{2, 4}},
				"limit is of all":    {[]string{"a", "b"}, 0, 100, nil, 3, []int64{1, 2, 4}},
				"types":              {nil, 0, 100, []string{"failoverPending", "failoverCompleted"}, 100, []int64{4, 5, 6}},
				"types of one":       {[]string{"a"}, 1, 100, []string{"failoverCompleted"}, 100, []int64{6}},
				"behind the end":     {nil, 6, 100, nil, 100, []int64{}},
				"beyond all numbers": {nil, 900, 1000, nil, 100, []int64{}},
			} {
				rows, err := s.AgentEventsAfter(t.Context(), q.agents, q.after, q.upto, q.types, q.limit)
				require.NoError(t, err, name)
				require.Equal(t, q.want, seqs(rows), name)
			}
		})
	})
	t.Run("retention", func(t *testing.T) {
		eachLog(t, func(t *testing.T, s logStore) {
			s.commitAll(t, detected("a", "f1"), pending("a", "f1", "c1"), completed("a", "f1"))
			s.dropBefore(t, 3)
			state, err := s.LogState(t.Context())
			require.NoError(t, err)
			require.Equal(t, int64(3), state.OldestSeq)
			_, err = s.EventsAfter(t.Context(), 1, 10)
			require.ErrorIs(t, err, store.ErrPruned)
			_, err = s.AgentEventsAfter(t.Context(), []string{"a"}, 1, 3, nil, 10)
			require.ErrorIs(t, err, store.ErrPruned)
			rows, err := s.EventsAfter(t.Context(), 2, 10)
			require.NoError(t, err)
			require.Equal(t, []int64{3}, seqs(rows))
			rows, err = s.AgentEventsAfter(t.Context(), nil, 2, 3, nil, 10)
			require.NoError(t, err)
			require.Equal(t, []int64{3}, seqs(rows))
			s.dropBefore(t, 4) // nothing is left
			rows, err = s.EventsAfter(t.Context(), 2, 10)
			require.NoError(t, err)
			require.Empty(t, rows)
		})
	})
	t.Run("doorbell", func(t *testing.T) {
		eachLog(t, func(t *testing.T, s logStore) {
			ctx, cancel := context.WithCancel(t.Context())
			rung := make(chan string, 100)
			over := make(chan error)
			go func() { over <- s.Listen(ctx, []string{store.ChannelLog}, func(c string) { rung <- c }) }()
			require.Equal(t, store.ChannelLog, <-rung, "once when it listens")
			s.commitAll(t, detected("a", "f1"), detected("b", "f2"))
			require.Equal(t, store.ChannelLog, <-rung)
			cancel()
			require.NoError(t, <-over)
			require.Empty(t, rung, "once for each commit")
		})
	})
	t.Run("connections", func(t *testing.T) {
		eachLog(t, func(t *testing.T, s logStore) {
			c := store.Connection{ID: "1", Replica: "r", AgentID: "a", Since: time.Now(), LastEventID: "x-1-2", RemoteAddr: "192.0.2.1:1"}
			require.NoError(t, s.SyncConnections(t.Context(), "r", []store.Connection{c}, nil))
			require.NoError(t, s.SyncConnections(t.Context(), "r", []store.Connection{c}, []string{"none"}), "telling it again is harmless")
			require.NoError(t, s.SyncConnections(t.Context(), "r", nil, nil))
			require.NoError(t, s.SyncConnections(t.Context(), "r", []store.Connection{c}, []string{"1"}), "closing wins")
		})
	})
}

// zeroTime replaces the time of data whose event had none when it was committed.
func zeroTime(t *testing.T, data []byte, at time.Time) []byte {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(data, &m))
	if at.IsZero() {
		m["time"] = failover.FormatTime(at)
	}
	out, err := json.Marshal(m)
	require.NoError(t, err)
	return out
}

// The whole way, on PostgreSQL: two replicas, one log.
func TestStreamsFromPostgreSQL(t *testing.T) {
	p := openPostgres(t)
	quick := func(o *Options) { o.Drain = 50 * time.Millisecond }
	one, two := liveHub(t, p, quick), liveHub(t, p, quick)
	first, second := serveLive(t, one.hub), serveLive(t, two.hub)

	a := read(t, first.Client(), first.URL+"/agents/agent-1", "")
	b := read(t, second.Client(), second.URL+"/agents/agent-1", "")
	a.expect(t, "snapshot")
	b.expect(t, "snapshot")
	p.commitAll(t, detected("agent-1", "0197f6a2-0000-7000-8000-000000000001"), detected("agent-2", "0197f6a2-0000-7000-8000-000000000002"))
	last := a.expect(t, "failoverDetected")
	require.Equal(t, last, b.expect(t, "failoverDetected"), "the same id on every replica")
	eventually(t, func() bool { return one.metric("event_delivery_seconds") == 1 })

	a.cancel()
	p.commitAll(t, pending("agent-1", "0197f6a2-0000-7000-8000-000000000001", "c1"), completed("agent-2", "0197f6a2-0000-7000-8000-000000000002"))
	p.nextLeader(t)
	p.commitAll(t, completed("agent-1", "0197f6a2-0000-7000-8000-000000000001"))
	b.expect(t, "failoverPending", "failoverCompleted")
	late := liveHub(t, p, quick) // knows nothing of these but from the database
	third := serveLive(t, late.hub)
	end := read(t, third.Client(), third.URL+"/agents/agent-1", last).expect(t, "failoverPending", "failoverCompleted")
	require.Equal(t, end, read(t, second.Client(), second.URL+"/agents/agent-1", last).expect(t, "failoverPending", "failoverCompleted"))
	view, known := late.hub.View("agent-1")
	require.True(t, known)
	live, known := two.hub.View("agent-1")
	require.True(t, known)
	live.Username, view.Username = "", ""
	require.Equal(t, view.ActiveRegion, live.ActiveRegion)
	require.Equal(t, view.State, live.State)
	items, _, err := late.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"failoverDetected", "failoverPending", "failoverCompleted"}, itemNames(items))

	eventually(t, func() bool {
		agents, err := p.StreamingAgents(t.Context())
		return err == nil && !agents["agent-1"].IsZero()
	})
	p.loseAfter(t, 3)
	b.expect(t, "reset", "snapshot")
	gone := read(t, second.Client(), second.URL+"/agents/agent-1", end)
	gone.expect(t, "reset", "snapshot")
	p.commitAll(t, detected("agent-1", "0197f6a2-0000-7000-8000-000000000003"))
	b.expect(t, "failoverDetected")
	two.hub.Drain(t.Context())
	b.expect(t, "draining", "")
}

// What a floor's return costs: each stream resumes from before memory.
func BenchmarkReplayFromPostgreSQL(b *testing.B) {
	const agents = 2000
	p := openPostgres(b)
	var events []failover.Event
	for i := range agents {
		events = append(events, detected("agent-"+strconv.Itoa(i), "f"), completed("agent-"+strconv.Itoa(i), "f"))
	}
	p.commitAll(b, events...)
	state, err := p.LogState(b.Context())
	require.NoError(b, err)
	r := newReplayer(p)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go r.run(ctx)
	for b.Loop() {
		var asked []*replayRequest
		for i := range agents {
			asked = append(asked, r.ask("agent-"+strconv.Itoa(i), store.Position{}, step{at: state.Head}, func() bool { return false }))
		}
		for _, a := range asked {
			<-a.done
			if a.err != nil || len(a.rows) != 2 {
				b.Error(a.err, len(a.rows))
			}
		}
	}
	b.ReportMetric(float64(agents*b.N)/b.Elapsed().Seconds(), "streams/s")
}
