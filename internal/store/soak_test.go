package store_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

// weekVariable starts the soak, which takes minutes: make soak/week.
const weekVariable = "SOAK_WEEK"

// A simulated week, an hour at a time by the clock of a real PostgreSQL: each hour a shift of everybody with contacts, reports, forces with keys,
// tickets, streams that come and go, a new leader, replicas with new names each day; and the leader's maintenance. With events kept for a
// day, and failovers and the audit for two, the database is as large on the last day as on the fourth.
func TestSoakOfAWeek(t *testing.T) {
	if os.Getenv(weekVariable) == "" {
		t.Skip("takes minutes: make soak/week")
	}
	const agents, hours, retained = 400, 7 * 24, 24 * time.Hour
	server, clock := postgrestest.StartClocked(t, map[string]string{
		"autovacuum_naptime": "1s", "fsync": "off", "max_wal_size": "64MB", "min_wal_size": "32MB", // one second is more than an hour here
	})
	s, err := store.Open(t.Context(), store.Options{URL: server.URL(), History: 48 * time.Hour, Log: discard})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.NoError(t, store.SetAuditRetention(t.Context(), server.URL(), 48*time.Hour))
	conn := connect(t, server.URL())
	sizes := map[int]int64{}
	for hour := 1; hour <= hours; hour++ {
		clock.Ahead(time.Duration(hour) * time.Hour)
		now := query[time.Time](t, conn, "SELECT clock_timestamp()")
		require.WithinDuration(t, time.Now().Add(time.Duration(hour)*time.Hour), now, time.Minute, "the clock does not follow")
		soakHour(t, s, lead(t, s).Epoch, hour, agents, now)
		require.NoError(t, s.MaintainPartitions(t.Context(), retained))
		require.NoError(t, s.Prune(t.Context()))
		if hour%24 == 0 {
			day := hour / 24
			sizes[day] = query[int64](t, conn, "SELECT pg_database_size(current_database())")
			t.Logf("day %d: %5.1f MB; %s", day, float64(sizes[day])/1e6, query[string](t, conn, `
				SELECT string_agg(format('%s %s', name, round(size / 1e6, 1)), ', ' ORDER BY size DESC) FROM (
					SELECT regexp_replace(relname, '_[0-9]{8}$', '') AS name, sum(pg_total_relation_size(oid)) AS size
					FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY 1) t WHERE size > 100000`))
		}
	}
	require.Less(t, float64(sizes[7]), 1.15*float64(sizes[4]), "it grows")
	report, err := s.VerifyAudit(t.Context())
	require.NoError(t, err)
	require.Zero(t, report.Bad, report.Faults)
	require.NotZero(t, report.Pruned)
	st, err := s.LogState(t.Context())
	require.NoError(t, err)
	require.Greater(t, st.OldestSeq, int64(agents))
	require.Less(t, len(st.Terms), 60, "terms of the days that are kept")
	_, err = s.EventsAfter(t.Context(), 0, 10)
	require.ErrorIs(t, err, store.ErrPruned)
	events, err := s.EventsAfter(t.Context(), st.OldestSeq-1, 10)
	require.NoError(t, err)
	require.Len(t, events, 10)
}

// soakHour is what happens in an hour.
func soakHour(t *testing.T, s *store.Store, epoch int64, hour, agents int, now time.Time) {
	t.Helper()
	ctx := t.Context()
	for _, status := range []failover.Status{failover.Pending, failover.Completed} {
		e := shifted(agents, status)
		for i, f := range e.Failovers {
			f.ID, f.DetectedAt = fmt.Sprintf("failover-%05d-%05d", hour, i), now
		}
		for i := range e.Events {
			e.Events[i].FailoverID = strings.Replace(e.Events[i].FailoverID, "failover-", fmt.Sprintf("failover-%05d-", hour), 1)
			e.Events[i].Time = now
		}
		if status == failover.Completed {
			e.Events = e.Events[agents:] // they were detected before
			e.Changes = []failover.Change{{TDG: "tdg", Group: "main", ObservedAt: now, ObservedBy: "us-east-1",
				After: failover.Distributions{Agents: failover.Distribution{{Region: "us-west-2", Percent: hour % 100}}}}}
		}
		commit(t, s, epoch, e)
	}
	var results []failover.Result
	for i := range 50 {
		id, err := s.Submit(ctx, store.CommandReport, fmt.Sprint(i), store.AuditEntry{Subject: fmt.Sprintf("agent-%05d", i), Action: "report"})
		require.NoError(t, err)
		results = append(results, failover.Result{CommandID: id, Outcome: failover.OutcomeDone})
		key := fmt.Sprintf("%d-%d", hour, i)
		_, err = s.BeginIdempotent(ctx, "operator", key, []byte(key))
		require.NoError(t, err)
		require.NoError(t, s.FinishIdempotent(ctx, "operator", key, store.Answer{Status: 202, ContentType: "application/json", Body: []byte(`{"a":"b"}`)}))
		hash := sha256.Sum256([]byte(key))
		_, err = s.IssueTicket(ctx, hash, store.Ticket{AgentID: "agent", Subject: "agent", TokenExpiresAt: now.Add(time.Hour)})
		require.NoError(t, err)
		if i%2 == 0 {
			_, err = s.RedeemTicket(ctx, hash)
			require.NoError(t, err)
		}
	}
	commit(t, s, epoch, failover.Effects{Results: results})
	replica := fmt.Sprintf("replica-%d", hour/24)
	var opened []store.Connection
	var closed []string
	for i := range agents {
		opened = append(opened, store.Connection{ID: fmt.Sprintf("%s-%d-%d", replica, hour, i), Replica: replica, AgentID: fmt.Sprint(i), Since: now})
		closed = append(closed, fmt.Sprintf("%s-%d-%d", replica, hour-1, i))
	}
	require.NoError(t, s.SyncConnections(ctx, replica, opened, closed))
}
