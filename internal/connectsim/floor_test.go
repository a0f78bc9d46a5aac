package connectsim

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// busyShare is the part of the agents who are on a contact.
func busyShare(s *Sim) float64 {
	n := 0
	for _, a := range s.Agents() {
		if len(a.Contacts) > 0 {
			n++
		}
	}
	return float64(n) / float64(s.State().Agents)
}

// TestFloorIsBusyFromTheBeginning starts where a floor that has been running for long would be, and stays there.
func TestFloorIsBusyFromTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Seed: 1, Agents: 2000, Floor: Busy()})
		first := busyShare(sim)
		require.InDelta(t, 0.6, first, 0.1)
		seen := map[string]bool{}
		for range 30 {
			time.Sleep(2 * time.Minute)
			require.InDelta(t, first, busyShare(sim), 0.06)
			for _, a := range sim.Agents() {
				for _, c := range a.Contacts {
					seen[c.Channel+" "+c.State] = true
				}
			}
		}
		for _, want := range []string{
			"VOICE CONNECTING", "VOICE CONNECTED", "VOICE CONNECTED_ONHOLD", "VOICE ENDED", "VOICE MISSED", "VOICE REJECTED",
			"CHAT INCOMING", "CHAT CONNECTED", "CHAT ENDED", "TASK CONNECTING", "TASK CONNECTED",
		} {
			require.True(t, seen[want], want)
		}
		require.False(t, seen["TASK ENDED"], "tasks have no after-contact work")
	})
}

// TestSameSeedSameFloor makes a run repeatable; another seed makes another one.
func TestSameSeedSameFloor(t *testing.T) {
	run := func(seed uint64) string {
		var out string
		synctest.Test(t, func(t *testing.T) {
			sim := newChecked(t, Config{Seed: seed, Agents: 50, Floor: Busy(), Lag: time.Second})
			time.Sleep(time.Minute)
			require.NoError(t, sim.Shift("", west, 50))
			time.Sleep(10 * time.Minute)
			b, err := json.Marshal(sim.Agents())
			require.NoError(t, err)
			out = string(b)
		})
		return out
	}
	a := run(1)
	require.Equal(t, a, run(1))
	require.NotEqual(t, a, run(2))
}

// TestRunChangesNothing: the state is a function of time, whether or not Run is running.
func TestRunChangesNothing(t *testing.T) {
	run := func(live bool) string {
		var out string
		synctest.Test(t, func(t *testing.T) {
			sim := newChecked(t, Config{Seed: 9, Agents: 20, Floor: Busy()})
			done := make(chan struct{})
			if live {
				go func() { defer close(done); sim.Run(t.Context()) }()
				t.Cleanup(func() { <-done })
			}
			time.Sleep(time.Hour)
			b, err := json.Marshal(sim.Agents())
			require.NoError(t, err)
			out = string(b)
		})
		return out
	}
	require.Equal(t, run(false), run(true))
}

// TestRunWakesForNewEvents lets an idle floor begin to work.
func TestRunWakesForNewEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Agents: 100})
		done := make(chan struct{})
		go func() { defer close(done); sim.Run(t.Context()) }()
		t.Cleanup(func() { <-done })
		synctest.Wait() // Run sleeps for an hour: there is nothing to do
		require.NoError(t, sim.SetFloor(Floor{CallsPerHour: 60}))
		time.Sleep(time.Minute)
		sim.mu.Lock() // without advance: what Run has done
		n := len(sim.contacts)
		sim.mu.Unlock()
		require.Greater(t, n, 10)
		require.NoError(t, sim.SetFloor(Floor{}))
		time.Sleep(24 * time.Hour)
		require.Zero(t, busyShare(sim), "contacts that began go on to their end, no others begin")
		require.Zero(t, sim.Floor().CallsPerHour)
	})
}

// TestWaitingAgentsGetNoNewContacts: the queue of the old Region gives them nothing more.
func TestWaitingAgentsGetNoNewContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Seed: 2, Agents: 300, MoveDelay: time.Second, Floor: Busy()})
		time.Sleep(10 * time.Minute)
		require.NoError(t, sim.Shift("", west, 100))
		time.Sleep(time.Second)
		waiting := sim.State().TDGs[0].Waiting
		require.Greater(t, waiting, 100)
		require.Equal(t, waiting, sim.State().TDGs[0].ToMove, "who has no call or chat has moved")
		for range 60 {
			time.Sleep(time.Minute)
		}
		require.Zero(t, sim.State().TDGs[0].ToMove, "everybody moves in the end")
		require.Equal(t, 300, sim.State().Regions[1].Agents)
		for _, a := range sim.Agents() {
			for _, c := range a.Contacts {
				require.Equal(t, west, c.Region)
			}
		}
	})
}

// TestFiftyThousandAgents costs no goroutines and moves all of them.
func TestFiftyThousandAgents(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	sim := New(Config{Agents: 50_000, Floor: Busy(), Latency: -1})
	later := func(d time.Duration) {
		sim.mu.Lock()
		defer sim.mu.Unlock()
		sim.advance(sim.now + d)
	}
	later(time.Minute)
	require.NoError(t, sim.Shift("", west, 100))
	later(time.Minute)
	st := sim.State().TDGs[0]
	require.Equal(t, st.Waiting, st.ToMove)
	require.InDelta(t, 18_500, st.Waiting, 2_000)
	require.NoError(t, sim.SetFloor(Floor{})) // what began goes on
	later(6 * time.Hour)
	require.Equal(t, 50_000, sim.State().Regions[1].Agents)
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}

// userData reads all pages of GetCurrentUserData.
func userData(t testing.TB, s *Sim, region, filters string, limit int) (users []map[string]any) {
	t.Helper()
	next := ""
	for {
		body := fmt.Sprintf(`{"Filters":{%s},"MaxResults":%d%s}`, filters, limit, next)
		a := send(t, s, region, "POST", "/metrics/userdata/"+s.InstanceID(), body)
		require.Equal(t, 200, a.status, a.raw)
		list := a.body["UserDataList"].([]any)
		require.LessOrEqual(t, len(list), limit)
		for _, u := range list {
			users = append(users, u.(map[string]any))
		}
		token, _ := a.body["NextToken"].(string)
		if token == "" {
			return users
		}
		next = fmt.Sprintf(`,"NextToken":%q`, token)
	}
}

// shown is an answer in short: agent id, status, contact ids.
func shown(users []map[string]any) (out []string) {
	for _, u := range users {
		line := u["User"].(map[string]any)["Id"].(string) + " " + u["Status"].(map[string]any)["StatusName"].(string)
		for _, c := range u["Contacts"].([]any) {
			line += " " + c.(map[string]any)["ContactId"].(string)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// TestRegionalView shows agents where they are active and contacts where they live.
func TestRegionalView(t *testing.T) {
	for _, showOffline := range []bool{false, true} {
		sim := newChecked(t, Config{Agents: 3, Latency: -1, MoveDelay: -1, ShowOffline: showOffline, DifferingUserIDs: true})
		a := sim.Agents()
		idIn := func(i int, region string) string { return a[i].IDs[region] }
		task, err := sim.StartContact(a[0].ID, ChannelTask)
		require.NoError(t, err)
		require.NoError(t, sim.SetAgentStatus(a[2].ID, StatusOffline))
		require.NoError(t, sim.Shift("", west, 100))
		call, err := sim.StartContact(a[0].ID, ChannelVoice)
		require.NoError(t, err)
		all := profileFilter(sim)
		inEast := []string{idIn(0, east) + " Offline " + task} // the task stayed behind
		inWest := []string{idIn(0, west) + " Available " + call, idIn(1, west) + " Available"}
		if showOffline {
			inEast = append(inEast, idIn(1, east)+" Offline", idIn(2, east)+" Offline")
			inWest = append(inWest, idIn(2, west)+" Offline")
		}
		slices.Sort(inEast)
		slices.Sort(inWest)
		require.NotEqual(t, idIn(0, east), idIn(0, west))
		for _, limit := range []int{1, 2, 100} {
			require.Equal(t, inEast, shown(userData(t, sim, east, all, limit)))
			require.Equal(t, inWest, shown(userData(t, sim, west, all, limit)))
		}
		require.Empty(t, userData(t, sim, west, `"Agents":["`+idIn(0, east)+`"]`, 100), "the other Region's id")
	}
}

// TestGlobalView is the same from both Regions, save for the contacts of a Region that is down.
func TestGlobalView(t *testing.T) {
	sim := newChecked(t, Config{Agents: 2, Latency: -1, MoveDelay: -1, View: Global})
	a := sim.Agents()
	old, err := sim.StartContact(a[0].ID, ChannelVoice)
	require.NoError(t, err)
	require.NoError(t, sim.Shift("", west, 100))
	fresh, err := sim.StartContactIn(west, a[0].ID, ChannelChat)
	require.NoError(t, err)
	want := []string{a[0].ID + " Available " + old + " " + fresh, a[1].ID + " Available"}
	slices.Sort(want)
	for _, region := range sim.Regions() {
		require.Equal(t, want, shown(userData(t, sim, region, profileFilter(sim), 100)))
		for contact, lives := range map[string]string{old: east, fresh: west} {
			c := send(t, sim, region, "GET", "/contacts/"+sim.InstanceID()+"/"+contact, "").body["Contact"].(map[string]any)
			require.Equal(t, lives, c["GlobalResiliencyMetadata"].(map[string]any)["ActiveRegion"])
		}
	}
	require.Equal(t, []string{east, west}, regionsOf(sim))
	require.NoError(t, sim.SetRegionDown(east, DownHang))
	want = []string{a[0].ID + " Available " + fresh, a[1].ID + " Available"}
	slices.Sort(want)
	require.Equal(t, want, shown(userData(t, sim, west, profileFilter(sim), 100)))
	require.Equal(t, 404, send(t, sim, west, "GET", "/contacts/"+sim.InstanceID()+"/"+old, "").status)
	require.NoError(t, sim.SetRegionDown(east, Up))
	require.NoError(t, sim.ClearContact(old))
	require.Equal(t, []string{west, west}, regionsOf(sim), "a contact of the target Region holds nobody")
}

// TestGlobalFloor sends calls where the telephony distribution says.
func TestGlobalFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Seed: 4, Agents: 500, View: Global, Floor: Busy()})
		require.NoError(t, sim.UpdateTrafficDistribution(east, "", Distributions{Telephony: []Share{{west, 70}, {east, 30}}}))
		time.Sleep(2 * time.Hour)
		n := map[string]int{}
		for _, a := range sim.Agents() {
			require.Equal(t, east, a.ActiveRegion)
			for _, c := range a.Contacts {
				n[c.Region]++
			}
		}
		require.InDelta(t, 0.7, float64(n[west])/float64(n[east]+n[west]), 0.1)
	})
}

// TestFilters of GetCurrentUserData name agents in four ways, by id or ARN.
func TestFilters(t *testing.T) {
	sim := newChecked(t, Config{Agents: 40, RoutingProfiles: 4, Latency: -1})
	all := userData(t, sim, east, profileFilter(sim), 7)
	require.Len(t, all, 40)
	first := all[0]
	arn := func(member string) string { return first[member].(map[string]any)["Arn"].(string) }
	id := func(member string) string { return first[member].(map[string]any)["Id"].(string) }
	group := first["HierarchyPath"].(map[string]any)["LevelOne"].(map[string]any)
	contact, err := sim.StartContact(id("User"), ChannelVoice)
	require.NoError(t, err)
	queue := userData(t, sim, east, `"Agents":["`+id("User")+`"]`, 1)[0]["Contacts"].([]any)[0].(map[string]any)["Queue"].(map[string]any)
	count := func(filters string) int { return len(userData(t, sim, east, filters, 3)) }
	for filter, want := range map[string]int{
		`"Agents":["` + arn("User") + `"]`:                                                       1,
		`"Agents":["` + id("User") + `","` + arn("User") + `"]`:                                  1,
		`"Agents":["nobody"]`:                                                                    0,
		`"Agents":["` + strings.Replace(arn("User"), east, west, 1) + `"]`:                       0,
		`"RoutingProfiles":["` + id("RoutingProfile") + `"]`:                                     10,
		`"RoutingProfiles":["` + id("RoutingProfile") + `","` + arn("RoutingProfile") + `","x"]`: 10,
		`"Queues":["` + queue["Id"].(string) + `"]`:                                              10,
		`"Queues":["` + queue["Arn"].(string) + `","x"]`:                                         10,
		`"UserHierarchyGroups":["` + group["Id"].(string) + `"]`:                                 10,
		`"UserHierarchyGroups":["` + group["Arn"].(string) + `"]`:                                10,
		`"UserHierarchyGroups":["x"]`:                                                            0,
		profileFilter(sim) + `,"ContactFilter":{}`:                                               40,
		profileFilter(sim) + `,"ContactFilter":{"ContactStates":[]}`:                             40,
		profileFilter(sim) + `,"ContactFilter":{"ContactStates":["CONNECTED"]}`:                  1,
		profileFilter(sim) + `,"ContactFilter":{"ContactStates":["ENDED","MISSED"]}`:             0,
	} {
		require.Equal(t, want, count(filter), filter)
	}
	require.NoError(t, sim.EndContact(contact))
	require.Equal(t, 1, count(profileFilter(sim)+`,"ContactFilter":{"ContactStates":["ENDED","MISSED"]}`))

	a := send(t, sim, east, "POST", "/metrics/userdata/"+sim.InstanceID(), `{"Filters":{"RoutingProfiles":["`+id("RoutingProfile")+`"]},"MaxResults":3}`)
	require.EqualValues(t, 10, a.body["ApproximateTotalCount"])
	other := send(t, sim, east, "POST", "/metrics/userdata/"+sim.InstanceID(), fmt.Sprintf(`{"Filters":{"Agents":["x"]},"NextToken":%q}`, a.body["NextToken"]))
	require.Equal(t, "InvalidParameterException", other.typ, "a token belongs to its request")
}

// TestPagesStayTheSameWhileAgentsComeAndGo: nobody who stays is missed or shown twice.
func TestPagesStayTheSameWhileAgentsComeAndGo(t *testing.T) {
	sim := newChecked(t, Config{Agents: 100, Latency: -1})
	var stay []string
	for i, a := range sim.Agents() {
		if i%10 != 3 {
			stay = append(stay, a.ID)
		}
	}
	agents := sim.Agents()
	var got []string
	next, page := "", 0
	for {
		a := send(t, sim, east, "GET", "/traffic-distribution-group/"+DefaultTDGID+"/user?maxResults=10"+next, "")
		for _, u := range a.body["TrafficDistributionGroupUserSummaryList"].([]any) {
			got = append(got, u.(map[string]any)["UserId"].(string))
		}
		if page < 10 { // one leaves from every page, and somebody new comes
			require.NoError(t, sim.RemoveAgent(agents[page*10+3].Username))
			if page == 5 {
				id, err := sim.AddAgent("", "")
				require.NoError(t, err)
				stay = append(stay, id)
			}
		}
		page++
		token, ok := a.body["NextToken"].(string)
		if !ok {
			break
		}
		next = "&nextToken=" + token
	}
	seen := map[string]int{}
	for _, id := range got {
		seen[id]++
		require.Equal(t, 1, seen[id])
	}
	for _, id := range stay {
		require.Equal(t, 1, seen[id], "%s was missed", id)
	}
	require.Len(t, sim.Agents(), 91)
}

// TestRemovedAgentsAreGone everywhere, contacts included.
func TestRemovedAgentsAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Agents: 3, Floor: Floor{CallsPerHour: 3600}})
		time.Sleep(time.Minute)
		require.NoError(t, sim.Shift("", west, 100))
		a := sim.Agents()[1]
		contact, err := sim.StartContact(a.ID, ChannelChat)
		require.NoError(t, err)
		require.NoError(t, sim.RemoveAgent(a.ID))
		time.Sleep(time.Hour)
		require.Len(t, sim.Agents(), 2)
		_, err = sim.Agent(a.Username)
		require.Error(t, err)
		require.ErrorContains(t, sim.EndContact(contact), "was cleared")
		require.Empty(t, userData(t, sim, east, `"Agents":["`+a.ID+`"]`, 100))
		require.Equal(t, 2, sim.State().TDGs[0].Members)
		again, err := sim.AddAgent(a.Username, "default")
		require.NoError(t, err)
		require.Equal(t, a.ID, again, "ids depend on the seed and the name alone")
		b, err := sim.Agent(again)
		require.NoError(t, err)
		require.Equal(t, west, b.ActiveRegion, "a new agent begins where agents belong")
	})
}

// TestDescribeContactKnowsClearedContacts for a while: the last 20,000.
func TestDescribeContactKnowsClearedContacts(t *testing.T) {
	sim := newChecked(t, Config{Agents: 1, Latency: -1})
	get := func(id string) rawAnswer {
		return send(t, sim, east, "GET", "/contacts/"+sim.InstanceID()+"/"+id, "")
	}
	first, err := sim.StartContact("agent00001", ChannelVoice)
	require.NoError(t, err)
	require.Nil(t, get(first).body["Contact"].(map[string]any)["DisconnectTimestamp"])
	require.NoError(t, sim.EndContact(first))
	require.NotNil(t, get(first).body["Contact"].(map[string]any)["DisconnectTimestamp"])
	require.NoError(t, sim.ClearContact(first))
	require.Equal(t, 200, get(first).status)
	for range keepCleared {
		id, err := sim.StartContact("agent00001", ChannelTask)
		require.NoError(t, err)
		require.NoError(t, sim.EndContact(id))
	}
	require.Equal(t, 404, get(first).status)
	require.Len(t, sim.contacts, keepCleared)
}

// TestTimestamps are seconds since 1970 with milliseconds; hold does not change when the state began.
func TestTimestamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Agents: 1, Latency: -1})
		time.Sleep(1234 * time.Millisecond)
		began := time.Now()
		id, err := sim.StartContact("agent00001", ChannelVoice)
		require.NoError(t, err)
		require.Contains(t, send(t, sim, east, "GET", "/contacts/"+sim.InstanceID()+"/"+id, "").raw, fmt.Sprintf(`"InitiationTimestamp":%d.234,`, began.Unix()))
		time.Sleep(10 * time.Second)
		require.NoError(t, sim.SetContactState(id, StateOnHold))
		c := sim.Agents()[0].Contacts[0]
		require.True(t, c.StateSince.Equal(began), c.StateSince)
		require.NoError(t, sim.EndContact(id))
		require.True(t, sim.Agents()[0].Contacts[0].StateSince.Equal(time.Now()))
	})
}
