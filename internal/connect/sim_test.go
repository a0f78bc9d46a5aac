package connect_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"

	"github.com/stretchr/testify/require"
)

// regionsOf makes a Client of each Region of a simulator, in its process. The rate is the service's default unless change
// says otherwise.
func regionsOf(t *testing.T, sim *connectsim.Sim, change func(*connect.Options)) (source, replica *connect.Client) {
	t.Helper()
	var clients [2]*connect.Client
	for i, region := range sim.Regions() {
		o := connect.Options{
			Region: region, RequestsPerSecond: 1.2, Burst: 4, RequestTimeout: 4 * time.Second,
			Transport: sim.Transport(),
			Log:       logtest.New(nil),
		}
		if change != nil {
			change(&o)
		}
		c, err := connect.New(t.Context(), o)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients[i] = c
	}
	return clients[0], clients[1]
}

func unlimited(o *connect.Options) { o.RequestsPerSecond, o.Burst = 1e6, 1e6 }

func TestSimulatorPaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := connectsim.Config{Seed: 1, Agents: 2345, RoutingProfiles: 90}
		for i := range 8 {
			config.TDGs = append(config.TDGs, connectsim.TDGConfig{Name: fmt.Sprintf("group %02d", i), Agents: 1, Default: i == 0})
		}
		sim := connectsim.New(config)
		source, replica := regionsOf(t, sim, unlimited)
		agents := sim.Agents()

		groups, err := replica.ListTrafficDistributionGroups(t.Context(), sim.InstanceID())
		require.NoError(t, err)
		require.Len(t, groups, 8) // Amazon allows no more; paging is seen with FaultEmptyPages
		defaults := slices.DeleteFunc(slices.Clone(groups), func(g connect.TDGSummary) bool { return !g.IsDefault })
		require.Len(t, defaults, 1)

		// The members of all groups together are all agents, read page by page, and by ARN from the replica too.
		var members, want []string
		for _, group := range groups {
			_, err := replica.GetTrafficDistribution(t.Context(), group.ARN)
			require.NoError(t, err)
			for token, more := "", true; more; more = token != "" {
				page, err := source.ListTrafficDistributionGroupUsers(t.Context(), group.ARN, token)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page.UserIDs), 10)
				members, token = append(members, page.UserIDs...), page.NextToken
			}
		}
		profiles := map[string]bool{}
		for _, agent := range agents {
			want = append(want, agent.ID)
			profiles[agent.RoutingProfile] = true
		}
		require.ElementsMatch(t, want, members)

		names := map[string]string{}
		for token, more := "", true; more; more = token != "" {
			page, err := source.ListUsers(t.Context(), sim.InstanceID(), token)
			require.NoError(t, err)
			token = page.NextToken
			for _, user := range page.Users {
				require.NotContains(t, names, user.ID)
				names[user.ID] = user.Username
			}
		}
		require.Len(t, names, len(agents))
		for _, agent := range agents {
			require.Equal(t, agent.Username, names[agent.ID])
		}

		listed, err := source.ListRoutingProfiles(t.Context(), sim.InstanceID())
		require.NoError(t, err)
		require.Len(t, listed, 90)
		require.Len(t, profiles, 90)

		var seen []connect.UserData
		for token, more := "", true; more; more = token != "" {
			page, err := source.CurrentUserData(t.Context(), connect.Sweep, connect.UserDataQuery{
				InstanceID: sim.InstanceID(), RoutingProfiles: listed, NextToken: token,
			})
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Users), 100)
			seen, token = append(seen, page.Users...), page.NextToken
		}
		require.Len(t, seen, len(agents))
		for _, user := range seen {
			agent, err := sim.Agent(user.UserID)
			require.NoError(t, err)
			require.Equal(t, agent.RoutingProfile, user.RoutingProfileID)
			require.Equal(t, connectsim.StatusAvailable, user.StatusName)
			require.False(t, user.StatusSince.IsZero())
		}

		instance, err := replica.DescribeInstance(t.Context(), sim.InstanceID())
		require.NoError(t, err)
		require.Equal(t, sim.Regions()[0], instance.SourceRegion)
	})
}

func TestSimulatorContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := connectsim.New(connectsim.Config{Seed: 1, Agents: 10})
		source, replica := regionsOf(t, sim, unlimited)
		agents := sim.Agents()
		call, err := sim.StartContact(agents[3].ID, "VOICE")
		require.NoError(t, err)
		chat, err := sim.StartContact(agents[3].ID, "CHAT")
		require.NoError(t, err)
		require.NoError(t, sim.EndContact(chat))

		var ids []string
		for _, agent := range agents {
			ids = append(ids, agent.ID)
		}
		busy, err := source.CurrentUserData(t.Context(), connect.Drain, connect.UserDataQuery{
			InstanceID: sim.InstanceID(), AgentIDs: ids, OnlyWithContacts: true,
		})
		require.NoError(t, err)
		require.Len(t, busy.Users, 1)
		require.Equal(t, agents[3].ID, busy.Users[0].UserID)
		require.ElementsMatch(t, []string{call, chat}, []string{busy.Users[0].Contacts[0].ID, busy.Users[0].Contacts[1].ID})
		states := map[string]string{}
		for _, contact := range busy.Users[0].Contacts {
			states[contact.Channel] = contact.State
			require.False(t, contact.StateSince.IsZero())
		}
		require.Equal(t, "ENDED", states["CHAT"], "after-contact work is shown until it is cleared")

		all, err := source.CurrentUserData(t.Context(), connect.Drain, connect.UserDataQuery{InstanceID: sim.InstanceID(), AgentIDs: ids})
		require.NoError(t, err)
		require.Len(t, all.Users, 10)

		_, err = replica.DescribeContact(t.Context(), sim.InstanceID(), "00000000-0000-0000-0000-000000000000")
		require.Equal(t, connect.NotFound, connect.KindOf(err), "%v", err)
		info, err := source.DescribeContact(t.Context(), sim.InstanceID(), call)
		require.NoError(t, err)
		require.Equal(t, call, info.ID)
		require.Equal(t, sim.Regions()[0], info.ActiveRegion)
	})
}

// At Amazon's default quotas the default rate is never throttled, however hard every operation is used.
func TestSimulatorDefaultRateIsWithinTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := connectsim.New(connectsim.Config{Seed: 1, Agents: 100, RatePerSecond: 2, Burst: 5})
		source, _ := regionsOf(t, sim, nil)
		groups, err := source.ListTrafficDistributionGroups(t.Context(), sim.InstanceID())
		require.NoError(t, err)
		start := time.Now()
		requests := 0
		for time.Since(start) < 5*time.Minute {
			_, err := source.GetTrafficDistribution(t.Context(), groups[0].ARN)
			require.NoError(t, err)
			requests++
		}
		require.InDelta(t, 1.2*300, requests, 8)
	})
}

// Somebody else uses most of the quota: the rate adapts, most requests are answered, and the configured rate comes
// back when the other is gone.
func TestSimulatorQuotaShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := connectsim.New(connectsim.Config{Seed: 1, Agents: 100, RatePerSecond: 2, Burst: 5})
		source, _ := regionsOf(t, sim, nil)
		other, _ := regionsOf(t, sim, func(o *connect.Options) { o.RequestsPerSecond, o.Burst = 1.6, 1 })
		groups, err := source.ListTrafficDistributionGroups(t.Context(), sim.InstanceID())
		require.NoError(t, err)
		count := func(seconds float64) (ok, throttled int) {
			for start := time.Now(); time.Since(start).Seconds() < seconds; {
				_, err := source.GetTrafficDistribution(t.Context(), groups[0].ARN)
				switch connect.KindOf(err) {
				case connect.Throttled:
					throttled++
				default:
					require.NoError(t, err)
					ok++
				}
			}
			return ok, throttled
		}
		stop := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = other.GetTrafficDistribution(t.Context(), groups[0].ARN)
				}
			}
		}()
		ok, throttled := count(600)
		require.Greater(t, ok, 10*throttled, "of %d requests %d were throttled", ok+throttled, throttled)
		close(stop)
		<-stopped
		count(60)
		ok, throttled = count(60)
		require.Zero(t, throttled)
		require.InDelta(t, 72, ok, 2, "the configured rate is back")
	})
}

// Every fault of the simulator, on every operation: the kind that it has to be, no data, no effect on the other Region, and
// health again when the fault is gone.
func TestSimulatorFaults(t *testing.T) {
	kinds := map[connectsim.Fault]connect.Kind{
		connectsim.FaultHang:          connect.Unavailable,
		connectsim.FaultReset:         connect.Unavailable,
		connectsim.FaultInternal:      connect.Unavailable,
		connectsim.FaultUnavailable:   connect.Unavailable,
		connectsim.FaultThrottled:     connect.Throttled,
		connectsim.FaultTooMany:       connect.Throttled,
		connectsim.FaultThrottledBare: connect.Throttled,
		connectsim.FaultDenied:        connect.Denied,
		connectsim.FaultTruncated:     connect.Malformed,
		connectsim.FaultMissingList:   connect.Malformed,
		connectsim.FaultNullList:      connect.Malformed,
		connectsim.FaultNotFound:      connect.NotFound,
		// Legal, if unusual, answers.
		connectsim.FaultEmptyPages:     "",
		connectsim.FaultUnknownMembers: "",
	}
	require.Len(t, kinds, len(connectsim.Faults), "a fault of the simulator is not tested")
	for _, fault := range connectsim.Faults {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testFault(t, fault, kinds[fault]) })
		})
	}
}

func testFault(t *testing.T, fault connectsim.Fault, kind connect.Kind) {
	sim := connectsim.New(connectsim.Config{Seed: 1, Agents: 30, View: connectsim.Global}) // both Regions know every contact
	source, replica := regionsOf(t, sim, unlimited)
	contact, err := sim.StartContact(sim.Agents()[0].ID, "VOICE")
	require.NoError(t, err)
	groups, err := source.ListTrafficDistributionGroups(t.Context(), sim.InstanceID())
	require.NoError(t, err)
	arn := groups[0].ARN
	calls := map[string]func(*connect.Client) error{
		connect.OpListTrafficDistributionGroups: func(c *connect.Client) error {
			_, err := c.ListTrafficDistributionGroups(t.Context(), sim.InstanceID())
			return err
		},
		connect.OpGetTrafficDistribution: func(c *connect.Client) error { _, err := c.GetTrafficDistribution(t.Context(), arn); return err },
		connect.OpListTrafficDistributionGroupUsers: func(c *connect.Client) error {
			_, err := c.ListTrafficDistributionGroupUsers(t.Context(), arn, "")
			return err
		},
		connect.OpListUsers: func(c *connect.Client) error { _, err := c.ListUsers(t.Context(), sim.InstanceID(), ""); return err },
		connect.OpListRoutingProfiles: func(c *connect.Client) error {
			_, err := c.ListRoutingProfiles(t.Context(), sim.InstanceID())
			return err
		},
		connect.OpGetCurrentUserData: func(c *connect.Client) error {
			_, err := c.CurrentUserData(t.Context(), connect.Sweep, connect.UserDataQuery{InstanceID: sim.InstanceID(), AgentIDs: []string{sim.Agents()[0].ID}})
			return err
		},
		connect.OpDescribeContact: func(c *connect.Client) error {
			_, err := c.DescribeContact(t.Context(), sim.InstanceID(), contact)
			return err
		},
		connect.OpDescribeInstance: func(c *connect.Client) error { _, err := c.DescribeInstance(t.Context(), sim.InstanceID()); return err },
	}
	require.Len(t, calls, len(connect.Operations))
	lists := []string{
		connect.OpListTrafficDistributionGroups, connect.OpGetTrafficDistribution, connect.OpListTrafficDistributionGroupUsers,
		connect.OpListUsers, connect.OpListRoutingProfiles, connect.OpGetCurrentUserData,
	}
	for _, operation := range connect.Operations {
		if fault == connectsim.FaultMissingList || fault == connectsim.FaultNullList {
			if !slices.Contains(lists, operation) {
				continue
			}
		}
		want := kind
		if fault == connectsim.FaultNotFound && operation == connect.OpListTrafficDistributionGroups {
			want = connect.Invalid // it knows no ResourceNotFoundException
		}
		require.NoError(t, sim.SetFault(sim.Regions()[1], operation, fault))
		for range 5 {
			err := calls[operation](replica)
			require.Equal(t, want, connect.KindOf(err), "%s: %v", operation, err)
			require.NoError(t, calls[operation](source))
		}
		if kind == connect.Unavailable {
			require.Equal(t, connect.StateDown, replica.HealthOf(operation).State)
		}
		require.NoError(t, sim.ClearFault(sim.Regions()[1], operation))
		time.Sleep(5 * time.Second) // a breaker tries again within five seconds
		require.NoError(t, calls[operation](replica))
		require.Equal(t, connect.StateHealthy, replica.HealthOf(operation).State)
	}
	require.Equal(t, connect.StateHealthy, source.Health().State)
	require.Empty(t, source.Health().LastError)
	require.Equal(t, connect.StateHealthy, replica.Health().State)
}

func TestSimulatorRegionDown(t *testing.T) {
	for _, mode := range []connectsim.DownMode{connectsim.DownRefuse, connectsim.DownHang, connectsim.DownUnavailable} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := connectsim.New(connectsim.Config{Seed: 1, Agents: 30, RatePerSecond: 2, Burst: 5})
				source, replica := regionsOf(t, sim, nil)
				groups, err := source.ListTrafficDistributionGroups(t.Context(), sim.InstanceID())
				require.NoError(t, err)
				require.NoError(t, sim.SetRegionDown(sim.Regions()[0], mode))
				for range 60 {
					_, err := source.GetTrafficDistribution(t.Context(), groups[0].ARN)
					require.Equal(t, connect.Unavailable, connect.KindOf(err))
					_, err = replica.GetTrafficDistribution(t.Context(), groups[0].ARN)
					require.NoError(t, err)
					time.Sleep(time.Second)
				}
				require.Equal(t, connect.StateDown, source.Health().State)
				require.NoError(t, sim.SetRegionDown(sim.Regions()[0], connectsim.Up))
				back := time.Now()
				for {
					if _, err = source.GetTrafficDistribution(t.Context(), groups[0].ARN); err == nil {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				require.Less(t, time.Since(back), 5*time.Second)
				require.Equal(t, connect.StateHealthy, source.Health().State)
			})
		})
	}
}
