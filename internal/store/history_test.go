package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

// What is over for long goes; what an agent still holds, what is open and the current shift stay, however old.
func TestHistoryIsPruned(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	s, err := store.Open(t.Context(), store.Options{URL: url, History: 48 * time.Hour})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	conn := connect(t, url)
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, shifted(3, failover.Pending))
	var ids []string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT array_agg(failover_id ORDER BY agent_id) FROM failovers").Scan(&ids))
	exec(t, conn, "UPDATE failovers SET detected_at = now() - interval '3 days'")
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, 3, query[int](t, conn, "SELECT count(*) FROM failovers"), "they are open")
	exec(t, conn, "UPDATE failovers SET status = 'completed'")
	exec(t, conn, "UPDATE agents SET failover_id = '', last_failover_id = failover_id WHERE failover_id = $1", ids[0])
	exec(t, conn, "UPDATE agents SET failover_id = '' WHERE failover_id <> ''")
	exec(t, conn, "UPDATE failovers SET detected_at = now() - interval '47 hours' WHERE failover_id = $1", ids[1])
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, 2, query[int](t, conn, "SELECT count(*) FROM failovers WHERE failover_id IN ($1, $2)", ids[0], ids[1]))
	require.Equal(t, 2, query[int](t, conn, "SELECT count(*) FROM failovers"))

	change := func(tdg string, agents int, age time.Duration) failover.Change {
		return failover.Change{TDG: tdg, ObservedAt: time.Now().Add(-age), After: failover.Distributions{Agents: failover.Distribution{{Region: "us-east-1", Percent: agents}}}}
	}
	commit(t, s, epoch, failover.Effects{Changes: []failover.Change{
		change("one", 100, 90*day), change("one", 0, 80*day), change("one", 100, 70*day), {TDG: "one", ObservedAt: time.Now().Add(-60 * day)},
		change("two", 100, 10*day), change("two", 0, day), {TDG: "three", ObservedAt: time.Now().Add(-60 * day)},
	}})
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, 2, query[int](t, conn, "SELECT count(*) FROM distribution_changes WHERE tdg_id = 'one'"), "the current shift, and what came after it")
	require.Equal(t, 1, query[int](t, conn, "SELECT count(*) FROM distribution_changes WHERE tdg_id = 'two'"))

	exec(t, conn, `INSERT INTO drills (drill_id, failover_group, started_at, ended_at, report)
		VALUES ('old', 'main', now() - interval '4 days', now() - interval '3 days', '{}'), ('running', 'main', now() - interval '4 days', NULL, '{}')`)
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, "running", query[string](t, conn, "SELECT string_agg(drill_id, ',') FROM drills"))

	forever := open(t, url)
	exec(t, conn, "UPDATE failovers SET detected_at = '-infinity' WHERE failover_id = $1", ids[1])
	require.NoError(t, forever.Prune(t.Context()))
	require.Equal(t, 2, query[int](t, conn, "SELECT count(*) FROM failovers"), "no retention")
}

// A program that is too old for the schema says so, and what to do; one that is merely older works on it.
func TestASchemaThatIsTooNew(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	exec(t, conn, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)")
	require.NoError(t, s.CheckSchema(t.Context()))
	exec(t, conn, "UPDATE schema_programs SET oldest = 98")
	err := s.CheckSchema(t.Context())
	require.ErrorIs(t, err, store.ErrNewSchema)
	require.ErrorContains(t, err, "needs a program that knows version 98, this one knows 3: run a newer version")
}
