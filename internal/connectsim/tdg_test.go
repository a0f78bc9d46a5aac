package connectsim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// answeredPercent is what a Region answers as the replica's part of the agents, or the error's type.
func answeredPercent(t testing.TB, s *Sim, region string) any {
	t.Helper()
	a := send(t, s, region, "GET", "/traffic-distribution/"+escaped(tdgARN+DefaultTDGID), "")
	if a.typ != "" {
		return a.typ
	}
	return int(a.body["AgentConfig"].(map[string]any)["Distributions"].([]any)[1].(map[string]any)["Percentage"].(float64))
}

// regionsOf lists the agents' active Regions.
func regionsOf(s *Sim) (regions []string) {
	for _, a := range s.Agents() {
		regions = append(regions, a.ActiveRegion)
	}
	return regions
}

// TestShiftMovesAgentsWhenTheirContactsAreCleared tells the whole story of a shift.
func TestShiftMovesAgentsWhenTheirContactsAreCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Agents: 3, Latency: -1, Lag: 3 * time.Second, UpdateWindow: time.Second, MoveDelay: time.Second})
		agents := sim.Agents()
		call, err := sim.StartContact(agents[0].ID, ChannelVoice)
		require.NoError(t, err)
		chat, err := sim.StartContact(agents[0].ID, ChannelChat)
		require.NoError(t, err)
		task, err := sim.StartContact(agents[1].ID, ChannelTask)
		require.NoError(t, err)

		require.NoError(t, sim.Shift("default", west, 100))
		require.Equal(t, "InvalidRequestException", answeredPercent(t, sim, west), "in the window of the update")
		require.Equal(t, 0, answeredPercent(t, sim, east), "which the other Region does not know of yet")
		time.Sleep(time.Second)
		require.Equal(t, 100, answeredPercent(t, sim, west))
		require.Equal(t, 0, answeredPercent(t, sim, east))
		time.Sleep(2 * time.Second)
		require.Equal(t, "InvalidRequestException", answeredPercent(t, sim, east))
		time.Sleep(time.Second)
		require.Equal(t, 100, answeredPercent(t, sim, east))

		require.Equal(t, []string{east, west, west}, regionsOf(sim), "a task holds nobody")
		a, err := sim.Agent(agents[0].Username)
		require.NoError(t, err)
		require.True(t, a.Waiting)
		require.Equal(t, west, a.TargetRegion)
		require.NoError(t, sim.ClearContact(chat))
		require.NoError(t, sim.EndContact(call))
		time.Sleep(time.Hour)
		require.Equal(t, []string{east, west, west}, regionsOf(sim), "after-contact work holds")
		require.NoError(t, sim.ClearContact(call))
		require.Equal(t, []string{west, west, west}, regionsOf(sim))
		a, err = sim.Agent(agents[0].ID)
		require.NoError(t, err)
		require.False(t, a.Waiting)
		require.True(t, a.MovedAt.Equal(time.Now()))
		require.NoError(t, sim.EndContact(task), "a task needs no clearing")
		require.ErrorContains(t, sim.ClearContact(task), "was cleared")
	})
}

// TestSplitMovesTheDifference goes in steps of ten: who has moved stays moved.
func TestSplitMovesTheDifference(t *testing.T) {
	sim := newChecked(t, Config{Seed: 5, Agents: 1000, MoveDelay: -1})
	moved := map[string]bool{}
	for percent := 10; percent <= 100; percent += 10 {
		require.NoError(t, sim.Shift("", west, percent))
		now := map[string]bool{}
		for _, a := range sim.Agents() {
			if a.ActiveRegion == west {
				now[a.ID] = true
			}
		}
		for id := range moved {
			require.True(t, now[id], "%d %%: an agent went back", percent)
		}
		require.InDelta(t, percent*10, len(now), 50, "%d %%", percent)
		moved = now
	}
	require.Len(t, moved, 1000)
}

// TestTargetThatGoesBackMovesNobody covers both a desktop that has not noticed yet and one that waits for contacts.
func TestTargetThatGoesBackMovesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Agents: 2, MoveDelay: 10 * time.Second})
		contact, err := sim.StartContact("agent00001", ChannelVoice)
		require.NoError(t, err)
		require.NoError(t, sim.Shift("", west, 100))
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{east, west}, regionsOf(sim))
		require.NoError(t, sim.Shift("", east, 100))
		require.NoError(t, sim.ClearContact(contact))
		time.Sleep(time.Minute)
		require.Equal(t, []string{east, east}, regionsOf(sim))
		require.NoError(t, sim.Shift("", west, 100))
		require.NoError(t, sim.Shift("", east, 100), "before any desktop has noticed")
		time.Sleep(time.Minute)
		require.Equal(t, []string{east, east}, regionsOf(sim))
	})
}

// TestSignedOutAndReturningAgents are Offline, and go where they belong.
func TestSignedOutAndReturningAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Agents: 2, MoveDelay: time.Second, AvailableAfter: 30 * time.Second})
		require.NoError(t, sim.SetAgentStatus("agent00002", StatusOffline))
		require.NoError(t, sim.Shift("", west, 100))
		require.Equal(t, []string{east, west}, regionsOf(sim), "nobody is there to wait for")
		status := func(i int) string { return sim.Agents()[i].Status }
		time.Sleep(time.Second)
		require.Equal(t, []string{west, west}, regionsOf(sim))
		require.Equal(t, StatusOffline, status(0), "until the agent becomes available again")
		time.Sleep(30 * time.Second)
		require.Equal(t, StatusAvailable, status(0))
		require.Equal(t, StatusOffline, status(1), "who signed out stays signed out")

		require.NoError(t, sim.Shift("", east, 100))
		time.Sleep(time.Second)
		require.NoError(t, sim.SetAgentStatus("agent00001", "Lunch"))
		time.Sleep(time.Minute)
		require.Equal(t, "Lunch", status(0), "the own choice counts")

		contact, err := sim.StartContact("agent00002", ChannelVoice)
		require.NoError(t, err)
		require.NoError(t, sim.Shift("", west, 100))
		require.NoError(t, sim.SetAgentStatus("agent00002", StatusAvailable))
		require.Equal(t, east, regionsOf(sim)[1], "a contact holds also who signs in")
		require.NoError(t, sim.ClearContact(contact))
		require.Equal(t, west, regionsOf(sim)[1])
	})
}

// TestLaterUpdatesWin although the lag lets an earlier one arrive after them.
func TestLaterUpdatesWin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Latency: -1, Lag: time.Minute})
		require.NoError(t, sim.Shift("", west, 100)) // east learns of it in a minute
		time.Sleep(10 * time.Second)
		require.NoError(t, sim.Shift("", east, 80)) // asked in the east, west learns of it in a minute
		require.Equal(t, 20, answeredPercent(t, sim, east))
		require.Equal(t, 100, answeredPercent(t, sim, west))
		time.Sleep(50 * time.Second)
		require.Equal(t, 20, answeredPercent(t, sim, east), "the older change arrives, and overturns nothing")
		time.Sleep(10 * time.Second)
		require.Equal(t, 20, answeredPercent(t, sim, west))
	})
}

// TestRegionComesBackWithYesterdaysDistribution is what Freeze is for.
func TestRegionComesBackWithYesterdaysDistribution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Latency: -1, Agents: 1, MoveDelay: -1, Lag: time.Second, UpdateWindow: time.Second})
		require.NoError(t, sim.Freeze(east, "default"))
		require.NoError(t, sim.SetRegionDown(east, DownRefuse))
		require.NoError(t, sim.Shift("", west, 100))
		time.Sleep(time.Hour)
		require.NoError(t, sim.SetRegionDown(east, Up))
		require.Equal(t, 0, answeredPercent(t, sim, east))
		require.Equal(t, 100, answeredPercent(t, sim, west))
		require.Equal(t, []string{west}, regionsOf(sim), "the shift is real all the same")
		require.NoError(t, sim.Freeze(east, ""), "once more changes nothing")
		require.NoError(t, sim.Thaw(east, DefaultTDGID))
		require.Equal(t, 100, answeredPercent(t, sim, east))
		require.NoError(t, sim.Thaw(east, DefaultTDGID))
		require.NoError(t, sim.Shift("", west, 50))
		time.Sleep(3 * time.Second)
		require.Equal(t, 50, answeredPercent(t, sim, east), "no longer frozen")
	})
}

// TestGroupsShareTheAgentsByWeight gives agents to groups, and moves a group without the others.
func TestGroupsShareTheAgentsByWeight(t *testing.T) {
	sim := newChecked(t, Config{Agents: 100, MoveDelay: -1, TDGs: []TDGConfig{
		{Name: "default", Default: true, Agents: 5}, {Name: "sales", Agents: 3, Percent: -1}, {Name: "night", Agents: 2, Percent: 50},
	}})
	st := sim.State()
	require.Equal(t, []int{50, 30, 20}, []int{st.TDGs[0].Members, st.TDGs[1].Members, st.TDGs[2].Members})
	require.Equal(t, []Share{{east, 0}, {west, 100}}, st.TDGs[1].InEffect.Agents)
	require.Nil(t, st.TDGs[1].InEffect.SignIn, "sign-in is the default group's alone")
	in := map[string]map[string]int{}
	for _, a := range sim.Agents() {
		if in[a.TDG] == nil {
			in[a.TDG] = map[string]int{}
		}
		in[a.TDG][a.ActiveRegion]++
	}
	require.Equal(t, map[string]int{east: 50}, in[st.TDGs[0].ID])
	require.Equal(t, map[string]int{west: 30}, in[st.TDGs[1].ID])
	require.Len(t, in[st.TDGs[2].ID], 2)
	require.NoError(t, sim.Shift("sales", east, 100))
	require.Equal(t, 0, sim.State().TDGs[1].ToMove)
	require.Len(t, in[st.TDGs[2].ID], 2)
}

// TestMembershipDecidesTheTarget: without a group nobody tells an agent where to be.
func TestMembershipDecidesTheTarget(t *testing.T) {
	sim := newChecked(t, Config{Agents: 2, Latency: -1, MoveDelay: -1, TDGs: []TDGConfig{{Name: "default", Agents: 1}, {Name: "west", Percent: -1}}})
	a := sim.Agents()[0]
	path := func(tdg string) string { return "/traffic-distribution-group/" + tdg + "/user" }
	body := fmt.Sprintf(`{"UserId":%q,"InstanceId":%q}`, a.ID, sim.InstanceID())
	require.Equal(t, 200, send(t, sim, east, "DELETE", path(DefaultTDGID)+"?UserId="+a.ID+"&InstanceId="+sim.InstanceID(), "").status)
	a, err := sim.Agent(a.ID)
	require.NoError(t, err)
	require.Empty(t, a.TDG)
	require.Empty(t, a.TargetRegion)
	require.NoError(t, sim.Shift("default", west, 100))
	require.Equal(t, []string{east, west}, regionsOf(sim))
	require.Equal(t, 200, send(t, sim, east, "PUT", path(sim.State().TDGs[1].ID), body).status)
	require.Equal(t, []string{west, west}, regionsOf(sim))
}
