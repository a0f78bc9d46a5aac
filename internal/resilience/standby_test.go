package resilience

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/postgres"
	"changeover/internal/postgres/postgrestest"
)

// pair is a server with a standby that follows it, each behind an address of its own.
type pair struct {
	first, second *postgrestest.Server
	replication   *postgrestest.Proxy // the way on which the second follows
	url           string              // names both
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{first: postgrestest.Start(t)}
	p.replication = postgrestest.NewProxy(t, p.first.URL())
	host, port, _ := strings.Cut(p.replication.Addr(), ":")
	p.second = p.first.Standby(map[string]string{
		"primary_conninfo": "host=" + host + " port=" + port + " user=" + postgres.User + " sslmode=disable application_name=second",
	})
	one, two := postgrestest.NewProxy(t, p.first.URL()), postgrestest.NewProxy(t, p.second.URL())
	p.url = "postgres://" + postgres.User + "@" + two.Addr() + "," + one.Addr() + "/" + postgres.Database +
		"?sslmode=disable&target_session_attrs=read-write"
	return p
}

// follows waits until the second has everything.
func (p *pair) follows(t *testing.T, c *cluster) {
	t.Helper()
	c.until("the standby follows", func() bool {
		return query[bool](t, p.first.URL(), "SELECT coalesce(bool_or(replay_lsn = pg_current_wal_lsn()), false) FROM pg_stat_replication")
	})
}

func (p *pair) promote(t *testing.T) {
	t.Helper()
	require.True(t, query[bool](t, p.second.URL(), "SELECT pg_promote()"))
}

// The server dies and its synchronous standby takes over: nothing is lost, and nobody notices but by a pause.
func TestPostgresFailsOver(t *testing.T) {
	thorough(t)
	t.Parallel()
	p := newPair(t)
	execute(t, p.first.URL(), "ALTER SYSTEM SET synchronous_standby_names = '*'")
	execute(t, p.first.URL(), "SELECT pg_reload_conf()")
	c := newCluster(t, busyFloor(30), p.first.URL())
	c.start(2, p.url)
	c.endure(outage{lasts: 4 * time.Second, begin: p.first.Kill, end: func() {
		p.promote(t)
		c.database = p.second.URL()
	}})
}

// The server dies with commits that its asynchronous standby has not got. Desktops have heard events that there are not any more: every
// stream is reset, on each replica, and so is whoever comes later with the cursor of a lost event. What is told after that is the new log.
func TestPostgresFailsOverWithoutItsLastCommits(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	c := newCluster(t, busyFloor(30), p.first.URL())
	c.start(2, p.url)
	c.open(12)
	c.shift()
	c.until("the shift is half over", func() bool { return c.console().has("failoverCompleted", 0) >= 10 })
	c.quiet() // so that nothing happens but the shift that gets lost
	c.ready()
	p.follows(t, c)
	p.replication.Cut()
	kept := query[int64](t, p.second.URL(), "SELECT seq FROM event_log")
	heard := c.console().count()
	c.shift()
	c.until("the console hears of a shift that the standby does not", func() bool { return c.console().has("failoverCompleted", heard) >= 20 })
	var lost []string // cursors
	for _, e := range readLog(t, p.first.URL()) {
		if e.Seq > kept {
			lost = append(lost, cursor(t, p.first.URL(), e))
		}
	}
	require.Greater(t, len(lost), 40)

	p.first.Kill()
	p.promote(t)
	c.database = p.second.URL()
	for _, d := range c.desktops {
		c.until("the desktop of "+d.agent+" is reset", func() bool { return len(d.reasons()) > 0 })
	}
	third := c.add(p.url)
	third.start()
	third.worksIn(c.to)
	c.verify()
	for _, d := range c.desktops {
		require.Equal(t, []string{"lost"}, d.reasons(), "the desktop of %q", d.agent)
	}
	agent := c.sim.Agents()[0].ID
	require.Greater(t, query[int64](t, c.database, "SELECT seq FROM event_log"), kept)
	for _, r := range c.replicas { // the first and the last of them, one within what is there again and perhaps one beyond
		for _, id := range []string{lost[0], lost[len(lost)-1]} {
			frame := r.firstFrame("/v1/agents/" + agent + "/events?lastEventId=" + id)
			require.Contains(t, frame, "event: reset", "cursor %s", id)
			require.Contains(t, frame, `"reason":"unknown"`, "cursor %s", id)
		}
	}
	// Once more, with everything in order.
	c.settle()
}

// cursor is the id that an event has on the streams.
func cursor(t *testing.T, url string, e logged) string {
	t.Helper()
	return query[string](t, url, "SELECT log_id || '-' || $1::text || '-' || $2::text FROM event_log", strconv.FormatInt(e.Epoch, 10), strconv.FormatInt(e.Seq, 10))
}

// The disk is full: PostgreSQL refuses to write, or dies of it. When there is room again everything goes on.
func TestPostgresHasNoRoom(t *testing.T) {
	thorough(t)
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "changeover-full-") //nolint:usetesting // t.TempDir is closed to the user who runs PostgreSQL for root
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // unless it is still mounted
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160m,mode=0755"); err != nil {
		t.Skipf("a small file system is needed to fill, and mounting one needs root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	database := postgrestest.StartWith(t, postgres.Options{
		DataDir: filepath.Join(dir, "pg"), Settings: map[string]string{"max_wal_size": "48MB", "min_wal_size": "32MB"},
	})
	c := newCluster(t, busyFloor(30), database.URL())
	c.start(2, database.URL())
	ballast := filepath.Join(dir, "ballast")
	c.endure(outage{reads: true, lasts: 6 * time.Second, begin: func() {
		execute(t, database.URL(), "CREATE TABLE junk (x text)")
		file, err := os.Create(ballast)
		require.NoError(t, err)
		defer file.Close()
		for zeros := make([]byte, 1<<20); err == nil; {
			_, err = file.Write(zeros)
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		conn, err := pgx.Connect(t.Context(), database.URL())
		require.NoError(t, err)
		defer conn.Close(t.Context())
		for err == nil { // until the files that are there are full too
			_, err = conn.Exec(t.Context(), "INSERT INTO junk SELECT repeat(md5(random()::text), 30) FROM generate_series(1, 5000)")
		}
		t.Logf("PostgreSQL says: %v", err)
	}, end: func() {
		require.NoError(t, os.Remove(ballast))
		c.until("PostgreSQL is back", func() bool {
			conn, err := pgx.Connect(t.Context(), database.URL())
			if err == nil {
				err = errors.Join(conn.Ping(t.Context()), conn.Close(t.Context()))
			}
			return err == nil
		})
	}})
}
