package resilience

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/postgres/postgrestest"
)

// A leader that is lost, whatever becomes of it, is replaced in time, and what it still tries is not committed. Desktops hear of the shift
// that came with its end from the replicas that are left.
func TestALostLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	cases := map[string]func(r *replica, database *postgrestest.Proxy) (back func()){
		"killed": func(r *replica, _ *postgrestest.Proxy) func() {
			r.kill()
			return r.start
		},
		"frozen": func(r *replica, _ *postgrestest.Proxy) func() {
			r.signal(syscall.SIGSTOP)
			return func() { r.signal(syscall.SIGCONT) }
		},
		"cut off": func(_ *replica, database *postgrestest.Proxy) func() {
			database.Cut()
			return database.Restore
		},
		"in silence": func(_ *replica, database *postgrestest.Proxy) func() {
			database.Silence()
			return database.Restore
		},
	}
	// Both ways, for each statement of a commit. With the second a connection takes as long as a call may, with the third none
	// can be made and PostgreSQL breaks transactions off, with the last no renewal is answered in time.
	for _, delay := range []time.Duration{500 * time.Millisecond, 800 * time.Millisecond, 1800 * time.Millisecond, 3 * time.Second} {
		cases["slow by "+delay.String()] = func(_ *replica, database *postgrestest.Proxy) func() {
			database.Delay(delay)
			return database.Restore
		}
	}
	for name, lose := range cases {
		t.Run(name, func(t *testing.T) {
			if name != "frozen" {
				thorough(t)
			}
			t.Parallel()
			url := postgrestest.NewDatabase(t)
			c := newCluster(t, busyFloor(30), url)
			ways := map[*replica]*postgrestest.Proxy{}
			for range 2 {
				way := postgrestest.NewProxy(t, url)
				ways[c.add(way.URL())] = way
			}
			for _, r := range c.replicas {
				r.start()
			}
			c.ready()
			c.open(12)
			old, next := c.leader(), c.followers()[0]
			epoch := query[int64](t, url, "SELECT epoch FROM leases")

			began := time.Now()
			back := lose(old, ways[old])
			c.shift()
			console := c.console()
			heard := console.count()
			c.within(takeover-time.Since(began), "the next leader detects the shift", func() bool {
				return query[int](t, url, "SELECT count(*) FROM events WHERE epoch > $1 AND type = 'failoverDetected'", epoch) == 30
			})
			t.Logf("the next leader has detected the shift %v after the loss", time.Since(began).Round(10*time.Millisecond))
			require.Equal(t, next.n, c.leader().n)
			c.until("the console hears of it", func() bool { return console.has("failoverDetected", heard) >= 30 })

			// Back again, it sees another shift, and is told at its next attempt that it leads no more.
			back()
			c.shift()
			old.worksIn(c.to)
			require.Equal(t, next.n, c.leader().n)
			c.settle()
			for _, d := range c.desktops {
				require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
			}
		})
	}
}
