package tdg_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/tdg"

	"github.com/stretchr/testify/require"
)

// latency is what a simulated answer takes, and rounding.
const latency = 20 * time.Millisecond

// chain is a simulated Amazon Connect, its clients, a Reader, and the core that judges what is read.
type chain struct {
	*connectsim.Sim
	clients [2]*connect.Client

	mu      sync.Mutex
	state   *failover.State
	changes []failover.Change
	events  []failover.Event
	rounds  map[string][]time.Time // by group, of rounds with any answer
}

// startChain begins to read with the service's defaults at Amazon's default quotas.
func startChain(t *testing.T, config connectsim.Config) *chain {
	config.RatePerSecond, config.Burst = 2, 5
	sim := connectsim.New(config)
	regions := sim.Regions()
	c := &chain{Sim: sim, rounds: map[string][]time.Time{}}
	o := tdg.Options{Group: "main", Interval: 10 * time.Second, RequestsPerSecond: 1.2, Log: logtest.New(nil)}
	group := failover.GroupConfig{Name: "main", Routing: failover.Regional}
	for i, region := range regions {
		client, err := connect.New(t.Context(), connect.Options{
			Region: region, RequestsPerSecond: 1.2, Burst: 4, RequestTimeout: 4 * time.Second,
			Transport: sim.Transport(), Log: logtest.New(nil),
		})
		require.NoError(t, err)
		t.Cleanup(client.Close)
		c.clients[i] = client
		o.Instances = append(o.Instances, tdg.Instance{ID: sim.InstanceID(), Client: client})
		group.Instances = append(group.Instances, failover.Instance{Region: region, CCPURL: "https://" + region + ".example/ccp-v2/"})
	}
	settings := failover.Settings{
		Confirmations: 1, ConflictAfter: time.Minute, RegionDownAfter: 30 * time.Second, ContactsMaxAge: time.Minute, MaxUnknown: 15 * time.Minute,
		ConfigureErrorAfter: time.Minute, ConfirmWithin: 5 * time.Minute, DrainInterval: 5 * time.Second,
	}
	n := 0
	c.state = failover.New(settings, []failover.GroupConfig{group}, failover.Snapshot{}, func(time.Time) string {
		n++
		return fmt.Sprintf("failover %d", n)
	})
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	reader := tdg.New(o)
	go func() {
		defer close(stopped)
		reader.Run(ctx, func(_ context.Context, o failover.Observation) { c.step(o) })
	}()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	time.Sleep(20 * time.Second) // every group is read
	return c
}

// step gives an observation to the core, as the leader does.
func (c *chain) step(o failover.Observation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if r, ok := o.(failover.DistributionRound); ok {
		c.rounds[r.TDG] = append(c.rounds[r.TDG], now)
	}
	effects := c.state.Step(o, now)
	c.changes = append(c.changes, effects.Changes...)
	for _, e := range effects.Events {
		c.events = append(c.events, *e)
	}
}

// taken returns what was decided since the last call.
func (c *chain) taken() (changes []failover.Change, events []failover.Event) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	changes, events = c.changes, c.events
	c.changes, c.events = nil, nil
	return changes, events
}

// target is where a group's agents are sent by what was adopted.
func (c *chain) target(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, share := range c.state.TDG(id).Agents.Adopted {
		if share.Percent == 100 {
			return share.Region
		}
	}
	return ""
}

func (c *chain) requireNotThrottled(t *testing.T) {
	t.Helper()
	require.Equal(t, -1, slices.IndexFunc(c.Calls(), func(call connectsim.Call) bool { return call.Status == 429 }), "Amazon's quota was exceeded")
}

func groups(n int) []connectsim.TDGConfig {
	var out []connectsim.TDGConfig
	for i := range n {
		out = append(out, connectsim.TDGConfig{Name: fmt.Sprintf("group %d", i), Default: i == 0})
	}
	return out
}

// The promise to the operator: a change is detected within one interval plus one second of both Regions showing it, for every
// one of eight groups, at Amazon's default quotas, with updates that take a while and Regions that learn of them late.
func TestChangeIsDetectedWithinAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window, lag = 2 * time.Second, 3 * time.Second
		c := startChain(t, connectsim.Config{Seed: 1, TDGs: groups(8), UpdateWindow: window, Lag: lag})
		for _, to := range []string{c.Regions()[1], c.Regions()[0]} {
			for i := range 8 {
				time.Sleep(1234 * time.Millisecond) // at another moment of the interval for each
				shiftedAt := time.Now()
				require.NoError(t, c.Shift(fmt.Sprintf("group %d", i), to, 100))
				c.taken()
				time.Sleep(window + lag + 11*time.Second + latency)
				changes, _ := c.taken()
				require.Len(t, changes, 1)
				require.Equal(t, to, c.target(changes[0].TDG))
				require.LessOrEqual(t, changes[0].ObservedAt.Sub(shiftedAt), window+lag+11*time.Second+latency)
				require.False(t, changes[0].Conflict)
			}
		}
		c.requireNotThrottled(t)
	})
}

// Every fault, in either Region, on every operation, for three minutes: nothing changes, and what the other Region shows is still
// read every interval, at most a second late.
func TestFaultsChangeNothing(t *testing.T) {
	for _, fault := range connectsim.Faults {
		for region, name := range connectsim.New(connectsim.Config{}).Regions() {
			t.Run(fmt.Sprintf("%s in %s", fault, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := startChain(t, connectsim.Config{Seed: 1, TDGs: groups(2), Agents: 20})
					c.taken()
					require.NoError(t, c.SetFault(c.Regions()[region], "*", fault))
					from := time.Now()
					time.Sleep(3 * time.Minute)
					changes, events := c.taken()
					require.Empty(t, changes)
					require.Empty(t, events)
					c.requireRounds(t, from)

					// A change that the other Region shows is detected meanwhile. A Region that goes on answering has
					// its say, too, and both say the same.
					to := c.Regions()[1]
					require.NoError(t, c.Shift("", to, 100))
					time.Sleep(11*time.Second + latency)
					changes, _ = c.taken()
					require.Len(t, changes, 1)
					require.Equal(t, to, c.target(changes[0].TDG))
					require.NoError(t, c.ClearFault(c.Regions()[region], "*"))
					time.Sleep(3 * time.Minute)
					changes, events = c.taken()
					require.Empty(t, changes)
					require.Empty(t, events)
				})
			})
		}
	}
}

// requireRounds fails if any group was not heard of for longer than an interval plus a second.
func (c *chain) requireRounds(t *testing.T, from time.Time) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, rounds := range c.rounds {
		previous := from
		for _, at := range rounds {
			if at.After(from) {
				require.LessOrEqual(t, at.Sub(previous), 11*time.Second+latency, "group %s at %s", id, at.Sub(from))
				previous = at
			}
		}
		require.LessOrEqual(t, time.Since(previous), 11*time.Second+latency, "group %s", id)
	}
}

// The disaster: the source goes down, the operator shifts everything away, and the source comes back with yesterday's
// distribution.
func TestRegionDownDuringAShift(t *testing.T) {
	for _, mode := range []connectsim.DownMode{connectsim.DownRefuse, connectsim.DownHang, connectsim.DownUnavailable} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startChain(t, connectsim.Config{Seed: 1, TDGs: groups(8)})
				source, replica := c.Regions()[0], c.Regions()[1]
				c.taken()
				require.NoError(t, c.SetRegionDown(source, mode))
				for i := range 8 {
					require.NoError(t, c.Freeze(source, fmt.Sprintf("group %d", i)))
				}
				time.Sleep(47 * time.Second)
				changes, _ := c.taken()
				require.Empty(t, changes)
				for i := range 8 {
					require.NoError(t, c.Shift(fmt.Sprintf("group %d", i), replica, 100))
				}
				time.Sleep(11*time.Second + latency)
				changes, _ = c.taken()
				require.Len(t, changes, 8, "one interval and the second of the other's silence")
				for _, change := range changes {
					require.Equal(t, replica, c.target(change.TDG))
				}

				time.Sleep(10 * time.Minute)
				require.NoError(t, c.SetRegionDown(source, connectsim.Up))
				time.Sleep(5 * time.Minute)
				changes, events := c.taken()
				require.Empty(t, changes, "a Region that comes back with its old answer overturns nothing")
				require.Empty(t, events)
				for i := range 8 {
					require.NoError(t, c.Thaw(source, fmt.Sprintf("group %d", i)))
				}
				time.Sleep(time.Minute)
				changes, _ = c.taken()
				require.Empty(t, changes)
				c.requireNotThrottled(t)
			})
		})
	}
}
