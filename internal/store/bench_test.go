package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// BenchmarkCommit writes a shift of 10,000 agents: every one is detected; then every one is completed, or three in ten become pending and the
// others are completed. The server runs without fsync (see postgrestest).
func BenchmarkCommit(b *testing.B) {
	const agents = 10_000
	s, conn := newStore(b)
	lease, ok, err := s.AcquireLease(b.Context(), "bench", time.Hour)
	require.NoError(b, err)
	require.True(b, ok)
	found := shifted(agents, failover.Detected)
	completed := shifted(agents, failover.Completed)
	completed.Events = completed.Events[agents:] // those of the detection are in the first commit
	pending := shifted(agents, failover.Pending)
	for i := range agents * 3 / 10 {
		completed.Agents[i], completed.Failovers[i] = pending.Agents[i], pending.Failovers[i]
		completed.Events[i].Type, completed.Events[i].ContactIDs = failover.EventFailoverPending, pending.Failovers[i].ContactIDs
	}
	both := shifted(agents, failover.Completed)
	found.Created, both.Created = found.Failovers, both.Failovers

	commits := func(b *testing.B, effects ...failover.Effects) {
		for b.Loop() {
			b.StopTimer()
			exec(b, conn, "TRUNCATE failovers, contacts")
			exec(b, conn, "VACUUM agents") // autovacuum's work, which a benchmark gives it no time for
			b.StartTimer()
			for _, e := range effects {
				_, err := s.Commit(b.Context(), lease.Epoch, e)
				require.NoError(b, err)
			}
		}
	}
	b.Run("detected", func(b *testing.B) { commits(b, found) })
	b.Run("detected-then-completed-or-pending", func(b *testing.B) { commits(b, found, completed) })
	b.Run("detected-and-completed-at-once", func(b *testing.B) { commits(b, both) })
}

// BenchmarkSmallCommit writes one agent's failover: what a commit costs at least.
func BenchmarkSmallCommit(b *testing.B) {
	s, _ := newStore(b)
	lease, _, err := s.AcquireLease(b.Context(), "bench", time.Hour)
	require.NoError(b, err)
	e := shifted(1, failover.Pending)
	for b.Loop() {
		_, err := s.Commit(b.Context(), lease.Epoch, e)
		require.NoError(b, err)
	}
}

// BenchmarkLoad reads 100,000 agents, three in ten of them with a contact and a pending failover.
func BenchmarkLoad(b *testing.B) {
	s := fleet(b, 100_000)
	b.Run("state", func(b *testing.B) {
		for b.Loop() {
			snap, err := s.Load(b.Context())
			require.NoError(b, err)
			require.Len(b, snap.Agents, 100_000)
		}
	})
	b.Run("views", func(b *testing.B) {
		for b.Loop() {
			views, _, err := s.AgentViews(b.Context())
			require.NoError(b, err)
			require.Len(b, views, 100_000)
		}
	})
	b.Run("summary", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Summary(b.Context())
			require.NoError(b, err)
		}
	})
	b.Run("page-of-agents", func(b *testing.B) {
		for b.Loop() {
			_, _, err := s.Agents(b.Context(), store.AgentFilter{State: failover.AgentPending}, store.Page{})
			require.NoError(b, err)
		}
	})
	b.Run("page-of-failovers", func(b *testing.B) {
		for b.Loop() {
			_, _, err := s.Failovers(b.Context(), store.FailoverFilter{TDG: "tdg", Status: failover.Pending}, store.Page{})
			require.NoError(b, err)
		}
	})
}

// BenchmarkEvents reads from a log of 100,000 events: the tail as a replica does, and the history of agents that come back.
func BenchmarkEvents(b *testing.B) {
	s := fleet(b, 100_000)
	b.Run("tail-10000", func(b *testing.B) {
		for b.Loop() {
			events, err := s.EventsAfter(b.Context(), 50_000, 10_000)
			require.NoError(b, err)
			require.Len(b, events, 10_000)
		}
	})
	for _, n := range []int{1, 1000} {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprintf("agent-%05d", i*50)
		}
		b.Run(fmt.Sprintf("agents-%d", n), func(b *testing.B) {
			for b.Loop() {
				events, err := s.AgentEventsAfter(b.Context(), ids, 0, 100_000, nil, 10_000)
				require.NoError(b, err)
				require.Len(b, events, n)
			}
		})
	}
}

// fleet is a store with agents, three in ten of them pending, and an event for each.
func fleet(b *testing.B, agents int) *store.Store {
	b.Helper()
	s, conn := newStore(b)
	lease, _, err := s.AcquireLease(b.Context(), "bench", time.Hour)
	require.NoError(b, err)
	all, pending := shifted(agents, failover.Completed), shifted(agents*3/10, failover.Pending)
	all.Events = all.Events[:agents]
	for i, a := range all.Agents {
		a.Failover, a.Last = nil, nil
		if i < len(pending.Agents) {
			all.Agents[i], all.Failovers[i] = pending.Agents[i], pending.Failovers[i]
		}
	}
	_, err = s.Commit(b.Context(), lease.Epoch, all)
	require.NoError(b, err)
	exec(b, conn, "VACUUM ANALYZE")
	return s
}

// BenchmarkTickets issues and redeems the tickets of 20,000 desktops that come at once, on two replicas.
func BenchmarkTickets(b *testing.B) {
	const herd = 20_000
	s, conn := newStore(b)
	replicas := []*store.Store{s, open(b, conn.Config().ConnString())}
	ticket := aTicket()
	all := func(do func(i int) error) {
		var wg sync.WaitGroup
		for i := range herd {
			wg.Go(func() {
				if err := do(i); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	issue := func() {
		all(func(i int) error {
			_, err := replicas[i%2].IssueTicket(b.Context(), hashOf(i), ticket)
			return err
		})
	}
	b.Run("issue-20000", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			exec(b, conn, "TRUNCATE stream_tickets")
			b.StartTimer()
			issue()
		}
	})
	b.Run("redeem-20000", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			exec(b, conn, "TRUNCATE stream_tickets")
			issue()
			b.StartTimer()
			all(func(i int) error {
				_, err := replicas[i/2%2].RedeemTicket(b.Context(), hashOf(i))
				return err
			})
		}
	})
	b.Run("redeem-1", func(b *testing.B) { // alone, without a herd
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			_, err := s.IssueTicket(b.Context(), hashOf(herd+i), ticket)
			require.NoError(b, err)
			b.StartTimer()
			_, err = s.RedeemTicket(b.Context(), hashOf(herd+i))
			require.NoError(b, err)
		}
	})
}

// BenchmarkAudit adds entries to the chain: one after the other, of a crowd on two replicas, together with commands; and verifies it.
func BenchmarkAudit(b *testing.B) {
	s, conn := newStore(b)
	replicas := []*store.Store{s, open(b, conn.Config().ConnString())}
	entry := store.AuditEntry{
		Subject: "operator@example.com", Roles: []string{"operator"}, Action: "forceFailover", Target: "failovers/01a2034d-9b36-7e3d-9d11-8fc6502ddc09",
		Reason: "the caller agreed", RequestID: "8e03978e-40d5-43e8-bc93-6894a57f9324", Outcome: "accepted", Before: []byte(`{"status":"pending"}`),
	}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, s.AppendAudit(b.Context(), entry))
		}
	})
	crowd := func(b *testing.B, do func(s *store.Store) error) {
		b.SetParallelism(250) // callers on each core
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			replica := replicas[next.Add(1)%2]
			for pb.Next() {
				if err := do(replica); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.Run("crowd", func(b *testing.B) {
		crowd(b, func(s *store.Store) error { return s.AppendAudit(b.Context(), entry) })
	})
	b.Run("crowd-with-commands", func(b *testing.B) {
		crowd(b, func(s *store.Store) error {
			_, err := s.Submit(b.Context(), store.CommandReport, "x", entry)
			return err
		})
	})
	exec(b, conn, `INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details)
		SELECT 'subject ' || i, '{operator,viewer}', 'force', 'target', 'reason', 'request', 'accepted', '{"a": 1}' FROM generate_series(1, 20000) i`)
	b.Run("verify", func(b *testing.B) {
		entries := int64(0)
		for b.Loop() {
			report, err := s.VerifyAudit(b.Context())
			require.NoError(b, err)
			require.Zero(b, report.Bad)
			entries += report.Entries
		}
		b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
	})
}

// BenchmarkConsole reads what a console shows of a shift of 50,000 agents, 15,000 of whom wait.
func BenchmarkConsole(b *testing.B) {
	s := fleet(b, 50_000)
	page := store.Page{Limit: 200}
	for name, f := range map[string]store.OpenFilter{
		"open": {}, "open-by-name": {Order: "username"}, "open-talking": {Phase: "talking"}, "open-by-channel": {Channel: "VOICE"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				open, totals, _, err := s.OpenFailovers(b.Context(), f, page)
				require.NoError(b, err)
				require.Len(b, open, 200)
				require.Equal(b, 15_000, totals.Failovers)
			}
		})
	}
	b.Run("summary", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Summary(b.Context())
			require.NoError(b, err)
		}
	})
	b.Run("agents-by-name", func(b *testing.B) {
		for b.Loop() {
			_, next, err := s.Agents(b.Context(), store.AgentFilter{ByName: true}, page)
			require.NoError(b, err)
			_, _, err = s.Agents(b.Context(), store.AgentFilter{ByName: true}, store.Page{Limit: 200, Cursor: next})
			require.NoError(b, err)
		}
	})
	b.Run("search", func(b *testing.B) {
		for b.Loop() {
			_, _, err := s.Agents(b.Context(), store.AgentFilter{Search: "agent-049"}, page)
			require.NoError(b, err)
		}
	})
}

// BenchmarkStreamingAgents is what the leader asks every few seconds, with 50,000 streams on three replicas.
func BenchmarkStreamingAgents(b *testing.B) {
	const agents = 50_000
	s, _ := newStore(b)
	for replica := range 3 {
		var opened []store.Connection
		for i := replica; i < agents; i += 3 {
			opened = append(opened, store.Connection{ID: fmt.Sprintf("connection-%d", i), AgentID: fmt.Sprintf("%08d-1111-2222-3333-444455556666", i), Since: time.Now()})
		}
		require.NoError(b, s.SyncConnections(b.Context(), fmt.Sprintf("replica-%d", replica), opened, nil))
	}
	b.ReportAllocs()
	for b.Loop() {
		since, err := s.StreamingAgents(b.Context())
		require.NoError(b, err)
		require.Len(b, since, agents)
	}
}
