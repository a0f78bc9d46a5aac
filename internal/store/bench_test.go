package store_test

import (
	"fmt"
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
