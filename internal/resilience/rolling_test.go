package resilience

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/postgres/postgrestest"
)

// under runs while the floor is sent to and fro without a pause.
func (c *cluster) under(f func()) {
	c.t.Helper()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for to := other(c.to); ; to = other(to) {
			for c.sim.Shift("", to, 100) != nil { // the one before has not come through
				time.Sleep(10 * time.Millisecond)
			}
			c.to = to
			select {
			case <-over:
				return
			case <-time.After(1200 * time.Millisecond):
			}
		}
	}()
	f()
	close(over)
	<-ended
}

// Three replicas are restarted in turn, twice, while the floor is shifted to and fro: desktops go from replica to replica with their cursor, and
// nothing is lost or doubled.
func TestARollingRestartUnderLoad(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	c := newCluster(t, busyFloor(40), url)
	c.start(3, url)
	c.open(20)
	leaders := map[string]bool{}
	c.under(func() {
		for range 2 {
			for _, r := range c.replicas {
				leaders[c.leader().name()] = true
				r.stop()
				r.start()
				r.serves()
			}
		}
	})
	require.Greater(t, len(leaders), 2, "the leader was among those that were restarted")
	c.settle()
	moved := 0
	for _, d := range c.desktops {
		_, breaks, _ := d.connection()
		require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
		d.mu.Lock()
		require.Equal(t, breaks, d.drained, "a stream of %q was cut without a word", d.agent)
		d.mu.Unlock()
		moved += breaks
	}
	require.Greater(t, moved, 20, "desktops have moved between replicas")
}
