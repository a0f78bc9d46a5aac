package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

var start = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

var discard = logtest.New(nil)

// open opens a store that is closed with the test.
func open(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: url, Log: logtest.New(nil)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// newStore opens a store on a new database, and a connection to look behind it.
func newStore(t testing.TB) (*store.Store, *pgx.Conn) {
	t.Helper()
	url := postgrestest.NewDatabase(t)
	return open(t, url), connect(t, url)
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// query returns one value.
func query[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

// lead acquires the lease.
func lead(t testing.TB, s *store.Store) store.Lease {
	t.Helper()
	lease, ok, err := s.AcquireLease(t.Context(), "test", time.Minute)
	require.NoError(t, err)
	require.True(t, ok, "the lease is taken")
	return lease
}

// depose makes the lease expire.
func depose(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, "UPDATE leases SET expires_at = '-infinity'")
}

func commit(t testing.TB, s *store.Store, epoch int64, e failover.Effects) store.Committed {
	t.Helper()
	c, err := s.Commit(t.Context(), epoch, e)
	require.NoError(t, err)
	return c
}

// detected are n events of as many agents.
func detected(n int) failover.Effects {
	var e failover.Effects
	for i := range n {
		e.Events = append(e.Events, &failover.Event{
			Type: failover.EventFailoverDetected, AgentID: fmt.Sprintf("agent-%05d", i), Group: "main", TDG: "tdg",
			FailoverID: fmt.Sprintf("failover-%05d", i), Time: start, NextRegion: "us-west-2",
		})
	}
	return e
}

// shifted are n agents that are detected, pending or completed.
func shifted(n int, status failover.Status) failover.Effects {
	e := detected(n)
	for i := range n {
		id := fmt.Sprintf("agent-%05d", i)
		f := &failover.Failover{
			ID: fmt.Sprintf("failover-%05d", i), AgentID: id, Group: "main", TDG: "tdg", From: "us-east-1", To: "us-west-2", Status: status,
			Cause: failover.SourceDistribution, DetectedAt: start.Add(time.Duration(i) * time.Millisecond), LastOldAt: start,
		}
		a := &failover.Agent{
			ID: id, Username: fmt.Sprintf("user%05d", i), Group: "main", TDG: "tdg", RoutingProfile: "profile", ActiveRegion: "us-east-1",
			RegionSource: failover.SourceDistribution, ObservedAt: start, Failover: f, Streaming: true,
			Lists: []failover.ContactList{
				{Region: "us-east-1", ReadAt: start, Present: true, SeenAt: start},
				{Region: "us-west-2", ReadAt: start, SeenAt: start},
			},
		}
		switch status {
		case failover.Pending:
			f.PendingAt = start
			f.ContactIDs, f.InitialContactIDs = []string{"contact-" + id}, []string{"contact-" + id}
			a.Lists[0].Contacts = []failover.Contact{{
				ID: "contact-" + id, Channel: "VOICE", State: "CONNECTED", Region: "us-east-1", StateSince: start, Began: start, ObservedAt: start,
				Blocking: true, Surfaced: true,
			}}
		case failover.Completed:
			f.CompletedAt, f.Evidence = start.Add(time.Second), failover.Inferred
			a.ActiveRegion, a.Failover, a.Last = "us-west-2", nil, f
			e.Events = append(e.Events, &failover.Event{
				Type: failover.EventFailoverCompleted, AgentID: id, Group: "main", TDG: "tdg", FailoverID: f.ID, Time: start,
				ActiveRegion: "us-west-2", ActiveCCPURL: "https://b.my.connect.aws/ccp-v2/", PreviousRegion: "us-east-1", Evidence: failover.Inferred,
			})
		}
		e.Agents = append(e.Agents, a)
		e.Failovers = append(e.Failovers, f)
	}
	return e
}
