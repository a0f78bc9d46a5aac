package acceptance

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connectsim"
	"changeover/internal/failover"
)

// commitTime is what BenchmarkCommit of internal/store has PostgreSQL take, generously.
func commitTime(e failover.Effects) time.Duration {
	return 3*time.Millisecond + time.Duration(len(e.Agents))*50*time.Microsecond
}

// quotaCase is a floor at Amazon's default quotas, read with the service's default settings.
type quotaCase struct {
	name             string
	view             connectsim.View
	agents, profiles int
	// What is promised of agents without contacts, from the detection to the completion.
	first, half, last time.Duration
}

// Three in ten agents are on contact; everybody is shifted. The detection takes an interval and a second whatever the number
// of agents, and those without contacts do not wait for a pass over the whole floor (R6), which would take 83 s for
// 10,000 agents at 1.2 requests a second.
func TestDefaultQuotas(t *testing.T) {
	t.Parallel()
	var detection []time.Duration
	t.Run("floors", func(t *testing.T) {
		for i, c := range []quotaCase{
			{"100 agents", connectsim.Regional, 100, 5, time.Second, time.Second, time.Second},
			{"10000 agents", connectsim.Regional, 10_000, 48, time.Second, 12 * time.Second, 34 * time.Second},
			// There is but one chunk, so all wait for its last page: by id, a hundred a call, half of them would wait longer, and the last
			// three times as long. (10,000 agents: 22 s instead of 29 and 58.)
			{"2000 agents of one routing profile", connectsim.Global, 2000, 1, 5 * time.Second, 5 * time.Second, 5 * time.Second},
		} {
			detection = append(detection, 0)
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { detection[i] = shiftAtDefaultQuotas(t, c) })
			})
		}
	})
	for i := range detection {
		require.InDelta(t, detection[0].Seconds(), detection[i].Seconds(), 1, "the number of agents has no part in it: %v", detection)
	}
}

func shiftAtDefaultQuotas(t *testing.T, c quotaCase) time.Duration {
	f := newFloor(t, connectsim.Config{
		Seed: 7, View: c.view, Agents: c.agents, RoutingProfiles: c.profiles, RatePerSecond: 2, Burst: 5,
	})
	f.store.took = commitTime
	people := f.Agents()
	busy := map[string]bool{}
	for i, p := range people {
		if i%10 < 3 {
			busy[p.ID] = true
			f.contact(p.ID, []string{connectsim.ChannelVoice, connectsim.ChannelChat}[i%2])
		}
	}
	f.start()
	f.pass(103700 * time.Millisecond) // the first sweep is over, the second under way
	require.Len(t, f.where()[east], c.agents, "the floor is known")

	since, shifted := f.mark(), time.Now()
	f.shift(west)
	f.pass(f.config.Poll.DistributionInterval + time.Second + slack)
	require.Empty(t, f.unaware(west), "one interval and one second after the Regions agree")
	f.pass(c.last)
	idle, waiting := c.agents-len(busy), map[string]time.Time{}
	var detected time.Duration
	var took []time.Duration
	pending := 0
	for _, e := range f.store.events(since) {
		switch e.Type {
		case failover.EventFailoverDetected:
			waiting[e.AgentID] = e.at
			detected = max(detected, e.at.Sub(shifted))
		case failover.EventFailoverCompleted:
			require.False(t, busy[e.AgentID])
			took = append(took, e.at.Sub(waiting[e.AgentID]))
		case failover.EventFailoverPending:
			require.True(t, busy[e.AgentID])
			pending++
		default:
			require.Fail(t, "unexpected", "%+v", e.Event)
		}
	}
	require.Len(t, took, idle, "those without contacts are let go")
	require.Equal(t, len(busy), pending)
	slices.Sort(took)
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	t.Logf("detected within %s of the shift; %d idle agents let go within: first %s, p50 %s, p95 %s, last %s",
		round(detected), idle, round(took[0]), round(took[idle/2]), round(took[idle*95/100]), round(took[idle-1]))
	require.LessOrEqual(t, took[0], c.first+slack)
	require.LessOrEqual(t, took[idle/2], c.half+slack)
	require.LessOrEqual(t, took[idle-1], c.last+slack)

	if c.agents <= 2000 { // larger floors are read in the same way, and take long to simulate
		requireDrain(t, f, busy)
	}
	throttled := 0
	for _, call := range f.Calls() {
		if call.Status == http.StatusTooManyRequests {
			throttled++
		}
	}
	require.Zero(t, throttled, "Amazon's quota was exceeded")
	return detected
}

// requireDrain ends a third of the contacts that hold agents. Those are watched, a hundred a call, in turns with the sweep.
func requireDrain(t *testing.T, f *floor, busy map[string]bool) {
	t.Helper()
	since := f.mark()
	cleared := time.Now()
	n := 0
	for _, p := range f.Agents() {
		if n++; busy[p.ID] && n%3 == 0 {
			require.NoError(t, f.ClearContact(p.Contacts[0].ID))
		}
	}
	f.pass(10 * time.Second)
	var after []time.Duration
	for _, e := range f.store.events(since) {
		require.Equal(t, failover.EventFailoverCompleted, e.Type)
		after = append(after, e.at.Sub(cleared))
	}
	require.Len(t, after, len(busy)/3)
	t.Logf("%d agents let go after their contacts were cleared: p50 %s, last %s", len(after), after[len(after)/2], after[len(after)-1])
}
