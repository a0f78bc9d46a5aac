package tdg

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"changeover/internal/connect"
	"changeover/internal/failover"
	"changeover/internal/logtest"

	"github.com/stretchr/testify/require"
)

func TestRoundsOfBothRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, nil)
		all := b.pass(35 * time.Second)
		require.Equal(t, []string{
			"10ms g1 us-east-1:us-east-1 us-west-2:us-east-1",
			"10.01s g1 us-east-1:us-east-1 us-west-2:us-east-1",
			"20.01s g1 us-east-1:us-east-1 us-west-2:us-east-1",
			"30.01s g1 us-east-1:us-east-1 us-west-2:us-east-1",
		}, rounds(all))
		first := slices.IndexFunc(all, func(s seen) bool { _, ok := s.o.(failover.DistributionRound); return ok })
		require.Equal(t, failover.DistributionRound{
			Group: "main", TDG: "g1", TickAt: b.start, Answers: []failover.RegionAnswer{{
				Region:    east,
				Telephony: failover.Distribution{{Region: east, Percent: 100}, {Region: west}},
				Agents:    failover.Distribution{{Region: east, Percent: 100}, {Region: west}},
				SignIn:    failover.Distribution{{Region: east, Percent: 1}},
			}, {
				Region:    west,
				Telephony: failover.Distribution{{Region: east, Percent: 100}, {Region: west}},
				Agents:    failover.Distribution{{Region: east, Percent: 100}, {Region: west}},
				SignIn:    failover.Distribution{{Region: east, Percent: 1}},
			}},
		}, all[first].o)
	})
}

// R1: what an answer does not hold stays unknown.
func TestMissingDistributionStaysNil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		partial := func(context.Context, string) (connect.TrafficDistribution, error) {
			return connect.TrafficDistribution{Telephony: []connect.Share{{Region: east, Percent: 100}}}, nil
		}
		b := start(t, 1, func(b *bench, _ *Options) { b.east.get, b.west.get = partial, partial })
		for _, s := range b.pass(time.Second) {
			if r, ok := s.o.(failover.DistributionRound); ok {
				require.Nil(t, r.Answers[0].Agents)
				require.Nil(t, r.Answers[0].SignIn)
				require.NotNil(t, r.Answers[0].Telephony)
				return
			}
		}
		t.Fatal("no round")
	})
}

// A Region that is silent for a second has no vote, and what it says later makes a round of its own.
func TestSlowRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) { b.west.get = answering(west, 3*time.Second) })
		require.Equal(t, []string{
			"1s g1 us-east-1:us-east-1",
			"3s g1 us-east-1:us-east-1 us-west-2:us-west-2",
			"11s g1 us-east-1:us-east-1",
			"13s g1 us-east-1:us-east-1 us-west-2:us-west-2",
		}, rounds(b.pass(15*time.Second)))
	})
}

// A Region just within its second delays the other by no more than that.
func TestAlmostSlowRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) { b.west.get = answering(west, 999*time.Millisecond) })
		require.Equal(t, []string{"999ms g1 us-east-1:us-east-1 us-west-2:us-west-2"}, rounds(b.pass(5*time.Second)))
	})
}

// A Region that fails is not waited for, whatever the failure.
func TestFailingRegionDelaysNothing(t *testing.T) {
	for _, kind := range []connect.Kind{connect.Unavailable, connect.Throttled, connect.Denied, connect.NotFound, connect.Invalid, connect.Malformed} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, 1, func(b *bench, _ *Options) { b.east.get = failing(kind, 20*time.Millisecond) })
				all := b.pass(15 * time.Second)
				require.Equal(t, []string{"20ms g1 us-west-2:us-east-1", "10.02s g1 us-west-2:us-east-1"}, rounds(all))
				for _, o := range setups(all) {
					require.True(t, o.Repaired, "one Region answers: %+v", o)
				}
			})
		})
	}
}

// The failure of a hanging Region comes after its round. It is no answer, and the other's is not told twice.
func TestHangingRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) { b.west.get = hanging() })
		require.Equal(t, []string{"1s g1 us-east-1:us-east-1", "11s g1 us-east-1:us-east-1"}, rounds(b.pass(15*time.Second)))
	})
}

// At short intervals a hanging Region is asked once at a time (the fake fails the test otherwise), and only the first
// round of each of its silences waits for it.
func TestHangingRegionAtShortIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, o *Options) {
			o.Interval, o.RequestsPerSecond = 500*time.Millisecond, 100
			b.west.get = hanging()
		})
		all := rounds(b.pass(time.Minute))
		previous := time.Duration(0)
		for _, r := range all {
			at, err := time.ParseDuration(r[:len(r)-len(" g1 us-east-1:us-east-1")])
			require.NoError(t, err, r)
			require.LessOrEqual(t, at-previous, 1500*time.Millisecond)
			previous = at
		}
		require.Greater(t, len(all), 90, "most rounds do not wait")
		require.LessOrEqual(t, len(b.west.calls("g1")), 16)
	})
}

// A request of an earlier round is answered when the other Region has said something newer: it is joined with
// that, not with what the other said then, which would look as if the other had gone back.
func TestLateAnswerMeetsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, o *Options) {
			o.Interval, o.RequestsPerSecond = 2*time.Second, 100
			b.west.get = answering(east, 3500*time.Millisecond)
		})
		b.pass(1500 * time.Millisecond) // the round at 1 s: the source alone, with its old value
		b.east.set(answering(west, 10*time.Millisecond))
		require.Equal(t, []string{
			"2.01s g1 us-east-1:us-west-2",
			"3.5s g1 us-east-1:us-west-2 us-west-2:us-east-1",
		}, rounds(b.pass(2400*time.Millisecond)))
	})
}

// ... and not at all with a Region whose newest request failed: it has no vote.
func TestLateAnswerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, o *Options) {
			o.Interval, o.RequestsPerSecond = 2*time.Second, 100
			b.west.get = answering(east, 3500*time.Millisecond)
		})
		b.pass(1500 * time.Millisecond)
		b.east.set(failing(connect.Unavailable, 10*time.Millisecond))
		require.Equal(t, []string{"3.5s g1 us-west-2:us-east-1"}, rounds(b.pass(2400*time.Millisecond)))
	})
}

// Both Regions' requests wait for their turn at our own rate. That is no silence: the first answer waits for the other.
func TestBothLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) {
			b.east.get, b.west.get = answering(east, 3*time.Second), answering(east, 3300*time.Millisecond)
		})
		require.Equal(t, []string{"3.3s g1 us-east-1:us-east-1 us-west-2:us-east-1"}, rounds(b.pass(9*time.Second)))
		b.west.set(answering(east, 6*time.Second))
		require.Equal(t, []string{
			"14s g1 us-east-1:us-east-1",
			"16s g1 us-east-1:us-east-1 us-west-2:us-east-1",
		}, rounds(b.pass(9*time.Second)))
	})
}

// The same over a tick: neither is taken for one that the other had to do without.
func TestBothLateOverATick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, o *Options) {
			o.Interval, o.RequestsPerSecond = 2*time.Second, 100
			b.east.get, b.west.get = answering(east, 3*time.Second), answering(east, 3300*time.Millisecond)
		})
		require.Equal(t, []string{"3.3s g1 us-east-1:us-east-1 us-west-2:us-east-1"}, rounds(b.pass(3900*time.Millisecond)))
	})
}

// Intervals shorter than a second do not take its second from a Region.
func TestShortIntervalsWaitForTheSlower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, o *Options) {
			o.Interval, o.RequestsPerSecond = 500*time.Millisecond, 100
			b.west.get = answering(east, 800*time.Millisecond)
		})
		all := rounds(b.pass(30 * time.Second))
		require.GreaterOrEqual(t, len(all), 29)
		for _, r := range all {
			require.Contains(t, r, "us-east-1:us-east-1 us-west-2:us-east-1")
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) { b.east.get, b.west.get = hanging(), hanging() })
		all := b.pass(time.Minute)
		require.Empty(t, rounds(all))
		for _, o := range setups(all) {
			require.Empty(t, o.TDG, "silence says nothing about a group: %+v", o)
		}
		b.east.set(answering(east, 0))
		require.NotEmpty(t, rounds(b.pass(15*time.Second)))
	})
}

// Eight groups, Amazon's maximum, are spread over the interval, each read every ten seconds in both Regions at once.
func TestGroupsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 8, nil)
		all := b.pass(time.Minute)
		require.Len(t, rounds(all), 8*6)
		var reads []time.Time
		for i := range 8 {
			calls := b.east.calls(fmt.Sprintf("g%d", i+1))
			require.Equal(t, calls, b.west.calls(fmt.Sprintf("g%d", i+1)))
			for j := 1; j < len(calls); j++ {
				require.Equal(t, 10*time.Second, calls[j].Sub(calls[j-1]))
			}
			reads = append(reads, calls...)
		}
		requireRate(t, reads, 1.2)
	})
}

// Too many groups for the rate: each is still read, less often, and the rate is kept.
func TestManyGroupsStretchTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 30, nil)
		b.pass(2 * time.Minute)
		var reads []time.Time
		for i := range 30 {
			calls := b.east.calls(fmt.Sprintf("g%d", i+1))
			for j := 1; j < len(calls); j++ {
				require.InDelta(t, 25*time.Second, calls[j].Sub(calls[j-1]), float64(time.Millisecond), "30 groups at 1.2 a second")
			}
			reads = append(reads, calls...)
		}
		requireRate(t, reads, 1.2)
		require.InDelta(t, 120*1.2, len(reads), 2, "the rate is used")
	})
}

// requireRate fails if any two reads were closer than the rate allows.
func requireRate(t *testing.T, reads []time.Time, rate float64) {
	t.Helper()
	slices.SortFunc(reads, time.Time.Compare)
	for i := 1; i < len(reads); i++ {
		gap := reads[i].Sub(reads[i-1])
		require.GreaterOrEqual(t, gap.Seconds(), 1/rate-1e-6, "reads %d and %d", i-1, i)
	}
}

func TestConfiguredGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 4, func(_ *bench, o *Options) { o.TDGs = []string{"g2", arn("g4"), "g9"} })
		ids, _ := listed(b.pass(30 * time.Second))
		require.Equal(t, []string{"g2", "g4"}, ids)
		require.Empty(t, b.east.calls("g1"))
		require.NotEmpty(t, b.east.calls("g2"))
		require.NotEmpty(t, b.west.calls("g4"))
	})
}

func TestListsEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, nil)
		ids, lists := listed(b.pass(4*time.Minute + time.Second))
		require.Equal(t, []string{"g1"}, ids)
		require.Equal(t, 5, lists, "at the start, soon after, and every minute")
		b.west.setList(answering(east, 0), summary("g1"), summary("g2"))
		b.east.setList(answering(east, 0), summary("g1"), summary("g2"))
		all := b.pass(2 * time.Minute)
		ids, _ = listed(all)
		require.Equal(t, []string{"g1", "g2"}, ids)
		require.NotEmpty(t, b.east.calls("g2"), "a new group is read")
	})
}

// Nothing is known at the start, and nobody answers: the list is asked for again soon, not after a minute.
func TestListIsRetriedAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) {
			b.east.list, b.west.list = failing(connect.Throttled, 0), failing(connect.Unavailable, 0)
		})
		require.Empty(t, rounds(b.pass(12*time.Second)))
		b.west.setList(answering(east, 0), summary("g1"))
		all := b.pass(4 * time.Second)
		ids, _ := listed(all)
		require.Equal(t, []string{"g1"}, ids)
		require.Len(t, rounds(all), 1)
	})
}

// What an earlier leader knew is read at once, even when no Region lists it.
func TestKnownGroupsNeedNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 0, func(b *bench, o *Options) {
			b.east.list, b.west.list = hanging(), hanging()
			o.TDGs = []string{"g1"}
			b.reader = New(*o)
			b.reader.SetKnown([]failover.TDGInfo{{ID: "g1", ARN: arn("g1")}, {ID: "g2", ARN: arn("g2")}})
		})
		all := b.pass(5 * time.Second)
		require.Equal(t, []string{"10ms g1 us-east-1:us-east-1 us-west-2:us-east-1"}, rounds(all))
		_, lists := listed(all)
		require.Zero(t, lists, "a list that nobody gave is no observation")
	})
}

// A hanging Region does not delay the list of the other, and adds to it when it answers.
func TestListOfOneRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) {
			b.east.list = answering(east, 3*time.Second)
			b.west.setList(answering(east, 0), summary("g1"), summary("g2"))
		})
		ids, lists := listed(b.pass(2 * time.Second))
		require.Equal(t, []string{"g1", "g2"}, ids)
		require.Equal(t, 1, lists)
		b.east.setList(answering(east, 0), summary("g1"), summary("g3"))
		ids, _ = listed(b.pass(2 * time.Second))
		require.Equal(t, []string{"g1", "g2", "g3"}, ids, "a group is there if any Region lists it")
	})
}

// The source is down and the replica's list lacks a group: that is the outage, not a deletion. When both answer, it is one.
func TestListDuringAnOutageLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 2, nil)
		ids, _ := listed(b.pass(30 * time.Second))
		require.Equal(t, []string{"g1", "g2"}, ids)
		b.east.setList(failing(connect.Unavailable, 0))
		b.west.setList(answering(east, 0), summary("g1"))
		ids, lists := listed(b.pass(5 * time.Minute))
		require.Equal(t, 5, lists)
		require.Equal(t, []string{"g1", "g2"}, ids)
		b.east.setList(answering(east, 0), summary("g1"))
		ids, _ = listed(b.pass(time.Minute))
		require.Equal(t, []string{"g1"}, ids)
		b.pass(time.Minute)
		before := len(b.east.calls("g2"))
		b.pass(time.Minute)
		require.Greater(t, len(b.east.calls("g2")), before, "a group that has a distribution is read on, whatever the list says")
	})
}

// A deleted group: neither listed nor found. It is not read for ever.
func TestDeletedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 2, nil)
		b.pass(30 * time.Second)
		for _, r := range []*fakeRegion{b.east, b.west} {
			r.setList(answering(east, 0), summary("g1"))
			r.setOf("g2", failing(connect.NotFound, 0))
		}
		all := b.pass(3 * time.Minute)
		require.Contains(t, setups(all), failover.SetupObserved{
			Group: "main", TDG: "g2", Code: failover.CodeTDGNotFound, Message: "traffic distribution group g2 is not found",
		})
		before := len(b.east.calls("g2"))
		all = b.pass(10 * time.Minute)
		require.Len(t, b.east.calls("g2"), before)
		require.Empty(t, slices.DeleteFunc(setups(all), func(o failover.SetupObserved) bool { return o.TDG != "g2" }))

		for _, r := range []*fakeRegion{b.east, b.west} { // and made again
			r.setList(answering(east, 0), summary("g1"), summary("g2"))
			r.setOf("g2", answering(west, 0))
		}
		b.pass(2 * time.Minute)
		require.Greater(t, len(b.east.calls("g2")), before)
	})
}

// A group in a status in which it has no distribution is listed, but not read.
func TestGroupThatIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creating := summary("g1")
		creating.Status = "CREATION_IN_PROGRESS"
		b := start(t, 0, func(b *bench, _ *Options) {
			b.east.tdgs, b.west.tdgs = []connect.TDGSummary{creating}, []connect.TDGSummary{creating}
		})
		all := b.pass(30 * time.Second)
		ids, _ := listed(all)
		require.Equal(t, []string{"g1"}, ids)
		require.Empty(t, rounds(all))
		for _, r := range []*fakeRegion{b.east, b.west} {
			r.setList(answering(east, 0), summary("g1"))
		}
		require.NotEmpty(t, rounds(b.pass(time.Minute)))
	})
}

// Access is denied in every Region that answers: told in each round while it lasts, and its repair once.
func TestAccessDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) {
			b.east.get, b.west.get = failing(connect.Denied, 0), failing(connect.Denied, 0)
		})
		denied := failover.SetupObserved{
			Group: "main", TDG: "g1", Code: failover.CodeAccessDenied,
			Message: "traffic distribution group g1 cannot be read: access is denied; " +
				"the service's role has to allow connect:GetTrafficDistribution",
		}
		ofGroup := func(all []seen) []failover.SetupObserved {
			return slices.DeleteFunc(setups(all), func(o failover.SetupObserved) bool { return o.TDG == "" })
		}
		require.Equal(t, []failover.SetupObserved{denied, denied, denied}, ofGroup(b.pass(25*time.Second)))

		b.east.set(hanging()) // the other alone still says so
		require.Equal(t, []failover.SetupObserved{denied}, ofGroup(b.pass(10*time.Second)))

		b.west.set(failing(connect.Unavailable, 0)) // nobody answers: neither an error nor a repair
		require.Empty(t, ofGroup(b.pass(time.Minute)))

		b.east.set(answering(east, 0))
		require.Equal(t, []failover.SetupObserved{
			{Group: "main", TDG: "g1", Code: failover.CodeAccessDenied, Repaired: true},
		}, ofGroup(b.pass(time.Minute)))
	})
}

// A role that forgot one Region is seen in that Region's health. The agents' set-up works.
func TestAccessDeniedInOneRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) {
			b.west.get, b.west.list = failing(connect.Denied, 0), failing(connect.Denied, 0)
		})
		for _, o := range setups(b.pass(5 * time.Minute)) {
			require.True(t, o.Repaired, "%+v", o)
		}
	})
}

func TestListDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) {
			b.east.list, b.west.list = failing(connect.Denied, 0), failing(connect.Denied, 0)
		})
		told := setups(b.pass(time.Second))
		require.Equal(t, []failover.SetupObserved{{
			Group: "main", Code: failover.CodeAccessDenied,
			Message: "the traffic distribution groups of failover group main cannot be read: access is denied; " +
				"the service's role has to allow connect:ListTrafficDistributionGroups",
		}}, told)
		b.west.setList(answering(east, 0), summary("g1"))
		all := b.pass(10 * time.Second)
		require.Contains(t, setups(all), failover.SetupObserved{Group: "main", Code: failover.CodeAccessDenied, Repaired: true})
		require.NotEmpty(t, rounds(all))
	})
}

// One Region knows no such group, the other denies: they do not say the same, so nothing is told.
func TestRegionsDisagreeAboutTheSetup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) {
			b.east.get, b.west.get = failing(connect.NotFound, 0), failing(connect.Denied, 0)
		})
		all := b.pass(time.Minute)
		for _, o := range setups(all) {
			require.Empty(t, o.TDG, "%+v", o)
		}
		require.Empty(t, rounds(all))
	})
}

// A consumer that takes its time delays the group that it hears, and loses nothing; at the end nothing hangs.
func TestSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := Options{
			Group: "main", Interval: time.Second, RequestsPerSecond: 100, Log: logtest.New(nil),
			Instances: []Instance{{"instance-" + east, newRegion(t, east, 3)}, {"instance-" + west, newRegion(t, west, 3)}},
		}
		emitted := 0
		queue := make(chan failover.Observation)
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(o).Run(ctx, func(_ context.Context, o failover.Observation) {
				select {
				case queue <- o:
				case <-ctx.Done():
				}
			})
		}()
		for range 50 {
			<-queue
			emitted++
			time.Sleep(700 * time.Millisecond)
		}
		cancel()
		<-done
		require.Equal(t, 50, emitted)
	})
}

// A leader that loses its lease stops reading; when it leads again, it begins anew.
func TestRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, func(b *bench, _ *Options) { b.west.get = hanging() })
		b.pass(1500 * time.Millisecond)
		b.stop()
		require.Empty(t, b.pass(time.Minute))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b.reader.Run(ctx, b.emit)
		all := b.pass(0)
		ids, _ := listed(all)
		require.Equal(t, []string{"g1"}, ids)
		require.Len(t, rounds(all), 1)
	})
}
