package acceptance

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
)

// broken are the operations that fail together in one case. Where there is one traffic distribution group everybody is its member, so
// that members are listed only where there are two (R2).
var broken = []struct {
	name       string
	groups     []connectsim.TDGConfig
	operations [][]string
}{
	{"one group", nil, [][]string{{connect.OpGetCurrentUserData}, {connect.OpGetTrafficDistribution}}},
	{"two groups", twoGroups, [][]string{{
		// What is only listed or looked up fails at the same time, each in another way.
		connect.OpListTrafficDistributionGroups, connect.OpListTrafficDistributionGroupUsers, connect.OpListUsers,
		connect.OpListRoutingProfiles, connect.OpDescribeContact,
	}, {"*"}}},
}

var twoGroups = []connectsim.TDGConfig{{Name: "default", Default: true, Agents: 1}, {Name: "support", Agents: 1}}

// quick lists members and users each minute, so that faults of those lists have something to break.
func quick(c *config.Config) { c.Poll.MembershipInterval = time.Minute }

// Every fault, of every operation, in each Region, with both routings, for two minutes each: nothing at all is told of it; a shift
// in its midst is detected within an interval and a second; nobody is let go whom a call holds; and once the fault is over, everything
// comes right.
func TestFaultsChangeNothing(t *testing.T) {
	for _, c := range broken {
		for _, view := range []connectsim.View{connectsim.Regional, connectsim.Global} {
			for _, region := range []string{east, west} {
				for _, fault := range connectsim.Faults {
					t.Run(fmt.Sprintf("%s/%s/%s/%s", c.name, view, region, fault), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							config := connectsim.Config{
								Seed: 1, View: view, Agents: 8, RoutingProfiles: 3, TDGs: c.groups, RatePerSecond: 2, Burst: 5,
							}
							faultsOfARegion(t, config, region, fault, c.operations)
						})
					})
				}
			}
		}
	}
}

func faultsOfARegion(t *testing.T, config connectsim.Config, region string, fault connectsim.Fault, cases [][]string) {
	f := newFloor(t, config, quick)
	caller, worker := f.id(0), f.id(1)
	f.contact(caller, connectsim.ChannelVoice)
	f.contact(worker, connectsim.ChannelTask) // holds nobody
	f.start()
	f.until(time.Minute, "the floor is known", f.settled)
	f.pass(20 * time.Second)

	to := west // first, so that a contact in the Region that takes over is looked up (R20)
	for _, operations := range cases {
		case_ := fmt.Sprintf("%s of %s, shift to %s", fault, operations, to)
		since := f.mark()
		for i, operation := range operations {
			of := (slices.Index(connectsim.Faults, fault) + 3*i) % len(connectsim.Faults)
			require.NoError(t, f.SetFault(region, operation, connectsim.Faults[of]))
		}
		if region == west { // in the east the shift comes together with the fault, while what was read last is fresh (R9)
			f.pass(time.Minute)
			f.silent(since)
		}

		f.shift(to)
		f.pass(f.config.Poll.DistributionInterval + time.Second + slack)
		require.Empty(t, f.unaware(to), case_) // the other Region has told of it
		chat := ""
		if config.View == connectsim.Global && to == west { // a chat in the Region that takes over holds nobody, if that can be told (R20)
			var err error
			chat, err = f.StartContactIn(west, caller, connectsim.ChannelChat)
			require.NoError(t, err)
		}
		f.pass(50 * time.Second)
		if region == east {
			since := f.mark()
			f.pass(time.Minute)
			f.silent(since)
		}
		require.Equal(t, east, f.store.agent(caller).ActiveRegion, case_)
		for _, e := range f.store.events(since) {
			if e.Evidence == failover.LastKnown { // of a Region that does not answer at all (R9)
				require.Contains(t, []connectsim.Fault{
					connectsim.FaultHang, connectsim.FaultReset, connectsim.FaultInternal, connectsim.FaultUnavailable,
				}, fault, case_)
				require.Contains(t, []string{"*", connect.OpGetCurrentUserData}, operations[0], case_)
			}
		}

		f.ClearFaults()
		if chat != "" {
			require.NoError(t, f.ClearContact(chat))
		}
		// An agent whom Amazon Connect refused to show by id is left alone for a minute.
		f.until(time.Minute+15*time.Second, "right again after "+case_, func() bool {
			detected, pending := f.open(to)
			if to == east {
				return f.settled()
			}
			return len(f.where()[west]) == 7 && detected == nil && slices.Equal(pending, []string{caller})
		})
		to = f.other(to)
	}
	if config.View == connectsim.Global {
		asked := f.CallCounts()
		require.NotZero(t, asked[connectsim.CallKey{Region: east, Operation: connect.OpDescribeContact}])
	}
}

// Every fault in both Regions at once: nothing is told, and what was missed is found when it is over.
func TestFaultsOfBothRegions(t *testing.T) {
	for _, view := range []connectsim.View{connectsim.Regional, connectsim.Global} {
		for _, fault := range connectsim.Faults {
			t.Run(fmt.Sprintf("%s/%s", view, fault), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFloor(t, connectsim.Config{Seed: 1, View: view, Agents: 8, RoutingProfiles: 3, TDGs: twoGroups, RatePerSecond: 2, Burst: 5}, quick)
					f.start()
					f.until(time.Minute, "the floor is known", f.settled)
					f.pass(20 * time.Second)
					since := f.mark()
					require.NoError(t, f.SetFault("*", "*", fault))
					f.pass(time.Minute)
					f.silent(since)
					f.shift(west)
					f.pass(2 * time.Minute)
					switch fault {
					case connectsim.FaultEmptyPages, connectsim.FaultUnknownMembers: // which are good answers
						require.True(t, f.settled())
					case connectsim.FaultDenied, connectsim.FaultNotFound: // which the agents are told of (R17)
						f.silent(since, failover.EventConfigureError)
						require.NotEqual(t, since, f.mark())
					default:
						f.silent(since)
					}
					f.ClearFaults()
					f.until(2*time.Minute, "everything is right again", f.settled)
					f.pass(70 * time.Second) // the groups are listed each minute
					for _, p := range f.Agents() {
						require.Empty(t, f.store.agent(p.ID).Errors, "a repaired set-up")
					}
				})
			})
		}
	}
}

// A slow Region: what the other shows is not delayed by more than a second, and its late answers change nothing.
func TestSlowRegion(t *testing.T) {
	for _, view := range []connectsim.View{connectsim.Regional, connectsim.Global} {
		for _, region := range []string{east, west} {
			for _, latency := range []time.Duration{900 * time.Millisecond, 1500 * time.Millisecond, 3900 * time.Millisecond} { // longer ones are no answers
				t.Run(fmt.Sprintf("%s/%s/%s", view, region, latency), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						f := newFloor(t, connectsim.Config{Seed: 1, View: view, Agents: 8, RoutingProfiles: 3, RatePerSecond: 2, Burst: 5}, quick)
						f.start()
						f.until(time.Minute, "the floor is known", f.settled)
						f.pass(20 * time.Second)
						require.NoError(t, f.SetLatency(region, "*", latency))
						for range 4 { // at different moments of the interval
							for _, to := range []string{west, east} {
								since := f.mark()
								f.pass(73 * time.Second)
								f.silent(since)
								f.shift(to)
								f.pass(f.config.Poll.DistributionInterval + time.Second + slack)
								require.Empty(t, f.unaware(to))
								f.until(90*time.Second, "everybody is there", f.settled)
							}
						}
					})
				})
			}
		}
	}
}
