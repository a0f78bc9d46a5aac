package resilience

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/postgres/postgrestest"
)

// The clock of PostgreSQL's host jumps by hours (by more than the retention would drop events), there and back, while the floor is sent to and fro: nothing is lost or doubled. When it
// is set back by an hour and the leader dies, whose lease ends in an hour then, the next one decides within 15 s all the same.
func TestTheClockOfTheDatabaseJumps(t *testing.T) {
	thorough(t)
	t.Parallel()
	database, clock := postgrestest.StartClocked(t, nil)
	c := newCluster(t, busyFloor(30), database.URL())
	c.start(2, database.URL())
	c.open(12)
	c.under(func() {
		for _, ahead := range []time.Duration{time.Hour, 0, 20 * time.Hour, 30 * time.Minute, 23 * time.Hour, time.Hour} {
			clock.Ahead(ahead)
			pause(1500 * time.Millisecond)
		}
	})
	c.quiet()
	c.ready()

	old := c.leader()
	old.kill()
	clock.Ahead(0)
	began := time.Now()
	require.Greater(t, query[float64](t, database.URL(), "SELECT extract('epoch' FROM expires_at - clock_timestamp())::float8 FROM leases"), 3000.0)
	heard := c.console().count()
	c.shift()
	c.within(takeover, "the next leader detects the shift", func() bool { return c.console().has("failoverDetected", heard) >= 30 })
	t.Logf("the next leader has detected the shift %v after the loss", time.Since(began).Round(10*time.Millisecond))
	old.start()
	c.settle()
	for _, d := range c.desktops {
		require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
	}
}
