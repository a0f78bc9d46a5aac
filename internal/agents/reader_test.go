package agents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
	"changeover/internal/logtest"
)

// amazon is a simulator with Amazon's default quotas; its agents follow a shift so late that it does not disturb.
func amazon(agents, profiles int) connectsim.Config {
	return connectsim.Config{Agents: agents, RoutingProfiles: profiles, RatePerSecond: 2, Burst: 5, MoveDelay: time.Hour}
}

const (
	completed = failover.EventFailoverCompleted
	pending   = failover.EventFailoverPending
)

// R6: with Amazon's default quotas and 10,000 agents of whom 30 % are on contacts, the first are released after a
// call or two, and nobody without contacts waits for the whole pass.
func TestR6FirstAreReleasedAfterACallOrTwo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, chainOptions{sim: amazon(10_000, 50)})
		busy := c.occupy(0.3)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		time.Sleep(time.Minute)

		detected, calls := time.Now(), c.calls(east)
		c.shift(west)
		c.until(time.Minute, "everybody without contacts released, everybody else pending", func() bool {
			return c.count(completed) == 7000 && c.count(pending) == 3000
		})
		done := c.of(completed)
		t.Logf("first after %d calls and %s, half after %d calls and %s, last after %d calls and %s",
			done[0].calls-calls, done[0].Time.Sub(detected), done[3500].calls-calls, done[3500].Time.Sub(detected),
			done[6999].calls-calls, done[6999].Time.Sub(detected))
		require.LessOrEqual(t, done[0].calls-calls, 2)
		require.Less(t, done[0].Time.Sub(detected), time.Second)
		require.Less(t, done[3500].Time.Sub(detected), 16*time.Second)
		require.LessOrEqual(t, done[6999].calls-calls, 40)
		for _, e := range done {
			if busy[e.AgentID] != "" {
				t.Fatalf("%s was released while on a call", e.AgentID)
			}
		}
	})
}

// R6: where nearly all agents are in one routing profile the pass cannot be split. With few on contact it is still
// the quickest for most; with many, those last known without contacts are read by id before the others.
func TestR6OneProfile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		busy           float64
		first, allIdle int // calls
	}{
		"few on contact":  {0.3, 8, 8},
		"most on contact": {0.8, 1, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newChain(t, chainOptions{sim: amazon(2000, 1)})
				c.occupy(tt.busy)
				c.list(east)
				c.run()
				defer c.stop()
				c.swept()
				calls, idle := c.calls(east), 2000-int(tt.busy*2000)
				c.shift(west)
				c.until(3*time.Minute, "everybody without contacts released", func() bool { return c.count(completed) == idle })
				done := c.of(completed)
				require.LessOrEqual(t, done[0].calls-calls, tt.first)
				require.LessOrEqual(t, done[idle-1].calls-calls, tt.allIdle)
			})
		})
	}
}

// R6: a traffic distribution group with few agents is read by id, however large the floor is.
func TestR6FewAgentsAreReadByID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, small, members := smallGroup(t, nil)
		busy, err := c.sim.StartContact(members[0], "CHAT")
		require.NoError(t, err)
		c.run()
		defer c.stop()
		c.swept()
		calls := c.calls(east)
		c.distribute(west, small)
		c.until(5*time.Second, "all members decided", func() bool { return c.count(completed)+c.count(pending) == len(members) })
		require.LessOrEqual(t, c.of(completed, pending)[len(members)-1].calls-calls, 2) // one of the sweep may be in between
		require.Equal(t, []string{busy}, c.of(pending)[0].ContactIDs)
	})
}

// R6: agents detected after a chunk began are read again, whoever else that chunk released.
func TestR6DetectionInTheMidstOfAPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := amazon(3000, 30)
		sim.TDGs = []connectsim.TDGConfig{{Name: "default", Default: true, Agents: 1}, {Name: "other", Agents: 1}}
		c := newChain(t, chainOptions{sim: sim})
		c.occupy(0.3)
		other, tdgOf, members := "", map[string]string{}, map[string][]string{}
		for _, a := range c.sim.Agents() {
			if a.TDG != connectsim.DefaultTDGID {
				other = a.TDG
			}
			tdgOf[a.ID] = a.TDG
			members[a.TDG] = append(members[a.TDG], a.ID)
		}
		c.list(east, connectsim.DefaultTDGID, other)
		for tdg, ids := range members {
			c.step(failover.RosterPage{Group: main, TDG: tdg, Pass: 1, UserIDs: ids, Last: true})
			c.distribute(east, tdg)
		}
		c.run()
		defer c.stop()
		c.swept()
		first := time.Now()
		c.distribute(west, connectsim.DefaultTDGID)
		time.Sleep(4 * time.Second)
		second := time.Now()
		released := c.count(completed)
		require.NotZero(t, released)
		c.distribute(west, other)
		c.until(time.Minute, "everybody without contacts released", func() bool { return c.count(completed) == 2100 })
		for _, e := range c.of(completed) {
			since := first
			if tdgOf[e.AgentID] == other {
				since = second
			}
			if e.Time.Before(since) {
				t.Fatalf("%s was released at %s, detected at %s", e.AgentID, e.Time, since)
			}
		}
		require.Less(t, time.Since(second), 20*time.Second, "the second pass is no longer than two")
	})
}

// R6: agents who were on contact when last seen and are not in their chunk may have changed routing profile. They are
// settled by the complete pass or by id, not by the chunk, and do not wait for the drain interval.
func TestR6ContactsThatEndedSinceTheSweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, chainOptions{sim: amazon(2000, 20)})
		busy := c.occupy(0.3)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.swept()
		n := 0
		for _, id := range busy {
			if n++; n <= 100 {
				require.NoError(t, c.sim.EndContact(id))
				require.NoError(t, c.sim.ClearContact(id))
			}
		}
		c.shift(west)
		c.until(15*time.Second, "also those whose contacts have ended", func() bool {
			return c.count(completed) == 1500 && c.count(pending) == 500
		})
	})
}

// R3, R6: a change missed while nobody decided is read at once at the start, when no routing profile is known yet.
func TestR6AtAStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, chainOptions{sim: amazon(3000, 30)})
		busy := c.occupy(0.2)
		c.list(east)
		c.users()
		c.shift(west)
		c.run()
		defer c.stop()
		c.until(30*time.Second, "everybody decided", func() bool {
			return c.count(completed) == 3000-len(busy) && c.count(pending) == len(busy)
		})
	})
}

// R8: the contacts of a pending agent are read each drain interval.
func TestR8PendingAgentsAreReadEachDrainInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, chainOptions{sim: amazon(300, 5)})
		agent := c.sim.Agents()[17].ID
		contact, err := c.sim.StartContact(agent, "VOICE")
		require.NoError(t, err)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.shift(west)
		c.until(5*time.Second, "pending", func() bool { return c.count(pending) == 1 })
		time.Sleep(2 * time.Minute)
		require.NoError(t, c.sim.EndContact(contact))
		time.Sleep(2 * time.Minute) // after-contact work holds
		require.Equal(t, 299, c.count(completed))
		require.NoError(t, c.sim.ClearContact(contact))
		cleared := time.Now()
		c.until(6*time.Second, "completed", func() bool { return c.count(completed) == 300 })
		require.LessOrEqual(t, c.of(completed)[299].Time.Sub(cleared), 5500*time.Millisecond)
	})
}

// R8: who waited for the end of a pause is read again when it ends, also who has signed out meanwhile, of whom no set of routing profiles tells, and
// although every set has been read since the detection.
func TestR8AfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, chainOptions{sim: amazon(300, 5)})
		agent := c.sim.Agents()[17].ID
		contact, err := c.sim.StartContact(agent, "VOICE")
		require.NoError(t, err)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.shift(west)
		c.until(5*time.Second, "pending", func() bool { return c.count(pending) == 1 })
		c.step(failover.PauseGroup{Group: main, TTL: time.Hour})
		require.NoError(t, c.sim.SetAgentStatus(agent, connectsim.StatusOffline))
		require.NoError(t, c.sim.ClearContact(contact))
		time.Sleep(2 * time.Minute)
		c.step(failover.ResumeGroup{Group: main})
		c.until(5*time.Second, "completed", func() bool { return c.count(completed) == 300 })
	})
}

// With more pending agents than the quota lets read each drain interval, all are read equally often, and the sweep goes on.
func TestDrainRotatesFairly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, chainOptions{sim: amazon(600, 6), rate: 0.5})
		c.occupy(1)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.shift(west)
		c.until(time.Minute, "all pending", func() bool { return c.count(pending) == 600 })
		c.mu.Lock()
		begun := len(c.seen)
		c.mu.Unlock()
		time.Sleep(3 * time.Minute)
		c.mu.Lock()
		last, sweeps := map[string]time.Time{}, 0
		longest := time.Duration(0)
		for _, o := range c.seen[begun:] {
			switch o := o.(type) {
			case failover.UserData:
				for _, u := range o.Users {
					if at, ok := last[u.ID]; ok {
						longest = max(longest, o.StartedAt.Sub(at))
					}
					last[u.ID] = o.StartedAt
				}
			case failover.ChunkComplete:
				if o.Region == east && !o.Filtered {
					sweeps++
				}
			}
		}
		c.mu.Unlock()
		require.Len(t, last, 600)
		// 6 calls of 0.5 a second are 12 s, and a sixth of them is the sweep's.
		require.Less(t, longest, 18*time.Second)
		require.Greater(t, sweeps, 6, "chunks of the sweep in three minutes")
	})
}

// R9, R13, R14: whatever one Region does for minutes, on whichever operation, the other Region is read as always, no
// failover begins or ends, and everything goes on afterwards.
func TestR13FaultsChangeNothing(t *testing.T) {
	t.Parallel()
	harmless := []connectsim.Fault{connectsim.FaultEmptyPages, connectsim.FaultUnknownMembers}
	for _, fault := range connectsim.Faults {
		if slices.Contains(harmless, fault) {
			continue
		}
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newChain(t, chainOptions{sim: amazon(150, 3)})
				c.occupy(0.3)
				c.list(east)
				c.run()
				defer c.stop()
				c.swept()
				sweeps := func(region string) int {
					return observed(c, func(o failover.PassComplete) bool { return !o.Filtered && o.Region == region })
				}
				unavailable := func() int { return observed(c, func(failover.ContactsUnavailable) bool { return true }) }
				require.NoError(t, c.sim.SetFault(east, "*", fault))
				time.Sleep(5 * time.Second) // what was under way
				eastBefore, westBefore := sweeps(east), sweeps(west)
				time.Sleep(time.Minute)
				require.Equal(t, eastBefore, sweeps(east), "no pass with a failed page is complete")
				require.InDelta(t, 4, sweeps(west)-westBefore, 1, "the other Region's sweeps")
				switch fault {
				case connectsim.FaultHang, connectsim.FaultReset, connectsim.FaultInternal, connectsim.FaultUnavailable:
					require.NotZero(t, unavailable())
				default: // throttled, denied and malformed answers are no evidence that a Region is down
					require.Zero(t, unavailable())
				}
				c.sim.ClearFaults()
				time.Sleep(time.Minute)
				require.Greater(t, sweeps(east), eastBefore, "the Region is read again")
				require.Empty(t, c.of(failover.EventFailoverDetected, pending, completed, failover.EventFailoverCancelled))
			})
		})
	}
}

// Empty pages with a token, and states and channels that nobody knows, are legal.
func TestHarmlessAnswers(t *testing.T) {
	t.Parallel()
	for _, fault := range []connectsim.Fault{connectsim.FaultEmptyPages, connectsim.FaultUnknownMembers} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newChain(t, chainOptions{sim: amazon(1000, 10)})
				busy := c.occupy(0.3)
				require.NoError(t, c.sim.SetFault("*", "*", fault))
				c.list(east)
				c.run()
				defer c.stop()
				c.swept()
				c.shift(west)
				c.until(time.Minute, "everybody decided", func() bool {
					return c.count(completed) == 1000-len(busy) && c.count(pending) == len(busy)
				})
			})
		})
	}
}

// R13: a page that fails in the middle leaves its chunk incomplete, and the chunk is read again from its beginning.
func TestR13FailedPageLeavesItsChunkIncomplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failing := &failingPages{pages: map[string]int{}}
		c := newChain(t, chainOptions{sim: amazon(450, 1), configure: func(o *Options) {
			failing.Client = o.Instances[0].Client
			o.Instances[0].Client = failing
		}})
		c.list(east)
		c.run()
		defer c.stop()
		c.until(10*time.Minute, "a sweep", func() bool {
			return observed(c, func(o failover.PassComplete) bool { return o.Region == east }) == 1
		})
		failing.mu.Lock()
		defer failing.mu.Unlock()
		require.Equal(t, 2, failing.pages[""], "the chunk was begun twice")
		require.Equal(t, 1, observed(c, func(o failover.ChunkComplete) bool { return o.Region == east }))
	})
}

// failingPages fails the second page of the first chunk, once.
type failingPages struct {
	Client
	mu     sync.Mutex
	pages  map[string]int // asked for, "" for first pages
	failed bool
}

func (f *failingPages) CurrentUserData(ctx context.Context, p connect.Priority, q connect.UserDataQuery) (connect.UserDataPage, error) {
	f.mu.Lock()
	if q.NextToken == "" {
		f.pages[""]++
	}
	fail := q.NextToken != "" && !f.failed
	f.failed = f.failed || fail
	f.mu.Unlock()
	if fail {
		return connect.UserDataPage{}, &connect.Error{Kind: connect.Malformed, Region: east, Operation: connect.OpGetCurrentUserData, Err: errors.New("half a page")}
	}
	return f.Client.CurrentUserData(ctx, p, q)
}

// refusing refuses reads that name an agent or a routing profile that is gone.
type refusing struct {
	Client
	agent, profile string
}

func (r *refusing) CurrentUserData(ctx context.Context, p connect.Priority, q connect.UserDataQuery) (connect.UserDataPage, error) {
	if slices.Contains(q.AgentIDs, r.agent) || slices.Contains(q.RoutingProfiles, r.profile) {
		return connect.UserDataPage{}, &connect.Error{Kind: connect.NotFound, Region: east, Operation: connect.OpGetCurrentUserData, Err: errors.New("gone")}
	}
	return r.Client.CurrentUserData(ctx, p, q)
}

// Whether Amazon Connect refuses a read because of one id that it does not know is not documented. If so, that id keeps
// nobody else from being read, and nothing is concluded about it (R13).
func TestOneUnknownAgentHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &refusing{}
		c, small, members := smallGroup(t, func(o *Options) {
			r.Client = o.Instances[0].Client
			o.Instances[0].Client = r
		})
		r.agent = members[len(members)/2]
		c.run()
		defer c.stop()
		c.swept()
		require.NoError(t, c.sim.RemoveAgent(r.agent))
		c.distribute(west, small)
		c.until(20*time.Second, "everybody else", func() bool { return c.count(completed) == len(members)-1 })
		time.Sleep(2 * time.Minute)
		require.Equal(t, len(members)-1, c.count(completed))
	})
}

// smallGroup is a chain with a large traffic distribution group and one with so few members that they are read by id.
func smallGroup(t *testing.T, configure func(*Options)) (c *chain, small string, members []string) {
	sim := amazon(500, 10)
	sim.TDGs = []connectsim.TDGConfig{{Name: "default", Default: true, Agents: 9}, {Name: "small", Agents: 1}}
	c = newChain(t, chainOptions{sim: sim, configure: configure})
	for _, a := range c.sim.Agents() {
		if a.TDG != connectsim.DefaultTDGID {
			small, members = a.TDG, append(members, a.ID)
		}
	}
	require.Greater(t, len(members), 10)
	require.Less(t, len(members), 100)
	c.list(east, connectsim.DefaultTDGID, small)
	c.step(failover.RosterPage{Group: main, TDG: small, Pass: 1, UserIDs: members, Last: true})
	c.distribute(east, small)
	return c, small, members
}

// A routing profile that is refused keeps no other from being swept, and its agents are read by id at a detection.
func TestOneRefusedProfileHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &refusing{}
		c := newChain(t, chainOptions{sim: amazon(600, 20), configure: func(o *Options) {
			r.Client = o.Instances[0].Client
			o.Instances[0].Client = r
		}})
		r.profile = c.sim.Agents()[7].RoutingProfile
		c.list(east)
		c.run()
		defer c.stop()
		time.Sleep(3 * time.Minute)
		swept := map[string]bool{}
		c.mu.Lock()
		for _, o := range c.seen {
			if o, ok := o.(failover.ChunkComplete); ok && o.Region == east {
				for _, p := range o.Profiles {
					swept[p] = true
				}
			}
		}
		c.mu.Unlock()
		require.Len(t, swept, 19)
		require.NotContains(t, swept, r.profile)
		require.Zero(t, observed(c, func(o failover.PassComplete) bool { return o.Region == east }), "what was not read is not complete")
		c.shift(west)
		c.until(time.Minute, "everybody, those of the refused profile by id", func() bool { return c.count(completed) == 600 })
	})
}

// Where there is one traffic distribution group, everybody is known within seconds, by ListUsers.
func TestR2EverybodyIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, chainOptions{sim: amazon(5000, 50)})
		c.list(east)
		c.run()
		defer c.stop()
		c.until(6*time.Second, "all users of both Regions", func() bool {
			return observed(c, func(o failover.UsersListed) bool { return o.Last }) == 2
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Len(t, c.state.AgentsOf(main), 5000)
		for _, a := range c.state.AgentsOf(main) {
			if a.Username == "" || a.TDG != connectsim.DefaultTDGID {
				t.Fatalf("%s has username %q and is in group %q", a.ID, a.Username, a.TDG)
			}
		}
	})
}

// rosterPages returns the pages of members seen so far.
func rosterPages(c *chain) (pages []failover.RosterPage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.seen {
		if o, ok := o.(failover.RosterPage); ok {
			pages = append(pages, o)
		}
	}
	return pages
}

// twoGroups is a chain with two traffic distribution groups of which each has half of the agents.
func twoGroups(t *testing.T, agents int) (*chain, []Roster) {
	sim := amazon(agents, 10)
	sim.TDGs = []connectsim.TDGConfig{{Name: "default", Default: true, Agents: 1}, {Name: "other", Agents: 1}}
	c := newChain(t, chainOptions{sim: sim})
	ids := map[string]bool{}
	var rosters []Roster
	for _, a := range c.sim.Agents() {
		if !ids[a.TDG] {
			ids[a.TDG] = true
			rosters = append(rosters, Roster{TDG: a.TDG, ARN: tdgARN(a.TDG)})
		}
	}
	c.list(east, rosters[0].TDG, rosters[1].TDG)
	return c, rosters
}

// R2: members are listed ten a page, the groups in turns, again each membership interval.
func TestR2MembersAreListedInTheBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, rosters := twoGroups(t, 60)
		c.reader.SetRosters(rosters)
		c.run()
		defer c.stop()
		lasts := func(pass int64) int {
			n := 0
			for _, p := range rosterPages(c) {
				if p.Last && p.Pass == pass {
					n++
				}
			}
			return n
		}
		c.until(time.Minute, "both groups listed", func() bool { return lasts(1) == 2 })
		members := map[string]int{}
		for _, p := range rosterPages(c) {
			require.LessOrEqual(t, len(p.UserIDs), 10)
			require.Equal(t, p.Last, p.NextToken == "")
			members[p.TDG] += len(p.UserIDs)
		}
		require.Equal(t, 60, members[rosters[0].TDG]+members[rosters[1].TDG])
		require.NotEqual(t, rosterPages(c)[0].TDG, rosterPages(c)[1].TDG, "the groups take turns")
		time.Sleep(13 * time.Minute)
		require.Zero(t, lasts(2))
		time.Sleep(3 * time.Minute)
		require.Equal(t, 2, lasts(2))
	})
}

// R2: a pass goes on after a restart where it was committed, and begins anew when its token is refused.
func TestR2MembersAreResumed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, rosters := twoGroups(t, 400)
		c.reader.SetRosters(rosters[:1])
		c.run()
		c.until(time.Minute, "some pages", func() bool { return len(rosterPages(c)) == 8 })
		c.stop()
		c.mu.Lock()
		progress := c.state.TDG(rosters[0].TDG).Roster
		before := 0
		for _, o := range c.seen {
			if o, ok := o.(failover.RosterPage); ok {
				before += len(o.UserIDs)
			}
		}
		c.seen = nil
		c.mu.Unlock()
		require.EqualValues(t, 1, progress.Pass)
		require.NotEmpty(t, progress.NextToken)

		rosters[0].Progress = progress
		c.reader.SetRosters(rosters[:1])
		c.run()
		c.until(time.Minute, "the rest", func() bool {
			pages := rosterPages(c)
			return len(pages) > 0 && pages[len(pages)-1].Last
		})
		c.stop()
		rest := 0
		for _, p := range rosterPages(c) {
			require.EqualValues(t, 1, p.Pass)
			rest += len(p.UserIDs)
		}
		members := 0
		for _, a := range c.sim.Agents() {
			if a.TDG == rosters[0].TDG {
				members++
			}
		}
		require.Equal(t, members, before+rest)

		c.mu.Lock()
		c.seen = nil
		c.mu.Unlock()
		progress.Pass, progress.NextToken = 7, east+" a token of long ago"
		rosters[0].Progress = progress
		c.reader.SetRosters(rosters[:1])
		c.run()
		defer c.stop()
		c.until(time.Minute, "a whole pass", func() bool {
			pages := rosterPages(c)
			return len(pages) > 0 && pages[len(pages)-1].Last
		})
		listed := 0
		for _, p := range rosterPages(c) {
			require.EqualValues(t, 8, p.Pass)
			listed += len(p.UserIDs)
		}
		require.Equal(t, members, listed)
	})
}

// R2: members are listed in the other Region when the source does not answer.
func TestR2MembersAreListedWithoutTheSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, rosters := twoGroups(t, 100)
		require.NoError(t, c.sim.SetRegionDown(east, connectsim.DownHang))
		c.reader.SetRosters(rosters)
		c.run()
		defer c.stop()
		c.until(10*time.Minute, "both groups listed", func() bool {
			return observed(c, func(o failover.RosterPage) bool { return o.Last }) == 2
		})
	})
}

// R20: with global routing the Regions are swept in turn, the from-Region's read decides, and a contact that began after
// the detection is looked up once.
func TestR20GlobalRouting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := amazon(300, 10)
		sim.View = connectsim.Global
		c := newChain(t, chainOptions{sim: sim})
		busy := c.occupy(0.3)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.swept()
		sweeps := func() int { return observed(c, func(o failover.PassComplete) bool { return !o.Filtered }) }
		begun := sweeps()
		time.Sleep(3 * time.Minute)
		require.InDelta(t, 12, sweeps()-begun, 1, "one of either Region each agent interval")

		calls := c.calls(east)
		c.shift(west)
		c.until(time.Minute, "everybody decided", func() bool {
			return c.count(completed) == 300-len(busy) && c.count(pending) == len(busy)
		})
		require.Greater(t, c.calls(east), calls)

		agent := c.of(pending)[0].AgentID
		elsewhere, err := c.sim.StartContactIn(west, agent, "CHAT")
		require.NoError(t, err)
		require.NoError(t, c.sim.EndContact(busy[agent]))
		require.NoError(t, c.sim.ClearContact(busy[agent]))
		c.until(20*time.Second, "the contact of the new Region does not hold", func() bool {
			return slices.ContainsFunc(c.of(completed), func(e event) bool { return e.AgentID == agent })
		})
		lookups := c.sim.CallCounts()[connectsim.CallKey{Region: east, Operation: connect.OpDescribeContact}] +
			c.sim.CallCounts()[connectsim.CallKey{Region: west, Operation: connect.OpDescribeContact}]
		require.Equal(t, 1, lookups)
		require.Equal(t, 1, observed(c, func(o failover.ContactLocated) bool { return o.ContactID == elsewhere && o.Region == west }))
	})
}

// R20: a contact whose Region nobody tells counts as one that cannot be told, after a few tries in both Regions.
func TestR20LookupThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := amazon(10, 2)
		sim.View = connectsim.Global
		c := newChain(t, chainOptions{sim: sim})
		agent := c.sim.Agents()[0].ID
		contact, err := c.sim.StartContact(agent, "VOICE")
		require.NoError(t, err)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.shift(west)
		c.until(5*time.Second, "pending", func() bool { return c.count(pending) == 1 })
		require.NoError(t, c.sim.SetFault("*", connect.OpDescribeContact, connectsim.FaultInternal))
		second, err := c.sim.StartContact(agent, "CHAT")
		require.NoError(t, err)
		c.until(time.Minute, "given up", func() bool {
			return observed(c, func(o failover.ContactLocated) bool { return o.ContactID == second && o.Region == "" }) == 1
		})
		require.NoError(t, c.sim.EndContact(contact))
		require.NoError(t, c.sim.ClearContact(contact))
		time.Sleep(time.Minute)
		for _, e := range c.of(completed) {
			require.NotEqual(t, agent, e.AgentID)
		}
	})
}

// A raised quota is used although each answer takes its time.
func TestParallelReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := connectsim.Config{Agents: 3000, RoutingProfiles: 30, Latency: 300 * time.Millisecond, MoveDelay: time.Hour}
		c := newChain(t, chainOptions{sim: sim, rate: 20})
		c.occupy(0.3)
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.swept()
		detected := time.Now()
		c.shift(west)
		c.until(10*time.Second, "everybody decided", func() bool { return c.count(completed)+c.count(pending) == 3000 })
		require.Less(t, time.Since(detected), 1500*time.Millisecond, "one after the other it would be 3 s")
	})
}

func TestRecord(t *testing.T) {
	t.Parallel()
	connected, since := time.Unix(100, 0), time.Unix(200, 0)
	got := record(&connect.UserData{UserID: "u1", RoutingProfileID: "p1", StatusName: "offline", Contacts: []connect.Contact{
		{ID: "c1", Channel: "VOICE", State: "CONNECTED", StateSince: since, ConnectedAt: connected},
		{ID: "c2", Channel: "CHAT", State: "INCOMING", StateSince: since},
	}})
	require.Equal(t, failover.UserRecord{ID: "u1", RoutingProfile: "p1", Offline: true, Contacts: []failover.Contact{
		{ID: "c1", Channel: "VOICE", State: "CONNECTED", StateSince: since, Began: connected},
		{ID: "c2", Channel: "CHAT", State: "INCOMING", StateSince: since, Began: since},
	}}, got)
	require.True(t, record(&connect.UserData{UserID: "u1"}).Offline, "no status says nothing of presence")
	require.False(t, record(&connect.UserData{UserID: "u1", StatusName: "Lunch"}).Offline)
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for failures := 1; failures < 100; failures++ {
		d := backoff(failures, 5*time.Second)
		require.GreaterOrEqual(t, d, 400*time.Millisecond)
		require.LessOrEqual(t, d, 6*time.Second)
	}
}

// A Reader that is stopped at any moment leaves nothing behind and can run again.
func TestStopAtAnyMoment(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, time.Millisecond, 700 * time.Millisecond, 20 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newChain(t, chainOptions{sim: amazon(500, 5)})
				c.occupy(0.5)
				c.list(east)
				c.users()
				c.run()
				time.Sleep(after)
				c.shift(west)
				time.Sleep(after)
				c.stop()
				synctest.Wait()
				n := len(c.seen)
				time.Sleep(time.Minute)
				require.Len(t, c.seen, n)
				c.reader.SetWork(c.state.Work(time.Now()))
				c.run()
				defer c.stop()
				c.until(time.Minute, "everybody without contacts", func() bool { return c.count(completed) == 250 })
			})
		})
	}
}

// R13: a shift while the from-Region cannot be read: nobody is released meanwhile, everybody is decided soon after.
func TestR13FaultsDuringAShift(t *testing.T) {
	t.Parallel()
	for _, fault := range connectsim.Faults {
		if fault == connectsim.FaultEmptyPages || fault == connectsim.FaultUnknownMembers {
			continue
		}
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newChain(t, chainOptions{sim: amazon(150, 3)})
				busy := c.occupy(0.3)
				c.list(east)
				c.run()
				defer c.stop()
				c.swept()
				require.NoError(t, c.sim.SetFault(east, connect.OpGetCurrentUserData, fault))
				time.Sleep(5 * time.Second) // what was under way
				calls := c.calls(east)
				c.shift(west)
				time.Sleep(25 * time.Second)
				require.Empty(t, c.of(completed, pending))
				require.Less(t, c.calls(east)-calls, 40, "more than the quota")
				c.sim.ClearFaults()
				c.until(25*time.Second, "everybody decided", func() bool {
					return c.count(completed) == 150-len(busy) && c.count(pending) == len(busy)
				})
			})
		})
	}
}

// R9: the from-Region goes down in the midst of a shift. Those last known without contacts are released after
// regionDownAfter, the others are held with what is last known, and decided when it is back.
func TestR9RegionDownInTheMidstOfAShift(t *testing.T) {
	t.Parallel()
	for _, mode := range []connectsim.DownMode{connectsim.DownRefuse, connectsim.DownHang, connectsim.DownUnavailable} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newChain(t, chainOptions{sim: amazon(300, 3)})
				busy := c.occupy(0.3)
				c.list(east)
				c.run()
				defer c.stop()
				c.swept()
				c.swept()
				require.NoError(t, c.sim.SetRegionDown(east, mode))
				sweeps := observed(c, func(o failover.PassComplete) bool { return o.Region == west })
				down := time.Now()
				c.distribute(west, connectsim.DefaultTDGID)
				time.Sleep(29 * time.Second)
				require.Empty(t, c.of(completed, pending))
				c.until(10*time.Second, "those last known without contacts", func() bool { return c.count(completed) == 300-len(busy) })
				for _, e := range c.of(completed) {
					require.Equal(t, failover.LastKnown, e.Evidence)
				}
				require.GreaterOrEqual(t, time.Since(down), 30*time.Second)
				require.Equal(t, len(busy), c.count(pending))
				time.Sleep(5 * time.Minute)
				require.Equal(t, 300-len(busy), c.count(completed))
				require.InDelta(t, 22, observed(c, func(o failover.PassComplete) bool { return o.Region == west })-sweeps, 2, "the other Region is read as always")
				for _, id := range busy {
					require.NoError(t, c.sim.EndContact(id))
					require.NoError(t, c.sim.ClearContact(id))
				}
				require.NoError(t, c.sim.SetRegionDown(east, connectsim.Up))
				c.until(15*time.Second, "the others, when it is back", func() bool { return c.count(completed) == 300 })
			})
		})
	}
}

// R2: a replica made before November 2023 has ids of its own. Agents are read there by those, and are still one agent.
func TestR2ReplicaWithOtherIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := amazon(200, 4)
		sim.DifferingUserIDs, sim.MoveDelay = true, time.Second
		c := newChain(t, chainOptions{sim: sim})
		c.list(east)
		c.run()
		defer c.stop()
		c.swept()
		c.shift(west)
		c.until(10*time.Second, "everybody in the west", func() bool { return c.count(completed) == 200 })
		c.swept()
		c.swept()
		agent := c.sim.Agents()[11].ID
		contact, err := c.sim.StartContact(agent, "VOICE")
		require.NoError(t, err)
		c.shift(east)
		c.until(10*time.Second, "everybody but one back in the east", func() bool { return c.count(completed) == 399 })
		require.Equal(t, agent, c.of(pending)[0].AgentID)
		require.Equal(t, []string{contact}, c.of(pending)[0].ContactIDs)
		require.NoError(t, c.sim.EndContact(contact))
		require.NoError(t, c.sim.ClearContact(contact))
		c.until(10*time.Second, "the last one, read by the id of the replica", func() bool { return c.count(completed) == 400 })
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Len(t, c.state.AgentsOf(main), 200)
	})
}

// R6: a sweep that was under way at the detection ends without having shown an agent, so that no set of routing profiles counts for them. If the work
// says so only after such a set was read, the agent is read by id at once, and not with the next turn of those who are settled.
func TestR6SweepMissesAnAgentAfterTheDetection(t *testing.T) {
	t.Parallel()
	r := New(Options{
		Group: main, Routing: failover.Regional, RequestsPerSecond: 1.2, DrainInterval: 5 * time.Second, Log: logtest.New(nil),
		Instances: []Instance{{Client: nowhere(east)}, {Client: nowhere(west)}},
	})
	g := r.regions[0]
	g.list, g.profiles = []string{"sales"}, map[string]*profile{"sales": {}}
	detected := time.Unix(1000, 0)
	var w failover.Work
	for i := range 300 {
		id := fmt.Sprint(i)
		w.Drain = append(w.Drain, failover.DrainItem{
			Group: main, Region: east, AgentID: id, UserID: id, FailoverID: "failover-" + id, DetectedAt: detected, ReadAt: detected.Add(-time.Second),
			RoutingProfile: "sales", KnownEmpty: true,
		})
	}
	r.SetWork(w)
	now := detected.Add(10 * time.Millisecond)
	chunk, _ := g.next(now)
	require.Equal(t, []string{"sales"}, chunk.profiles)
	require.Nil(t, g.done(t.Context(), chunk, now, map[string]bool{}, time.Millisecond, nil))
	r.SetWork(w)
	again, wait := g.next(now)
	require.Nil(t, again, "the core has not said yet what became of what was read")
	require.Positive(t, wait)

	w.Drain[17].RoutingProfile = ""
	r.SetWork(w)
	again, _ = g.next(now)
	require.NotNil(t, again)
	require.Equal(t, []string{"17"}, again.ids)
	r.SetWork(w)
	require.Nil(t, g.done(t.Context(), again, now, nil, time.Millisecond, nil))
	r.SetWork(w)
	again, _ = g.next(now)
	require.Nil(t, again, "once is enough")
}

// The leader's loop hands work over after every commit.
func BenchmarkSetWork(b *testing.B) {
	const agents = 50_000
	r := New(Options{
		Group: main, Routing: failover.Regional, RequestsPerSecond: 1.2, Log: logtest.New(nil),
		Instances: []Instance{{Client: nowhere(east)}, {Client: nowhere(west)}},
	})
	var w failover.Work
	for i := range agents {
		w.Drain = append(w.Drain, failover.DrainItem{
			Group: main, Region: east, AgentID: fmt.Sprint(i), UserID: fmt.Sprint(i), FailoverID: fmt.Sprint("failover-", i), DetectedAt: time.Unix(1, 0),
		})
	}
	for b.Loop() {
		r.SetWork(w)
	}
}

// nowhere is a Region that is not asked.
type nowhere string

func (n nowhere) Region() string { return string(n) }

func (nowhere) ListRoutingProfiles(context.Context, string) ([]string, error) { panic("asked") }

func (nowhere) ListUsers(context.Context, string, string) (connect.UserPage, error) { panic("asked") }

func (nowhere) ListTrafficDistributionGroupUsers(context.Context, string, string) (connect.UserIDPage, error) {
	panic("asked")
}

func (nowhere) CurrentUserData(context.Context, connect.Priority, connect.UserDataQuery) (connect.UserDataPage, error) {
	panic("asked")
}

func (nowhere) DescribeContact(context.Context, string, string) (connect.ContactInfo, error) {
	panic("asked")
}
