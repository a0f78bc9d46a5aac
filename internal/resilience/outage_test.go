package resilience

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/postgres/postgrestest"
)

// outage is something that befalls PostgreSQL.
type outage struct {
	begin, end func()
	lasts      time.Duration
	reads      bool // what is stored can be read meanwhile, so that the leader alone has something to say in /readyz
	works      bool // decisions may get through meanwhile
}

// endure puts a cluster with open desktops through an outage, with a shift in its middle, and holds it to what is promised: streams stay open
// with their heartbeats, new ones begin with a snapshot from memory, /readyz says what is wrong and stays 200, memory does not grow, and
// within 5 s of the end the shift is decided on.
func (c *cluster) endure(o outage) {
	c.t.Helper()
	c.open(12)
	c.shift()
	c.until("the shift before is half over", func() bool { return c.console().has("failoverCompleted", 0) >= 10 })
	for _, d := range c.desktops {
		d.connection()
	}
	var before []int
	for _, r := range c.replicas {
		before = append(before, r.memory())
	}

	o.begin()
	began := time.Now()
	heard := c.console().count()
	c.shift()
	pause(o.lasts / 2)
	for _, r := range c.replicas {
		if !o.reads && !o.works {
			c.until("/readyz tells of the database", r.troubled)
		}
		require.Contains(c.t, r.firstFrame("/v1/agents/"+c.sim.Agents()[0].ID+"/events"), "event: snapshot")
		require.Less(c.t, r.memory(), before[r.n-1]+64, "MiB")
	}
	if !o.works {
		c.until("/readyz tells of the database", func() bool { return slices.ContainsFunc(c.replicas, (*replica).troubled) })
	}
	pause(o.lasts - time.Since(began))
	detected := 0
	if !o.works {
		detected = c.console().has("failoverDetected", heard)
		require.Zero(c.t, detected, "decided without its database")
	}
	o.end()
	took := c.within(recovery, "the shift is decided on", func() bool {
		return c.console().has("failoverDetected", heard) >= 10
	})
	c.t.Logf("decided %v after the end", took.Round(10*time.Millisecond))
	c.settle()
	for _, d := range c.desktops {
		_, breaks, silence := d.connection()
		require.Zero(c.t, breaks, "the stream of %q was cut", d.agent)
		require.Less(c.t, silence, 3*time.Second, "the stream of %q had no heartbeats", d.agent)
		require.Empty(c.t, d.reasons(), "the desktop of %q was reset", d.agent)
	}
}

// firstFrame opens a stream and returns what it begins with.
func (r *replica) firstFrame(path string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+path, nil)
	require.NoError(r.t, err)
	request.Header.Set("Accept", "text/event-stream")
	began := time.Now()
	answer, err := r.c.client.Do(request)
	require.NoError(r.t, err)
	defer answer.Body.Close()
	var frame strings.Builder
	for lines := bufio.NewScanner(answer.Body); lines.Scan() && (lines.Text() != "" || !strings.Contains(frame.String(), "data:")); {
		frame.WriteString(lines.Text() + "\n")
	}
	require.Less(r.t, time.Since(began), time.Second, "it waits for the database")
	return frame.String()
}

// sessions runs a query that returns process ids of backends, and sends each a signal.
func sessions(t testing.TB, url string, s syscall.Signal, sql string) (pids []int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, s))
	}
	return pids
}

const ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'changeover' AND datname = current_database()"

func TestPostgresFails(t *testing.T) {
	t.Parallel()
	t.Run("restart", func(t *testing.T) {
		thorough(t)
		t.Parallel()
		database := postgrestest.Start(t)
		c := newCluster(t, busyFloor(30), database.URL())
		c.start(2, database.URL())
		c.endure(outage{begin: database.Stop, end: database.Start, lasts: 3 * time.Second})
	})
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		database := postgrestest.Start(t)
		c := newCluster(t, busyFloor(30), database.URL())
		c.start(2, database.URL())
		c.endure(outage{begin: database.Kill, end: database.Start, lasts: 12 * time.Second}) // longer than the lease
	})
	t.Run("connections cut every 300 ms", func(t *testing.T) {
		thorough(t)
		t.Parallel()
		url := postgrestest.NewDatabase(t)
		way := postgrestest.NewProxy(t, url)
		c := newCluster(t, busyFloor(30), url)
		c.start(2, way.URL())
		over, ended := make(chan struct{}), make(chan struct{})
		c.endure(outage{works: true, lasts: 6 * time.Second, begin: func() {
			go func() {
				defer close(ended)
				for ticker := time.NewTicker(300 * time.Millisecond); ; {
					select {
					case <-over:
						ticker.Stop()
						return
					case <-ticker.C:
						way.Drop()
					}
				}
			}()
		}, end: func() { close(over); <-ended }})
	})
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		url := postgrestest.NewDatabase(t)
		way := postgrestest.NewProxy(t, url)
		c := newCluster(t, busyFloor(30), url)
		c.start(2, way.URL())
		c.endure(outage{begin: way.Silence, end: way.Restore, lasts: 6 * time.Second})
	})
	t.Run("a long silence", func(t *testing.T) {
		thorough(t)
		t.Parallel()
		url := postgrestest.NewDatabase(t)
		way := postgrestest.NewProxy(t, url)
		c := newCluster(t, busyFloor(30), url)
		c.start(2, way.URL())
		c.endure(outage{begin: way.Silence, end: way.Restore, lasts: 15 * time.Second})
	})
	t.Run("tables locked by somebody", func(t *testing.T) {
		thorough(t)
		t.Parallel()
		url := postgrestest.NewDatabase(t)
		c := newCluster(t, busyFloor(30), url)
		c.start(2, url)
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		c.endure(outage{lasts: 15 * time.Second, begin: func() {
			_, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE agents, failovers, region_health, leases IN ACCESS EXCLUSIVE MODE")
			require.NoError(t, err)
		}, end: func() {
			_, err := conn.Exec(t.Context(), "ROLLBACK")
			require.NoError(t, err)
			// Whatever was given up is over in the database too.
			require.Less(t, query[int](t, url, "SELECT count(*) FROM ("+ours+") s"), 40)
		}})
	})
	t.Run("frozen backends", func(t *testing.T) {
		thorough(t)
		t.Parallel()
		url := postgrestest.Start(t).URL() // of its own: a frozen backend holds up whoever drops another database
		c := newCluster(t, busyFloor(30), url)
		c.start(2, url)
		var frozen []int
		t.Cleanup(func() {
			for _, pid := range frozen {
				_ = syscall.Kill(pid, syscall.SIGCONT) // it may be gone
			}
		})
		c.endure(outage{lasts: 8 * time.Second, works: true, begin: func() {
			frozen = sessions(t, url, syscall.SIGSTOP, ours)
			require.NotEmpty(t, frozen)
		}, end: func() {
			for _, pid := range frozen {
				_ = syscall.Kill(pid, syscall.SIGCONT) // it may be gone
			}
		}})
	})
}
