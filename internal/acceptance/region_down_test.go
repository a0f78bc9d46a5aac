package acceptance

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
)

// outage is a Region that is down.
type outage struct {
	region string
	mode   connectsim.DownMode
}

// everyOutage is either Region, in every way to be down.
var everyOutage = []outage{
	{east, connectsim.DownRefuse}, {east, connectsim.DownHang}, {east, connectsim.DownUnavailable},
	{west, connectsim.DownRefuse}, {west, connectsim.DownHang}, {west, connectsim.DownUnavailable},
}

// during runs a test for outages with both routings.
func during(t *testing.T, outages []outage, test func(t *testing.T, view connectsim.View, down string, mode connectsim.DownMode)) {
	for _, view := range []connectsim.View{connectsim.Regional, connectsim.Global} {
		for _, o := range outages {
			t.Run(fmt.Sprintf("%s/%s/%s", view, o.region, o.mode), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { test(t, view, o.region, o.mode) })
			})
		}
	}
}

// downFloor has ten agents who work in the Region that will be down: the first on a call, the second in after-contact work
// of a chat, the third on a task, the others idle.
func downFloor(t *testing.T, view connectsim.View, down string) (f *floor, call, chat string) {
	f = newFloor(t, connectsim.Config{Seed: 3, View: view, Agents: 10, RoutingProfiles: 2, RatePerSecond: 2, Burst: 5})
	if down == west {
		f.shift(west)
		f.pass(time.Minute)
	}
	f.start()
	f.until(time.Minute, "the floor is known", f.settled)
	call, chat = f.contact(f.id(0), connectsim.ChannelVoice), f.contact(f.id(1), connectsim.ChannelChat)
	require.NoError(t, f.EndContact(chat))
	f.contact(f.id(2), connectsim.ChannelTask)
	f.pass(35 * time.Second) // the sweep sees them
	return f, call, chat
}

// The disaster: the Region goes down while the operator shifts everybody away. By R9 the agents whose last list was
// empty and recent are completed, those who were on contact are pending with those contacts, marked stale, and stay so. When the
// Region is back, on yesterday's distribution, nobody is moved back; what it shows of contacts counts again.
func TestRegionDownInTheMiddleOfAShift(t *testing.T) {
	during(t, everyOutage, func(t *testing.T, view connectsim.View, down string, mode connectsim.DownMode) {
		f, call, chat := downFloor(t, view, down)
		to := f.other(down)
		since := f.mark()
		require.NoError(t, f.Freeze(down, "default"))
		require.NoError(t, f.SetRegionDown(down, mode))
		f.pass(time.Second)
		f.silent(since)
		f.shift(to)
		f.pass(f.config.Poll.DistributionInterval + time.Second + slack)
		require.Empty(t, f.unaware(to), "one interval and the second of the other's silence")
		detected, pending := f.open(to)
		require.Len(t, detected, 10, "no list of now, so nobody is let go and nobody held")
		require.Empty(t, pending)

		f.pass(f.config.Failover.RegionDownAfter + 3*time.Second)
		detected, pending = f.open(to)
		require.Empty(t, detected)
		require.ElementsMatch(t, []string{f.id(0), f.id(1)}, pending)
		for _, p := range f.Agents()[2:] {
			requireEvidence(t, f, p.ID, failover.LastKnown)
		}
		for i, contact := range []string{call, chat} {
			a := f.store.agent(f.id(i))
			require.Equal(t, []string{contact}, a.Failover.ContactIDs)
			require.False(t, a.Failover.StaleSince.IsZero(), "told as stale")
		}

		// It lasts. The call ends unseen.
		f.pass(5 * time.Minute)
		require.NoError(t, f.ClearContact(call))
		_, pending = f.open(to)
		require.Len(t, pending, 2)

		// Back, with yesterday's distribution.
		since = f.mark()
		require.NoError(t, f.SetRegionDown(down, connectsim.Up))
		f.until(15*time.Second, "the caller is let go", func() bool { return f.store.agent(f.id(0)).ActiveRegion == to })
		requireEvidence(t, f, f.id(0), failover.Inferred)
		f.pass(2 * time.Minute)
		_, pending = f.open(to)
		require.Equal(t, []string{f.id(1)}, pending)
		require.True(t, f.store.agent(f.id(1)).Failover.StaleSince.IsZero(), "read again")
		require.NoError(t, f.ClearContact(chat))
		f.until(10*time.Second, "the last one is let go", f.settled)
		for _, e := range f.store.events(since) {
			require.Equal(t, failover.EventFailoverCompleted, e.Type, "%+v", e.Event)
		}
		since = f.mark()
		require.NoError(t, f.Thaw(down, "default"))
		f.pass(time.Minute)
		f.silent(since)
		require.Len(t, f.store.changes, 2, "the first observation, and the shift")
	})
}

func requireEvidence(t *testing.T, f *floor, agent string, evidence failover.Evidence) {
	t.Helper()
	var last failover.Event
	for _, e := range f.store.events(0) {
		if e.AgentID == agent && e.FailoverID != "" {
			last = e.Event
		}
	}
	require.Equal(t, failover.EventFailoverCompleted, last.Type)
	require.Equal(t, evidence, last.Evidence)
}

// The usual order of things: the Region is down when the shift comes. Who was idle when it went goes (lastKnown), who was on contact is pending.
func TestShiftAfterTheRegionWentDown(t *testing.T) {
	during(t, everyOutage, func(t *testing.T, view connectsim.View, down string, mode connectsim.DownMode) {
		f, _, _ := downFloor(t, view, down)
		to := f.other(down)
		since := f.mark()
		require.NoError(t, f.SetRegionDown(down, mode))
		f.pass(5 * time.Minute)
		f.silent(since)
		f.shift(to)
		f.pass(f.config.Poll.DistributionInterval + time.Second + slack)
		require.Empty(t, f.unaware(to))
		f.pass(f.config.Failover.RegionDownAfter + 10*time.Second)
		detected, pending := f.open(to)
		require.Empty(t, detected)
		require.ElementsMatch(t, []string{f.id(0), f.id(1)}, pending)
		requireEvidence(t, f, f.id(5), failover.LastKnown)
	})
}

// The Region has been down for longer than failover.maxUnknown when the shift comes: calls may have come that nobody could see, so nobody is
// let go by an old list. Everybody stays detected, those who were last seen on contact are pending, and the operator can force them all.
func TestShiftLongAfterTheRegionWentDown(t *testing.T) {
	during(t, everyOutage, func(t *testing.T, view connectsim.View, down string, mode connectsim.DownMode) {
		f, _, _ := downFloor(t, view, down)
		to := f.other(down)
		since := f.mark()
		require.NoError(t, f.SetRegionDown(down, mode))
		f.pass(f.config.Failover.MaxUnknown + time.Minute)
		f.silent(since)
		f.shift(to)
		f.pass(f.config.Poll.DistributionInterval + time.Second + slack)
		require.Empty(t, f.unaware(to))
		f.pass(3 * time.Minute)
		detected, pending := f.open(to)
		require.Len(t, detected, 8)
		require.ElementsMatch(t, []string{f.id(0), f.id(1)}, pending)

		one := f.store.command("force", failover.Force{FailoverID: f.store.agent(f.id(5)).Failover.ID, Reason: "the Region is down"})
		f.pass(2 * time.Second)
		require.Equal(t, failover.OutcomeDone, f.store.results[one].Outcome)
		requireEvidence(t, f, f.id(5), failover.ByForce)
		all := f.store.command("bulkForce", failover.BulkForce{Group: "main", From: down, OnlyStale: true, Reason: "the Region is down"})
		f.pass(2 * time.Second)
		require.Equal(t, 9, f.store.results[all].Forced)
		require.Len(t, f.where()[to], 10)
		require.NoError(t, f.SetRegionDown(down, connectsim.Up))
		since = f.mark()
		f.pass(time.Minute)
		f.silent(since)
	})
}

// The Region goes down after the detection, with the immediate pass half done, and is back before regionDownAfter: nobody is let go
// meanwhile, and the rest goes on from fresh reads.
func TestRegionDownAfterTheDetection(t *testing.T) {
	const agents, busy = 300, 120
	outages := []outage{{east, connectsim.DownRefuse}, {west, connectsim.DownHang}, {east, connectsim.DownUnavailable}}
	during(t, outages, func(t *testing.T, view connectsim.View, down string, mode connectsim.DownMode) {
		f := newFloor(t, connectsim.Config{Seed: 3, View: view, Agents: agents, RoutingProfiles: 5, RatePerSecond: 2, Burst: 5})
		if down == west {
			f.shift(west)
			f.pass(time.Minute)
		}
		var contacts []string
		for i := range busy {
			contacts = append(contacts, f.contact(f.id(i), connectsim.ChannelVoice))
		}
		f.start()
		f.until(time.Minute, "the floor is known", f.settled)
		f.pass(40 * time.Second)
		to := f.other(down)
		require.NoError(t, f.SetLatency(down, connect.OpGetCurrentUserData, 2*time.Second))
		f.shift(to)
		f.until(20*time.Second, "the first are let go", func() bool { return len(f.where()[to]) > 0 })
		require.NoError(t, f.SetRegionDown(down, mode))
		require.NoError(t, f.SetLatency(down, connect.OpGetCurrentUserData, 0))
		early := f.where()[to]
		require.Less(t, len(early), agents-busy, "the pass is half done")
		f.pass(20 * time.Second)
		require.Equal(t, early, f.where()[to])
		require.NoError(t, f.ClearContact(contacts[0]))

		require.NoError(t, f.SetRegionDown(down, connectsim.Up))
		f.until(15*time.Second, "the others who are idle are let go", func() bool { return len(f.where()[to]) == agents-busy+1 })
		_, pending := f.open(to)
		require.Len(t, pending, busy-1)
		for _, c := range contacts[1:] {
			require.NoError(t, f.ClearContact(c))
		}
		f.until(15*time.Second, "everybody is let go", f.settled)
		for _, e := range f.store.events(0) {
			require.Contains(t, []failover.Evidence{"", failover.Inferred}, e.Evidence)
		}
	})
}

// A Region that comes back with yesterday's distribution, without a shift of today: it was shifted while both were well, one froze.
func TestYesterdaysDistribution(t *testing.T) {
	for _, view := range []connectsim.View{connectsim.Regional, connectsim.Global} {
		for _, frozen := range []string{east, west} {
			t.Run(fmt.Sprintf("%s/%s", view, frozen), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFloor(t, connectsim.Config{Seed: 1, View: view, Agents: 6, RatePerSecond: 2, Burst: 5})
					f.start()
					f.until(time.Minute, "the floor is known", f.settled)
					require.NoError(t, f.Freeze(frozen, "default"))
					require.NoError(t, f.SetRegionDown(frozen, connectsim.DownUnavailable))
					f.pass(time.Minute)
					f.shift(west)
					f.pass(11*time.Second + slack)
					require.Empty(t, f.unaware(west))
					f.until(2*time.Minute, "everybody is there", func() bool { return frozen == east || f.settled() })
					for range 3 { // it flaps
						require.NoError(t, f.SetRegionDown(frozen, connectsim.Up))
						f.pass(5 * time.Minute)
						require.Empty(t, f.unaware(west))
						require.NoError(t, f.SetRegionDown(frozen, connectsim.DownHang))
						f.pass(2 * time.Minute)
					}
					require.NoError(t, f.SetRegionDown(frozen, connectsim.Up))
					f.until(time.Minute, "everybody is there", f.settled)
					since := f.mark()
					f.stop() // a new leader, which has only what was stored
					f.start()
					f.pass(5 * time.Minute)
					f.silent(since)
					require.NoError(t, f.Thaw(frozen, "default"))
					f.pass(5 * time.Minute)
					f.silent(since)
					f.shift(east) // and today's change counts
					f.pass(11*time.Second + slack)
					require.Empty(t, f.unaware(east))
				})
			})
		}
	}
}

// While a group is updated its distribution cannot be read, and the other Region learns of the change later: it is detected within an
// interval and a second of both showing it, is no set-up error, and moves nobody back.
func TestUpdateWindowAndPropagation(t *testing.T) {
	for _, view := range []connectsim.View{connectsim.Regional, connectsim.Global} {
		for _, window := range []time.Duration{0, 3 * time.Second, 3 * time.Minute} {
			for _, lag := range []time.Duration{0, 4 * time.Second, 45 * time.Second} {
				t.Run(fmt.Sprintf("%s/%s/%s", view, window, lag), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						f := newFloor(t, connectsim.Config{
							Seed: 1, View: view, Agents: 6, RatePerSecond: 2, Burst: 5, UpdateWindow: window, Lag: lag,
						})
						f.start()
						f.until(time.Minute, "the floor is known", f.settled)
						for _, to := range []string{west, east} {
							f.pass(7 * time.Second)
							since := f.mark()
							f.shift(to)
							shifted := time.Now()
							f.pass(window + lag + f.config.Poll.DistributionInterval + time.Second + slack)
							require.Empty(t, f.unaware(to))
							f.until(time.Minute, "everybody is there", f.settled)
							f.pass(time.Minute)
							for _, e := range f.store.events(since) {
								require.Contains(t, []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}, e.Type)
								// Not before it took effect, and not while the other Region answers as it did before.
								require.GreaterOrEqual(t, e.at.Sub(shifted), max(window, lag))
							}
						}
						require.Zero(t, f.store.conflicts)
					})
				})
			}
		}
	}
}

// A Region that does not learn of a change for longer than conflictAfter: the one that changed last is believed, once.
func TestConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFloor(t, connectsim.Config{Seed: 1, Agents: 6, RatePerSecond: 2, Burst: 5, Lag: 3 * time.Minute})
		f.start()
		f.until(time.Minute, "the floor is known", f.settled)
		since := f.mark()
		f.shift(west)
		f.pass(f.config.Poll.ConflictAfter)
		f.silent(since)
		f.pass(2 * (f.config.Poll.DistributionInterval + slack))
		require.Empty(t, f.unaware(west))
		f.until(time.Minute, "everybody is there", f.settled)
		since = f.mark()
		f.pass(10 * time.Minute)
		f.silent(since)
		require.Equal(t, 1, f.store.conflicts)
	})
}
