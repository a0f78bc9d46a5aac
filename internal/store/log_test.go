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

const retention = 24 * time.Hour

// moveEvents makes the partition of a day in the past, and moves events there.
func moveEvents(t *testing.T, conn *pgx.Conn, daysAgo int, from, to int64) {
	t.Helper()
	var name string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT 'events_' || to_char((now() AT TIME ZONE 'UTC')::date - $1::int, 'YYYYMMDD')", daysAgo).Scan(&name))
	exec(t, conn, fmt.Sprintf(`DO $$ BEGIN EXECUTE format('CREATE TABLE IF NOT EXISTS %s PARTITION OF events FOR VALUES FROM (%%L) TO (%%L)',
		(now() AT TIME ZONE 'UTC')::date - %d, (now() AT TIME ZONE 'UTC')::date - %d); END $$`, name, daysAgo, daysAgo-1))
	exec(t, conn, "UPDATE events SET day = day - $1::int WHERE seq BETWEEN $2 AND $3", daysAgo, from, to)
}

func partitions(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return query[int](t, conn, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")
}

func TestRetentionDropsWholeDaysFromTheBeginning(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	first := lead(t, s).Epoch
	commit(t, s, first, detected(10))
	depose(t, conn)
	second := lead(t, s).Epoch
	commit(t, s, second, detected(10))
	depose(t, conn)
	third := lead(t, s).Epoch
	commit(t, s, third, detected(10))
	moveEvents(t, conn, 3, 1, 12)
	moveEvents(t, conn, 2, 13, 15)
	moveEvents(t, conn, 1, 16, 25)
	before := partitions(t, conn)

	require.NoError(t, s.MaintainPartitions(t.Context(), retention))
	require.NoError(t, s.MaintainPartitions(t.Context(), retention)) // nothing left to do
	require.Equal(t, before-2, partitions(t, conn), "yesterday may still hold events of the last 24 hours")
	st, err := s.LogState(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(16), st.OldestSeq)
	require.Equal(t, store.Position{Epoch: third, Seq: 30}, st.Head)
	require.Equal(t, []store.Term{{Epoch: second, FirstSeq: 11}, {Epoch: third, FirstSeq: 21}}, st.Terms, "the first term has no event left")
	require.Equal(t, second, epochOf(&st, 15), "the last one before the oldest is a good position too")

	events, err := s.EventsAfter(t.Context(), 15, 100)
	require.NoError(t, err)
	require.Len(t, events, 15)
	_, err = s.EventsAfter(t.Context(), 14, 100)
	require.ErrorIs(t, err, store.ErrPruned)
	_, err = s.AgentEventsAfter(t.Context(), []string{"agent-00001"}, 14, 30, nil, 100)
	require.ErrorIs(t, err, store.ErrPruned)
	_, err = s.AgentEventsAfter(t.Context(), nil, 14, 30, nil, 100)
	require.ErrorIs(t, err, store.ErrPruned)
	got, err := s.AgentEventsAfter(t.Context(), []string{"agent-00001"}, 15, 30, nil, 100)
	require.NoError(t, err)
	require.Len(t, got, 1)

	// The log goes on, and everything may go.
	moveEvents(t, conn, 4, 1, 100)
	require.NoError(t, s.MaintainPartitions(t.Context(), retention))
	st, err = s.LogState(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(31), st.OldestSeq)
	require.Equal(t, []store.Term{{Epoch: third, FirstSeq: 21}}, st.Terms)
	require.Equal(t, int64(31), commit(t, s, third, detected(1)).First.Seq)
}

// Nobody made a partition for today: the service was away for long, or its clock is not the database's.
func TestAMissingPartitionFailsNoCommit(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	exec(t, conn, `DO $$ DECLARE p regclass; BEGIN
		FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass AND inhrelid <> 'events_default'::regclass
		LOOP EXECUTE format('DROP TABLE %s', p); END LOOP; END $$`)
	require.Equal(t, 1, partitions(t, conn))
	commit(t, s, epoch, detected(3))
	require.Equal(t, 3, query[int](t, conn, "SELECT count(*) FROM events_default"))

	// The day that began in the default partition stays there; the others are made.
	require.NoError(t, s.MaintainPartitions(t.Context(), retention))
	require.Equal(t, 1+3, partitions(t, conn))
	commit(t, s, epoch, detected(3))
	events, err := s.EventsAfter(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, events, 6)

	// Retention holds there too.
	exec(t, conn, "UPDATE events SET day = day - 3 WHERE seq <= 4")
	require.NoError(t, s.MaintainPartitions(t.Context(), retention))
	st, err := s.LogState(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(5), st.OldestSeq)
	require.Equal(t, 2, query[int](t, conn, "SELECT count(*) FROM events"))
}

// Somebody reads the log for long, a backup perhaps, when a day has to be dropped: neither commits nor other readers wait for long, and the day goes
// when the reader has gone.
func TestDroppingADayHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, detected(10))
	moveEvents(t, conn, 3, 1, 5)
	before := partitions(t, conn)
	reader, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "SELECT * FROM events")
	require.NoError(t, err)

	maintained := make(chan error, 1)
	go func() { maintained <- s.MaintainPartitions(t.Context(), retention) }()
	calls := 0
	for over := false; !over; calls++ {
		began := time.Now()
		commit(t, s, epoch, detected(1))
		_, err := s.EventsAfter(t.Context(), 9, 10)
		require.NoError(t, err)
		require.Less(t, time.Since(began), time.Second, "it waits for the maintenance")
		select {
		case err = <-maintained:
			require.ErrorContains(t, err, "lock timeout")
			over = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	require.Greater(t, calls, 30)
	require.NoError(t, reader.Rollback(t.Context()))
	require.NoError(t, s.MaintainPartitions(t.Context(), retention))
	require.Equal(t, before-1, partitions(t, conn))
	_, err = s.EventsAfter(t.Context(), 0, 10)
	require.ErrorIs(t, err, store.ErrPruned)
}

// Maintenance and commits take the same locks in the same order: none of them fails, neither ever waits for the other in a circle.
func TestMaintenanceAndCommitsTogether(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, detected(100))
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := s.Commit(t.Context(), epoch, detected(50)); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 10 {
		moveEvents(t, conn, 3, int64(i*5), int64(i*5+5))
		require.NoError(t, s.MaintainPartitions(t.Context(), retention))
		exec(t, conn, "DROP TABLE events_"+query[string](t, conn, "SELECT to_char((now() AT TIME ZONE 'UTC')::date + 3, 'YYYYMMDD')"))
	}
	close(stop)
	require.NoError(t, <-done)
}

func TestListenHearsAndReconnects(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	s, conn := open(t, url), connect(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- s.Listen(ctx, []string{store.ChannelLog, store.ChannelInbox}, func(channel string) { heard <- channel })
	}()
	next := func() string {
		select {
		case c := <-heard:
			return c
		case <-time.After(10 * time.Second):
			t.Fatal("heard nothing")
			return ""
		}
	}
	require.Equal(t, store.ChannelLog, next(), "something may have happened before it listened")
	require.Equal(t, store.ChannelInbox, next())
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, detected(1))
	require.Equal(t, store.ChannelLog, next())
	_, err := s.Submit(t.Context(), store.CommandReport, "x", store.AuditEntry{})
	require.NoError(t, err)
	require.Equal(t, store.ChannelInbox, next())

	for range 2 {
		exec(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
		require.Equal(t, store.ChannelLog, next(), "something may have happened meanwhile")
		require.Equal(t, store.ChannelInbox, next())
		commit(t, s, epoch, detected(1))
		require.Equal(t, store.ChannelLog, next())
	}
	cancel()
	require.NoError(t, <-done)
}

func TestListenNeedsNoDatabaseToBegin(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	server.Stop()
	s := open(t, server.URL())
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan string, 10), make(chan error, 1)
	go func() {
		done <- s.Listen(ctx, []string{store.ChannelLog}, func(channel string) { heard <- channel })
	}()
	server.Start()
	require.Equal(t, store.ChannelLog, <-heard)
	cancel()
	require.NoError(t, <-done)
}

func TestHealthIsThatOfTheLastLeader(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	down := store.RegionHealth{Group: "main", Region: "us-east-1", State: "down", Since: start, LastError: "i/o timeout", LastErrorAt: start}
	well := store.RegionHealth{Group: "main", Region: "us-west-2", State: "healthy", Since: start, LastSuccess: start.Add(time.Minute)}
	require.NoError(t, s.SaveHealth(t.Context(), epoch, []store.RegionHealth{well, {Group: "main", Region: "us-east-1", State: "healthy"}}))
	require.NoError(t, s.SaveHealth(t.Context(), epoch, []store.RegionHealth{down}))
	health, err := s.Health(t.Context())
	require.NoError(t, err)
	for i := range health {
		require.WithinDuration(t, time.Now(), health[i].UpdatedAt, time.Minute)
		health[i].UpdatedAt = time.Time{}
	}
	require.Equal(t, []store.RegionHealth{down, well}, health)
}

func TestMigrateTogetherAndAgain(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewEmptyDatabase(t)
	conn := connect(t, url)
	s := open(t, url)
	require.ErrorContains(t, s.CheckSchema(t.Context()), "server migrate")
	failed := make(chan error)
	for range 4 {
		go func() { failed <- store.Migrate(t.Context(), url, logtest.New(nil)) }()
	}
	for range 4 {
		require.NoError(t, <-failed)
	}
	require.NoError(t, s.CheckSchema(t.Context()))
	commit(t, s, lead(t, s).Epoch, shifted(1, failover.Pending))
	logID := query[string](t, conn, "SELECT log_id FROM event_log")
	require.Len(t, logID, 12)
	require.NoError(t, store.Migrate(t.Context(), url, logtest.New(nil)))
	require.Equal(t, logID, query[string](t, conn, "SELECT log_id FROM event_log"))
	require.Equal(t, 1, query[int](t, conn, "SELECT count(*) FROM events"))

	// A schema that is newer is fine: old replicas go on during a rolling update.
	exec(t, conn, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)")
	require.NoError(t, s.CheckSchema(t.Context()))
}

// What a program remembers of its own commits is what another one reads; of a commit that failed it remembers nothing.
func TestFreshEventsAreThoseOfTheLog(t *testing.T) {
	t.Parallel()
	var s *store.Store
	var told []store.LogEvent // what was remembered when the commit was told of
	s, err := store.Open(t.Context(), store.Options{
		URL: postgrestest.NewDatabase(t), Log: logtest.New(nil), Committed: func() { told = s.FreshEvents(0, 1000) },
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	epoch := lead(t, s).Epoch
	require.Nil(t, s.FreshEvents(0, 1000))
	var fresh []store.LogEvent
	var c store.Committed
	for try := 0; fresh == nil && try < 20; try++ { // on a busy machine a second may be over
		c = commit(t, s, epoch, shifted(10, failover.Completed))
		fresh = s.FreshEvents(c.First.Seq-1, 1000)
		if c.First.Seq == 1 {
			require.Len(t, told, 20)
		}
	}
	read, err := s.EventsAfter(t.Context(), c.First.Seq-1, 1000)
	require.NoError(t, err)
	require.Len(t, read, 20)
	require.Len(t, fresh, 20)
	for i := range fresh { // but for the location of times
		require.True(t, fresh[i].Time.Equal(read[i].Time) && fresh[i].CommittedAt.Equal(read[i].CommittedAt))
		fresh[i].Time, fresh[i].CommittedAt = read[i].Time, read[i].CommittedAt
	}
	require.Equal(t, read, fresh)
	_, err = s.Commit(t.Context(), epoch-1, detected(1))
	require.ErrorIs(t, err, store.ErrFenced)
	require.Nil(t, s.FreshEvents(c.First.Seq-1, 1000))

	c = commit(t, s, epoch, shifted(10, failover.Completed))
	_, ok, err := s.RenewLease(t.Context(), store.Lease{Epoch: epoch - 1}, "test", time.Minute)
	require.NoError(t, err)
	require.False(t, ok)
	require.Nil(t, s.FreshEvents(c.First.Seq-1, 1000), "another one leads, and what it commits comes after")
}

// epochOf is the epoch of an event, 0 for sequence number 0 and for one that no known term holds.
func epochOf(s *store.LogState, seq int64) (epoch int64) {
	for _, t := range s.Terms {
		if t.FirstSeq > seq {
			break
		}
		epoch = t.Epoch
	}
	return epoch
}
