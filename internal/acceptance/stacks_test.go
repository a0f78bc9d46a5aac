package acceptance

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
)

// half is what each of two stacks takes of Amazon's default quotas.
func half(c *config.Config) { c.Connect.RequestsPerSecond, c.Connect.Burst = 0.6, 2 }

// stack is another complete one at the same floor: with its own database.
func (f *floor) stack() *floor {
	s := &floor{Sim: f.Sim, t: f.t, config: f.config, store: newMemoryStore(f.t), log: &tail{}}
	s.store.judge = s.judge
	return s
}

// hour passes one, in which both stacks together stay within Amazon's quotas.
func (f *floor) hour() {
	f.t.Helper()
	for range 6 {
		f.pass(10 * time.Minute)
		f.quotas()
	}
}

// quotas fails if a call was throttled; the simulator remembers the last ten thousand.
func (f *floor) quotas() {
	f.t.Helper()
	for _, c := range f.Calls() {
		require.NotEqual(f.t, http.StatusTooManyRequests, c.Status, "%s of %s at %s", c.Operation, c.Region, c.At)
	}
}

// A stack is lost with its Region and comes back after an hour, with a database that knows nothing of that hour, to a Region that still shows
// yesterday's distribution. What the other stack knows it finds out for itself: it tells each agent's one move once. The other one has nothing to
// tell. All the time, both stay within Amazon's default quotas together.
func TestStackThatReturnsAfterAnHour(t *testing.T) {
	during(t, []outage{{east, connectsim.DownRefuse}, {west, connectsim.DownHang}}, func(t *testing.T, view connectsim.View, down string, mode connectsim.DownMode) {
		first := newFloor(t, connectsim.Config{Seed: 8, View: view, Agents: 40, RoutingProfiles: 3, RatePerSecond: 2, Burst: 5}, half)
		if down == west {
			first.shift(west)
			first.pass(time.Minute)
		}
		second, to := first.stack(), first.other(down)
		first.start()
		second.start()
		both := func(so func(f *floor) bool) func() bool { return func() bool { return so(first) && so(second) } }
		first.until(2*time.Minute, "both know the floor", both((*floor).settled))
		call, chat := first.contact(first.id(0), connectsim.ChannelVoice), first.contact(first.id(1), connectsim.ChannelChat)
		first.pass(time.Minute)

		// The Region is lost, with the stack in it, in the middle of a call.
		first.stop()
		require.NoError(t, first.Freeze(down, "default"))
		require.NoError(t, first.SetRegionDown(down, mode))
		lost := first.mark()
		first.shift(to)
		second.until(10*time.Minute, "nobody waits but who was on a contact", func() bool {
			detected, pending := second.open(to)
			return len(detected) == 0 && len(pending) == 2
		})
		require.NoError(t, first.ClearContact(call))
		done := second.store.command("force", failover.Force{FailoverID: second.store.agent(second.id(1)).Failover.ID, Reason: "the Region is down"})
		first.hour()
		require.Equal(t, failover.OutcomeDone, second.store.results[done].Outcome)
		require.Equal(t, lost, first.mark(), "it is not there")

		since := second.mark()
		require.NoError(t, first.SetRegionDown(down, connectsim.Up))
		first.start()
		first.until(5*time.Minute, "both say the same, but for whom a chat still holds", func() bool {
			_, pending := first.open(to)
			return len(pending) == 1 && pending[0] == first.id(1) && len(first.where()[to]) == 39 && len(second.where()[to]) == 40
		})
		require.NoError(t, first.ClearContact(chat))
		first.until(time.Minute, "both say the same", both((*floor).settled))
		told := map[string][]failover.EventType{}
		for _, e := range first.store.events(lost) {
			told[e.AgentID] = append(told[e.AgentID], e.Type)
		}
		for n, p := range first.Agents() {
			want := []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}
			if n == 1 {
				want = []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverPending, failover.EventFailoverCompleted}
			}
			require.Equal(t, want, told[p.ID], p.Username)
		}
		// The caller, whom it held by what it knew last, and that whom it forced is still there (R12).
		want := map[string]failover.EventType{second.id(0): failover.EventFailoverCompleted, second.id(1): failover.EventFailoverStalled}
		for _, e := range second.store.events(since) {
			require.Equal(t, want[e.AgentID], e.Type, "%+v", e.Event)
		}

		// Yesterday's distribution is gone, too, and another hour is quiet.
		require.NoError(t, first.Thaw(down, "default"))
		lost, since = first.mark(), second.mark()
		first.hour()
		first.silent(lost)
		second.silent(since)
	})
}

// While a stack was away everybody was shifted there and back. It has missed nothing that anybody has to be told.
func TestStackThatMissedAShiftThereAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newFloor(t, connectsim.Config{Seed: 8, Agents: 40, RoutingProfiles: 3, RatePerSecond: 2, Burst: 5}, half)
		second := first.stack()
		first.start()
		second.start()
		first.until(2*time.Minute, "both know the floor", func() bool { return first.settled() && second.settled() })
		first.stop()
		lost := first.mark()
		for _, to := range []string{west, east} {
			first.shift(to)
			first.pass(20 * time.Minute)
			require.True(t, second.settled())
		}
		first.start()
		first.pass(10 * time.Minute)
		first.silent(lost)
		first.quotas()
	})
}
