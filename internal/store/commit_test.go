package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

func TestCommittedEventsAreInTheLogAsTheyWere(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	e := shifted(3, failover.Completed)
	c := commit(t, s, epoch, e)
	require.Equal(t, store.Position{Epoch: epoch, Seq: 1}, c.First)
	require.Equal(t, store.Position{Epoch: epoch, Seq: 6}, c.Last)
	require.WithinDuration(t, query[time.Time](t, conn, "SELECT clock_timestamp()"), c.At, time.Second)

	events, err := s.EventsAfter(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Len(t, events, 6)
	for i, got := range events {
		want := e.Events[i]
		require.Equal(t, store.LogEvent{
			Seq: int64(i + 1), Epoch: epoch, AgentID: want.AgentID, Group: want.Group, FailoverID: want.FailoverID, Type: want.Type,
			Time: start, CommittedAt: c.At, Data: want.AppendData(nil),
		}, got)
	}
}

func TestSequenceNumbersHaveNoGapsWhateverFails(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	total := 0
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		if i%3 == 1 {
			cancel()
		}
		if i%5 == 2 { // a type that is longer than a message may be: it fails when the events are written
			exec(t, conn, "ALTER TABLE events ADD CONSTRAINT fault CHECK (type <> 'failoverDetected') NOT VALID")
		}
		_, err := s.Commit(ctx, epoch, detected(i))
		cancel()
		if err == nil {
			total += i
		}
		if i%5 == 2 {
			require.Error(t, err)
			exec(t, conn, "ALTER TABLE events DROP CONSTRAINT fault")
		}
	}
	events, err := s.EventsAfter(t.Context(), 0, 1000)
	require.NoError(t, err)
	require.Len(t, events, total)
	for i, e := range events {
		require.Equal(t, int64(i+1), e.Seq)
	}
	st, err := s.LogState(t.Context())
	require.NoError(t, err)
	require.Equal(t, store.Position{Epoch: epoch, Seq: int64(total)}, st.Head)
}

func TestALeaderOfAnOlderEpochCommitsNothing(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	first := lead(t, s)
	commit(t, s, first.Epoch, shifted(1, failover.Detected))
	depose(t, conn)
	second := lead(t, s)
	require.Greater(t, second.Epoch, first.Epoch)

	_, err := s.Commit(t.Context(), first.Epoch, shifted(2, failover.Completed))
	require.ErrorIs(t, err, store.ErrFenced)
	require.ErrorIs(t, s.SaveHealth(t.Context(), first.Epoch, []store.RegionHealth{{Group: "main", Region: "us-east-1"}}), store.ErrFenced)
	require.Equal(t, 1, query[int](t, conn, "SELECT count(*) FROM events"))
	require.Equal(t, "detected", query[string](t, conn, "SELECT string_agg(state, ',') FROM agents"))
	require.Equal(t, 0, query[int](t, conn, "SELECT count(*) FROM region_health"))

	// A term that has expired and that nobody has taken over still stands.
	depose(t, conn)
	commit(t, s, second.Epoch, shifted(2, failover.Completed))
}

// A database that fails over asynchronously loses its last commits, the lease's among them, and the next leader writes others in their
// place. Positions tell.
func TestPositionsAfterTheDatabaseLostCommits(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	first := lead(t, s).Epoch
	commit(t, s, first, detected(7))
	before, err := s.LogState(t.Context())
	require.NoError(t, err)
	commit(t, s, first, detected(3))

	// Lost: the second commit, and that anybody has ever led.
	exec(t, conn, "DELETE FROM events WHERE seq > 7")
	exec(t, conn, "UPDATE event_log SET seq = 7")
	exec(t, conn, "UPDATE leases SET epoch = 0, expires_at = '-infinity'")

	second := lead(t, s).Epoch
	require.Greater(t, second, first, "an epoch was given out twice")
	commit(t, s, second, failover.Effects{Agents: shifted(1, failover.Detected).Agents}) // without events: no term yet
	st, err := s.LogState(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, st)

	commit(t, s, second, detected(5))
	st, err = s.LogState(t.Context())
	require.NoError(t, err)
	require.Equal(t, store.Position{Epoch: second, Seq: 12}, st.Head)
	require.Equal(t, []store.Term{{Epoch: first, FirstSeq: 1}, {Epoch: second, FirstSeq: 8}}, st.Terms)
	for seq, epoch := range map[int64]int64{0: 0, 1: first, 7: first, 8: second, 12: second} {
		require.Equal(t, epoch, epochOf(&st, seq), "seq %d", seq)
	}
	// What a reader remembers of the lost events is of another epoch than those that took their place.
	require.NotEqual(t, first, epochOf(&st, 10))
}

// Attack: a name, a message or an id with the character NUL or with bytes that are no UTF-8. PostgreSQL refuses them, and a leader whose
// commits are refused would start over for ever.
func TestHostileTextKeepsNobodyFromCommitting(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	hostile := "a\x00b\xff\\u0000\x00\xc3"
	e := shifted(1, failover.Pending)
	a, f := e.Agents[0], e.Failovers[0]
	a.ID, a.Username, a.Group, a.RoutingProfile = hostile, hostile, hostile, hostile
	a.Errors = []failover.SetupError{{Code: hostile, Message: hostile}}
	a.Standby = &failover.Standby{Region: hostile, Reason: hostile}
	a.Aliases = map[string]string{hostile: hostile}
	a.Lists[0].Contacts[0].ID, a.Lists[0].Contacts[0].State = hostile, hostile
	f.ID, f.AgentID, f.ForcedBy, f.ForcedReason, f.ContactIDs = hostile, hostile, hostile, hostile, []string{hostile}
	e.Events = []*failover.Event{{Type: failover.EventConfigureError, AgentID: hostile, Code: hostile, Message: hostile, Time: start}}
	id, err := s.Submit(t.Context(), store.CommandReport, map[string]string{"reason": hostile}, store.AuditEntry{Subject: hostile, RequestID: hostile, Roles: []string{hostile}, Reason: hostile})
	require.NoError(t, err)
	e.Results = []failover.Result{{CommandID: id, Outcome: failover.OutcomeRefused, Detail: hostile}}
	commit(t, s, epoch, e)

	snap, err := s.Load(t.Context())
	require.NoError(t, err)
	require.Len(t, snap.Agents, 1)
	got := snap.Agents[0]
	require.Equal(t, "ab\uFFFD\\u0000\uFFFD", got.ID)
	require.Equal(t, "ab\uFFFD\\u0000\uFFFD", got.Errors[0].Message, "an escaped backslash is no character NUL")
	require.Equal(t, got.ID, got.Failover.ID)
	require.Len(t, got.Lists[0].Contacts, 1)
	events, err := s.EventsAfter(t.Context(), 0, 10)
	require.NoError(t, err)
	require.True(t, json.Valid(events[0].Data))
	result, done, err := s.CommandResult(t.Context(), id)
	require.NoError(t, err)
	require.True(t, done)
	require.NotContains(t, result.Detail, "\x00")

	// The same agent again is the same row.
	commit(t, s, epoch, e)
	commit(t, s, epoch, failover.Effects{RemovedAgents: []string{hostile}})
	require.Equal(t, 0, query[int](t, conn, "SELECT count(*) FROM agents"))
	require.Equal(t, 0, query[int](t, conn, "SELECT count(*) FROM contacts"))
}

// Commits that are under way at once become visible one after the other, also when the first takes longer than PostgreSQL lets a
// leader be silent; and one after a failed one fails.
func TestCommitsInTurn(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	all := detected(30)
	parts := make([]failover.Effects, 3)
	for i := range parts {
		parts[i] = failover.Effects{Agents: shifted(30, failover.Detected).Agents[i*10 : i*10+10], Events: all.Events[i*10 : i*10+10]}
	}
	hold := make(chan struct{})
	first := s.Begin(t.Context(), epoch, parts[0], func() (store.Committed, error) { <-hold; return store.Committed{}, nil })
	second := s.Begin(t.Context(), epoch, parts[1], first)
	third := s.Begin(t.Context(), epoch, parts[2], second)
	parts[0].Agents[0].ID = "changed while it is committed"
	writing := "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
	require.Eventually(t, func() bool { return query[int](t, conn, writing) == 3 }, 10*time.Second, 10*time.Millisecond, "all have written their agents")
	time.Sleep(3500 * time.Millisecond) // the real clock of PostgreSQL: idle_in_transaction_session_timeout is 3 s
	require.Zero(t, query[int](t, conn, "SELECT count(*) FROM agents"))
	close(hold)
	_, err := third()
	require.NoError(t, err)
	one, err := first()
	require.NoError(t, err)
	two, err := second()
	require.NoError(t, err)
	require.Equal(t, []int64{1, 10, 11, 20}, []int64{one.First.Seq, one.Last.Seq, two.First.Seq, two.Last.Seq})
	require.False(t, two.At.Before(one.At))
	events, err := s.EventsAfter(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Len(t, events, 30)
	for i, e := range events {
		require.Equal(t, all.Events[i].AgentID, e.AgentID)
	}
	require.Zero(t, query[int](t, conn, "SELECT count(*) FROM agents WHERE agent_id LIKE 'changed%'"))

	failed := s.Begin(t.Context(), epoch-1, parts[0], nil)
	_, err = s.Begin(t.Context(), epoch, parts[1], failed)()
	require.ErrorIs(t, err, store.ErrFenced)
	require.Equal(t, 30, query[int](t, conn, "SELECT count(*) FROM events"))
}

func TestTheNumberOfStatementsDoesNotDependOnTheNumberOfAgents(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	w := newWire(t, url)
	s := open(t, w.url)
	epoch := lead(t, s).Epoch
	statements := func(e failover.Effects) int64 {
		before := w.executed.Load()
		commit(t, s, epoch, e)
		return w.executed.Load() - before
	}
	commit(t, s, epoch, detected(1)) // begins the term
	one := statements(shifted(1, failover.Pending))
	require.Positive(t, one)
	require.Less(t, one, int64(25))
	require.Equal(t, one, statements(shifted(3000, failover.Pending)))
	// In place of the statement that updates those of the last commit: one that adds new ones.
	exec(t, connect(t, url), "TRUNCATE failovers")
	e := shifted(3000, failover.Pending)
	e.Created = e.Failovers
	require.LessOrEqual(t, statements(e), one+2, "COPY describes its table first")
}

func TestOneCommitRingsTheBellOnce(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	exec(t, conn, "LISTEN "+store.ChannelLog)
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, failover.Effects{Agents: shifted(1, failover.Detected).Agents}) // nothing to hear of
	commit(t, s, epoch, shifted(500, failover.Completed))
	commit(t, s, epoch, detected(1))
	for range 2 {
		n, err := conn.WaitForNotification(t.Context())
		require.NoError(t, err)
		require.Empty(t, n.Payload)
	}
	// Nothing else is in the queue: the next notification is our own.
	exec(t, conn, "SELECT pg_notify($1, 'end')", store.ChannelLog)
	n, err := conn.WaitForNotification(t.Context())
	require.NoError(t, err)
	require.Equal(t, "end", n.Payload)
}

func TestResultsAnswerCommandsOnce(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	type payload struct {
		FailoverID string
	}
	var ids []int64
	for i := range 3 {
		id, err := s.Submit(t.Context(), store.CommandForce, payload{fmt.Sprint(i)}, store.AuditEntry{Subject: "operator", RequestID: "request"})
		require.NoError(t, err)
		ids = append(ids, id)
	}
	commands, err := s.PendingCommands(t.Context(), 0, 2)
	require.NoError(t, err)
	require.Len(t, commands, 2)
	rest, err := s.PendingCommands(t.Context(), commands[1].ID, 2)
	require.NoError(t, err)
	commands = append(commands, rest...)
	require.Len(t, commands, 3)
	for i, c := range commands {
		require.Equal(t, ids[i], c.ID)
		require.Equal(t, store.CommandForce, c.Kind)
		require.JSONEq(t, fmt.Sprintf(`{"FailoverID":"%d"}`, i), string(c.Payload))
		require.Equal(t, "operator", c.By)
		require.Equal(t, "request", c.RequestID)
		require.Less(t, c.Age, time.Minute)
	}
	_, done, err := s.CommandResult(t.Context(), ids[0])
	require.NoError(t, err)
	require.False(t, done)

	want := failover.Result{CommandID: ids[0], Outcome: failover.OutcomeDone, Detail: "as it should be", Matched: 4, Forced: 3}
	commit(t, s, epoch, failover.Effects{Results: []failover.Result{want, {CommandID: ids[2], Outcome: failover.OutcomeConflict}}})
	commit(t, s, epoch, failover.Effects{Results: []failover.Result{{CommandID: ids[0], Outcome: failover.OutcomeRefused}}})
	got, done, err := s.CommandResult(t.Context(), ids[0])
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, want, got)
	commands, err = s.PendingCommands(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, commands, 1)
	require.Equal(t, ids[1], commands[0].ID)
	_, _, err = s.CommandResult(t.Context(), 999)
	require.ErrorIs(t, err, store.ErrNotFound)
}

// Readers that follow the log while it is written see every event once and in order.
func TestReadersSeeEveryEventOnceWhileItIsWritten(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	const commits, each = 30, 20
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var seq int64
			for seq < commits*each {
				events, err := s.EventsAfter(t.Context(), seq, 7)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range events {
					if e.Seq != seq+1 {
						t.Errorf("event %d after %d", e.Seq, seq)
						return
					}
					seq = e.Seq
				}
			}
		})
	}
	for range commits {
		commit(t, s, epoch, detected(each))
	}
	wg.Wait()
}

func TestACommitReplacesTheContactsOfItsAgents(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	e := shifted(3, failover.Pending)
	commit(t, s, epoch, e)

	e.Agents[0].Lists[0].Contacts = nil
	e.Agents[1].Lists[0].Contacts = []failover.Contact{{ID: "another", Channel: "CHAT", State: "ENDED"}}
	commit(t, s, epoch, failover.Effects{Agents: e.Agents[:2], RemovedAgents: nil})
	var ids []string
	for _, a := range e.Agents {
		contacts, err := s.Contacts(t.Context(), a.ID)
		require.NoError(t, err)
		for _, c := range contacts {
			ids = append(ids, a.ID+" "+c.ListRegion+" "+c.ID)
		}
	}
	require.Equal(t, []string{"agent-00001 us-east-1 another", "agent-00002 us-east-1 contact-agent-00002"}, ids)
}

// A view of all agents is true at its position: no event up to it is missing from it, no later one is in it.
func TestAgentViewsAgreeWithTheirPosition(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	group := &failover.Group{GroupConfig: failover.GroupConfig{Name: "main", Instances: []failover.Instance{{Region: "us-west-2"}}}}
	commit(t, s, epoch, failover.Effects{Groups: []*failover.Group{group}})
	done := make(chan error, 1)
	go func() {
		for i := range 20 {
			if _, err := s.Commit(t.Context(), epoch, shifted(50, []failover.Status{failover.Pending, failover.Completed}[i%2])); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for running := true; running; {
		select {
		case err := <-done:
			require.NoError(t, err)
			running = false
		default:
		}
		views, at, err := s.AgentViews(t.Context())
		require.NoError(t, err)
		if at.Seq == 0 {
			require.Empty(t, views)
			continue
		}
		// Commits add 50 events (pending) and 100 (completed) in turn.
		want := failover.AgentActive
		if at.Seq%150 == 50 {
			want = failover.AgentPending
		}
		require.Len(t, views, 50)
		for _, v := range views {
			require.Equal(t, want, v.State, "at %v", at)
			if want == failover.AgentPending {
				require.Equal(t, store.AgentView{
					AgentID: v.AgentID, Username: v.Username, Group: "main", TDG: "tdg", ActiveRegion: "us-east-1", State: want,
					NextActiveRegion: "us-west-2", FailoverID: "failover" + v.AgentID[5:], ContactIDs: []string{"contact-" + v.AgentID},
				}, v)
			} else {
				require.Equal(t, "us-west-2", v.ActiveRegion)
			}
		}
	}
}

func TestAgentEventsAfter(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, shifted(4, failover.Completed)) // 1..4 detected, 5..8 completed
	seqs := func(agents []string, after, upto int64, types []string, limit int) []int64 {
		events, err := s.AgentEventsAfter(t.Context(), agents, after, upto, types, limit)
		require.NoError(t, err)
		var out []int64
		for _, e := range events {
			out = append(out, e.Seq)
		}
		return out
	}
	require.Equal(t, []int64{2, 4, 6, 8}, seqs([]string{"agent-00003", "agent-00001", "agent-00003", "nobody"}, 0, 8, nil, 10))
	require.Equal(t, []int64{2, 4, 6}, seqs([]string{"agent-00001", "agent-00003"}, 0, 8, nil, 3))
	require.Equal(t, []int64{4, 6}, seqs([]string{"agent-00001", "agent-00003"}, 2, 7, nil, 10))
	require.Equal(t, []int64{6}, seqs([]string{"agent-00001"}, 0, 8, []string{"failoverCompleted"}, 10))
	require.Equal(t, []int64{5, 6}, seqs(nil, 0, 8, []string{"failoverCompleted"}, 2))
	require.Equal(t, []int64{3, 4, 5, 6, 7, 8}, seqs(nil, 2, 100, nil, 100))
	require.Empty(t, seqs([]string{}, 0, 8, nil, 10))
}

// A commit whose answer is lost may have happened. Loading again tells, and the log holds it once.
func TestAnAnswerThatIsLost(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	s := open(t, server.URL())
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, shifted(1, failover.Detected))

	server.Kill()
	_, err := s.Commit(t.Context(), epoch, shifted(1, failover.Completed))
	require.Error(t, err)
	require.True(t, store.IsUnavailable(err), "%v", err)
	require.True(t, store.IsUnavailable(s.Ping(t.Context())))

	server.Start()
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 5*time.Second, 10*time.Millisecond)
	snap, err := s.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, failover.Detected, snap.Agents[0].Failover.Status)
	commit(t, s, epoch, shifted(1, failover.Completed))
	events, err := s.EventsAfter(t.Context(), 0, 10)
	require.NoError(t, err)
	require.True(t, slices.IsSortedFunc(events, func(a, b store.LogEvent) int { return int(a.Seq - b.Seq) }))
	require.Len(t, events, 3)
}

func TestAStoreOpensWithoutADatabase(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{URL: "postgres://nobody@127.0.0.1:1/nothing"})
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Load(t.Context())
	require.Error(t, err)
	require.True(t, store.IsUnavailable(err), "%v", err)

	_, err = store.Open(t.Context(), store.Options{URL: "postgres://user:secret@host:port/db"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	require.False(t, store.IsUnavailable(pgx.ErrNoRows))
}

func TestFailuresAreCounted(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s, err := store.Open(t.Context(), store.Options{URL: postgrestest.NewEmptyDatabase(t), Metrics: store.NewMetrics(registry)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.NoError(t, s.Ping(t.Context()))
	_, err = s.Load(t.Context())
	require.ErrorContains(t, err, "failover_groups")
	_, err = s.Agent(t.Context(), "") // no failure: there is no such agent
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
		# HELP changeover_store_errors_total Calls of the store that failed, by operation. Fencing and missing rows are no failures.
		# TYPE changeover_store_errors_total counter
		changeover_store_errors_total{operation="agent"} 0
		changeover_store_errors_total{operation="load"} 1
		changeover_store_errors_total{operation="ping"} 0
		changeover_store_errors_total{operation="schema"} 0
	`)))
}

// A plan looks at the state while the leader commits, on the same replica: what it has seen is older than what the leader has left, and that is
// no loss.
func TestLookingDoesNotCount(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	lease := lead(t, s)
	_, err := s.Load(t.Context())
	require.NoError(t, err)
	blocker, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = blocker.Exec(t.Context(), "LOCK TABLE contacts") // the last but one that is looked at
	require.NoError(t, err)
	looked := make(chan error, 1)
	go func() {
		_, err := s.Look(t.Context())
		looked <- err
	}()
	require.Eventually(t, func() bool {
		return query[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'contacts'::regclass AND NOT granted)")
	}, 30*time.Second, time.Millisecond)
	commit(t, s, lease.Epoch, detected(1)) // which needs no contacts
	require.NoError(t, blocker.Rollback(t.Context()))
	require.NoError(t, <-looked)
	commit(t, s, lease.Epoch, detected(1))
	_, ok, err := s.RenewLease(t.Context(), lease, "test", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
}

// The database fails over without the last commits of a leader that is idle just then, so that no call of it fails: its next renewal and its
// next commit tell. Other stores, and a leader that has loaded again, have nothing to complain of.
func TestLostCommitsAreNoticed(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	lease := lead(t, s)
	commit(t, s, lease.Epoch, detected(1))
	_, err := s.Load(t.Context())
	require.NoError(t, err)
	commit(t, s, lease.Epoch, detected(1))
	first := s.Begin(t.Context(), lease.Epoch, detected(1), nil)
	second := s.Begin(t.Context(), lease.Epoch, failover.Effects{Agents: shifted(1, failover.Pending).Agents}, first) // without events
	_, err = second()
	require.NoError(t, err)
	lease, ok, err := s.RenewLease(t.Context(), lease, "test", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)

	exec(t, conn, "UPDATE event_log SET commits = commits - 1")
	_, _, err = s.RenewLease(t.Context(), lease, "test", time.Minute)
	require.ErrorIs(t, err, store.ErrLost)
	_, err = s.Commit(t.Context(), lease.Epoch, detected(1))
	require.ErrorIs(t, err, store.ErrLost)
	require.Equal(t, 3, query[int](t, conn, "SELECT count(*) FROM events"), "nothing is written")

	next, ok, err := s.SucceedLease(t.Context(), lease, "test", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	_, err = s.Load(t.Context())
	require.NoError(t, err)
	commit(t, s, next.Epoch, detected(1))
	_, ok, err = s.RenewLease(t.Context(), next, "test", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
}
