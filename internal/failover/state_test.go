package failover

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// floorOf is a contact centre with the given agents, who work in us-east-1; read and swept a second ago.
func floorOf(t *testing.T, agents ...string) *service {
	t.Helper()
	s := newService(t, defaults(), mainGroup(Regional))
	s.step(Started{})
	s.step(TDGsListed{Group: "main", At: s.now, TDGs: []TDGInfo{{ID: "default", ARN: "arn:default", Status: "ACTIVE", IsDefault: true}}})
	users := UsersListed{Group: "main", Region: east, StartedAt: s.now, Last: true}
	for _, id := range agents {
		users.Users = append(users.Users, User{id, id})
	}
	s.step(users)
	s.step(rounds(s, "default", toEast, toEast))
	for _, o := range sweepOf(s, agents...) {
		s.step(o)
	}
	s.now = s.now.Add(time.Second)
	return s
}

// rounds is a round in which us-east-1 and us-west-2 answer; nil is silence.
func rounds(s *service, tdg string, inEast, inWest Distribution) DistributionRound {
	o := DistributionRound{Group: "main", TDG: tdg, TickAt: s.now}
	if inEast != nil {
		o.Answers = append(o.Answers, RegionAnswer{Region: east, Agents: inEast})
	}
	if inWest != nil {
		o.Answers = append(o.Answers, RegionAnswer{Region: west, Agents: inWest})
	}
	return o
}

// sweepOf are complete sweeps of both Regions that show the agents in us-east-1, each in a call.
func sweepOf(s *service, agents ...string) []Observation {
	data := UserData{Group: "main", Region: east, StartedAt: s.now}
	for _, id := range agents {
		data.Users = append(data.Users, UserRecord{ID: id, RoutingProfile: "sales", Contacts: []Contact{
			{ID: "call-" + id, Channel: "VOICE", State: "CONNECTED", StateSince: noon, Began: noon},
		}})
	}
	all := []Observation{data}
	for _, region := range []string{east, west} {
		all = append(all,
			ChunkComplete{Group: "main", Region: region, StartedAt: s.now, Profiles: []string{"sales"}},
			PassComplete{Group: "main", Region: region, StartedAt: s.now, FinishedAt: s.now})
	}
	return all
}

// TestQuietFloorWritesNothing: a fleet on which nothing changes costs no transaction, but for the age of its lists now and then.
func TestQuietFloorWritesNothing(t *testing.T) {
	t.Parallel()
	s := floorOf(t, "anna", "ben")
	saved := map[string]int{}
	for range 60 {
		s.now = s.now.Add(2 * time.Second)
		for _, o := range append(sweepOf(s, "anna", "ben"), Tick{}, Streaming{Since: map[string]time.Time{"anna": s.now}}, rounds(s, "default", toEast, toEast)) {
			eff := s.step(o)
			require.Empty(t, eff.Events)
			require.Empty(t, eff.Failovers)
			require.Empty(t, eff.Changes)
			for _, a := range eff.Agents {
				saved[a.ID]++
			}
		}
	}
	// Two minutes: a list's age is stored when it has grown by half of failover.contactsMaxAge, 30 s; there are two lists.
	for id, n := range saved {
		require.LessOrEqual(t, n, 8, id)
		require.GreaterOrEqual(t, n, 3, id)
	}
}

// TestReadAgainWritesNothing: the contacts that hold a failover are read every few seconds for as long as a call lasts. What is the same costs no
// transaction, but for the age of the list now and then.
func TestReadAgainWritesNothing(t *testing.T) {
	t.Parallel()
	s := floorOf(t, "anna", "ben")
	s.step(rounds(s, "default", toWest, toWest))
	s.now = s.now.Add(time.Second)
	read := func() Effects { return s.step(sweepOf(s, "anna", "ben")[0]) }
	eff := read()
	require.Len(t, eff.Events, 2) // failoverPending
	require.Len(t, eff.Failovers, 2)
	saved := 0
	for range 24 {
		s.now = s.now.Add(5 * time.Second)
		eff := read()
		require.Empty(t, eff.Events)
		require.Empty(t, eff.Failovers)
		saved += len(eff.Agents)
	}
	require.LessOrEqual(t, saved, 2*4, "two minutes, each half of failover.contactsMaxAge")
	require.GreaterOrEqual(t, saved, 2*3)
	require.Equal(t, s.now, s.state.Agent("anna").Failover.EvidenceAt, "in memory it is as new as the last read")
}

// TestDetectionMeasure: changeover_failover_detection_seconds counts from the last observation of the old value by whoever
// brought the new one.
func TestDetectionMeasure(t *testing.T) {
	t.Parallel()
	s := floorOf(t, "anna")
	s.now = s.now.Add(10 * time.Second)
	s.step(rounds(s, "default", toEast, toEast))
	old := s.now
	require.Equal(t, old, s.state.TDG("default").ObservedAt)
	s.now = s.now.Add(10 * time.Second)
	s.step(rounds(s, "default", nil, toWest)) // us-east-1 is silent
	require.Equal(t, old, s.state.Agent("anna").Failover.LastOldAt)

	// Said by the desktop, the old value was last observed with the report before.
	s = floorOf(t, "ben")
	s.step(rounds(s, "default", splitFloor, splitFloor))
	s.now = s.now.Add(time.Second)
	s.step(Report{AgentID: "ben", At: s.now, ActiveRegion: east})
	old = s.now
	s.now = s.now.Add(20 * time.Second)
	s.step(Report{AgentID: "ben", At: s.now, ActiveRegion: west})
	require.Equal(t, old, s.state.Agent("ben").Failover.LastOldAt)
}

// TestUnknownObservation: a type that nobody decides on is a mistake of the programmer, not of the world.
func TestUnknownObservation(t *testing.T) {
	t.Parallel()
	require.Panics(t, func() { floorOf(t, "anna").state.Step(nil, noon) })
}

// TestOtherGroups: what concerns a failover group or traffic distribution group that is not the one named changes nothing.
func TestOtherGroups(t *testing.T) {
	t.Parallel()
	two := mainGroup(Regional)
	two.Name = "two"
	s := newService(t, defaults(), mainGroup(Regional), two)
	s.step(Started{})
	for group, tdg := range map[string]string{"main": "one", "two": "other"} {
		s.step(TDGsListed{Group: group, At: s.now, TDGs: []TDGInfo{{ID: tdg, Status: "ACTIVE"}}})
	}
	s.step(UserData{Group: "main", Region: east, StartedAt: s.now, Users: []UserRecord{{ID: "anna"}}})
	s.step(rounds(s, "one", toEast, toEast))

	for _, o := range []Observation{
		DistributionRound{Group: "two", TDG: "one", TickAt: s.now, Answers: []RegionAnswer{{Region: east, Agents: toWest}}},
		DistributionRound{Group: "three", TDG: "one", TickAt: s.now, Answers: []RegionAnswer{{Region: east, Agents: toWest}}},
		DistributionRound{Group: "main", TDG: "one", TickAt: s.now},
		RosterPage{Group: "two", TDG: "one", Pass: 1, Last: true},
		RosterPage{Group: "two", TDG: "other", Pass: 1, UserIDs: []string{"anna"}},
		SetupObserved{Group: "two", TDG: "one", Code: CodeAccessDenied},
		SetupObserved{Group: "three", Code: CodeAccessDenied},
		UsersListed{Group: "two", Region: east, StartedAt: s.now, Users: []User{{"anna", "anna"}}},
		UsersListed{Group: "three", Region: east, StartedAt: s.now, Last: true},
		TDGsListed{Group: "two", At: s.now, TDGs: []TDGInfo{{ID: "one", Status: "PENDING_DELETION"}, {ID: "other", Status: "ACTIVE"}}},
		TDGsListed{Group: "three", At: s.now},
		UserData{Group: "two", Region: east, StartedAt: s.now, Users: []UserRecord{{ID: "anna", Contacts: []Contact{{ID: "c", Channel: "VOICE"}}}}, Absent: []string{"anna"}},
		UserData{Group: "main", Region: "eu-west-2", StartedAt: s.now, Users: []UserRecord{{ID: "anna", Contacts: []Contact{{ID: "c", Channel: "VOICE"}}}}},
		ChunkComplete{Group: "three", Region: east, StartedAt: s.now},
		PassComplete{Group: "main", Region: "eu-west-2", StartedAt: s.now, FinishedAt: s.now},
		ContactsUnavailable{Group: "main", Region: "eu-west-2", At: s.now},
		ContactLocated{AgentID: "nobody", ContactID: "c", Region: west},
	} {
		s.now = s.now.Add(time.Second)
		eff := s.step(o)
		require.Empty(t, eff.Events, "%T", o)
		require.Empty(t, eff.Agents, "%T", o)
		require.Equal(t, "one", s.state.Agent("anna").TDG)
		require.Empty(t, s.state.Agent("anna").Lists[0].Contacts)
		require.Empty(t, s.state.TDG("one").Setup)
		require.Equal(t, east, s.state.TDG("one").Agents.Adopted.target())
	}
	for _, r := range s.state.Group("main").Regions {
		require.Contains(t, []string{east, west}, r.Region)
	}
}

// TestContactChanges: whatever Amazon Connect shows otherwise than before is stored, and nothing else is. The fields that the core
// computes are not taken from a reader.
func TestContactChanges(t *testing.T) {
	t.Parallel()
	call := Contact{ID: "c", Channel: "VOICE", State: "CONNECTED", StateSince: noon, Began: noon}
	for name, test := range map[string]struct {
		change func(c *Contact)
		stored bool
	}{
		"nothing":                {func(*Contact) {}, false},
		"another state":          {func(c *Contact) { c.State = "ENDED" }, true},
		"another channel":        {func(c *Contact) { c.Channel = "CHAT" }, true},
		"since another time":     {func(c *Contact) { c.StateSince = noon.Add(time.Minute) }, true},
		"begun earlier":          {func(c *Contact) { c.Began = noon.Add(-time.Minute) }, true},
		"begun later, they say":  {func(c *Contact) { c.Began = noon.Add(time.Minute) }, false},
		"no beginning":           {func(c *Contact) { c.Began = time.Time{} }, false},
		"what the core computes": {func(c *Contact) { c.Desktop, c.ReportedAt, c.StaleSince = true, noon, noon }, false},
		"what it looks up":       {func(c *Contact) { c.Lookup, c.LookupTo, c.Region, c.Surfaced = LookupTold, west, west, false }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := floorOf(t, "anna")
			read := func(c Contact) Effects {
				s.now = s.now.Add(time.Second)
				return s.step(UserData{Group: "main", Region: east, StartedAt: s.now, Users: []UserRecord{{ID: "anna", RoutingProfile: "sales", Contacts: []Contact{c}}}})
			}
			read(call)
			was := s.state.Agent("anna").Lists[0].Contacts[0]
			changed := call
			test.change(&changed)
			eff := read(changed)
			require.Equal(t, test.stored, len(eff.Agents) == 1)
			if !test.stored {
				was.ObservedAt = s.now
				require.Equal(t, was, s.state.Agent("anna").Lists[0].Contacts[0])
			}
		})
	}
	s := floorOf(t, "anna")
	s.now = s.now.Add(time.Second)
	s.step(UserData{Group: "main", Region: east, StartedAt: s.now, Users: []UserRecord{{ID: "anna", Contacts: []Contact{
		{ID: "c", Channel: "VOICE", Desktop: true, ReportedAt: noon, StaleSince: noon, Lookup: LookupTold, LookupTo: west, Region: west},
	}}}})
	require.Equal(t, []Contact{{ID: "c", Channel: "VOICE", Region: east, Blocking: true, Surfaced: true, ObservedAt: s.now}}, s.state.Agent("anna").Lists[0].Contacts)
}

// TestReportObserves: a report that names the Region which is active is an observation of it; one that comes late is none.
func TestReportObserves(t *testing.T) {
	t.Parallel()
	s := floorOf(t, "anna")
	report := func(active string, ago time.Duration) time.Time {
		s.step(Report{AgentID: "anna", At: s.now.Add(-ago), ActiveRegion: active})
		return s.state.Agent("anna").ObservedAt
	}
	s.now = s.now.Add(time.Minute)
	require.Equal(t, s.now, report(east, 0))
	require.Equal(t, s.now, report(east, 30*time.Second))
	require.Equal(t, s.now, report(west, 0))
	s.now = s.now.Add(time.Minute)
	require.Equal(t, s.now.Add(-time.Minute), report(west, 0))

	// A contact that only the desktop shows from now on is stored as such; and so is that it is gone with the desktop.
	for _, channel := range []string{"VOICE", "TASK"} {
		s = floorOf(t, "carl")
		read := func(contacts ...Contact) Effects {
			s.now = s.now.Add(time.Second)
			return s.step(UserData{Group: "main", Region: east, StartedAt: s.now, Users: []UserRecord{{ID: "carl", RoutingProfile: "sales", Contacts: contacts}}})
		}
		read(Contact{ID: "c", Channel: channel})
		s.step(Report{AgentID: "carl", At: s.now, HasContacts: true, Contacts: []ReportedContact{{"c", channel, "CONNECTED"}}})
		require.Len(t, read().Agents, 1)
		require.True(t, s.state.Agent("carl").Lists[0].Contacts[0].Desktop)
		s.step(rounds(s, "default", toWest, toWest))
		s.now = s.now.Add(reportFresh + time.Second)
		require.Len(t, s.step(Tick{}).Agents, 1)
		require.Empty(t, s.state.Agent("carl").Lists[0].Contacts)
	}

	// Of an agent of whom nothing is known, contacts without a Region cannot be placed.
	s = newService(t, defaults(), mainGroup(Regional))
	s.step(Started{})
	s.step(UserData{Group: "main", Region: east, StartedAt: s.now, Users: []UserRecord{{ID: "ben"}}})
	s.step(Report{AgentID: "ben", At: s.now, HasContacts: true, Contacts: []ReportedContact{{"c", "VOICE", "CONNECTED"}}})
	require.Len(t, s.state.Agent("ben").Lists, 1)
	require.Empty(t, s.state.Agent("ben").Lists[0].Contacts)
}

// TestListings: where a pass stands is stored; what ListUsers told of users who are no agents is forgotten with them; and who is
// dropped and found again in one page is not dropped.
func TestListings(t *testing.T) {
	t.Parallel()
	s := newService(t, defaults(), mainGroup(Regional))
	s.step(Started{})
	s.step(TDGsListed{Group: "main", At: s.now, TDGs: []TDGInfo{{ID: "one", Status: "ACTIVE"}, {ID: "two", Status: "ACTIVE"}}})
	s.step(UsersListed{Group: "main", Region: west, StartedAt: s.now, Users: []User{{"r1", "anna"}, {"r2", "ben"}}, Last: true})
	s.step(UsersListed{Group: "main", Region: east, StartedAt: s.now, Users: []User{{"a1", "anna"}, {"a2", "ben"}}, Last: true})
	require.Len(t, s.state.names, 2)
	require.Len(t, s.state.replicas, 2)
	s.step(RosterPage{Group: "main", TDG: "one", Pass: 1, UserIDs: []string{"a1"}, NextToken: "east 17"})
	require.Equal(t, RosterPass{Pass: 1, StartedAt: s.now, NextToken: "east 17"}, s.state.TDG("one").Roster)
	require.Equal(t, "anna", s.state.Agent("a1").Username)
	require.Equal(t, map[string]string{west: "r1"}, s.state.Agent("a1").Aliases)
	require.Len(t, s.state.names, 1)
	require.Len(t, s.state.replicas, 1)
	began := s.now
	s.now = s.now.Add(time.Minute)
	s.step(RosterPage{Group: "main", TDG: "one", Pass: 1, Last: true})
	require.Equal(t, RosterPass{Pass: 1, StartedAt: began, CompletedAt: s.now, ListedFrom: began}, s.state.TDG("one").Roster)

	s.now = s.now.Add(time.Minute) // ben is deleted
	s.step(UsersListed{Group: "main", Region: west, StartedAt: s.now, Users: []User{{"r1", "anna"}}, Last: true})
	s.step(UsersListed{Group: "main", Region: east, StartedAt: s.now, Users: []User{{"a1", "anna"}}, Last: true})
	require.Empty(t, s.state.names)
	require.Empty(t, s.state.replicas)

	s = floorOf(t, "anna")
	s.step(UserData{Group: "main", Region: west, StartedAt: s.now, Users: []UserRecord{{ID: "r9"}}})
	s.step(UsersListed{Group: "main", Region: west, StartedAt: s.now, Users: []User{{"r9", "carl"}}})
	eff := s.state.Step(UsersListed{Group: "main", Region: east, StartedAt: s.now, Users: []User{{"a9", "carl"}, {"r9", "dora"}}}, s.now)
	require.Empty(t, eff.RemovedAgents)
	require.Equal(t, "dora", s.state.Agent("r9").Username)
	require.Equal(t, "carl", s.state.Agent("a9").Username)
}

// TestNames: a username belongs to one agent at a time, and joins only ids that the source does not know.
func TestNames(t *testing.T) {
	t.Parallel()
	s := floorOf(t, "a1", "a2")
	list := func(region string, users ...User) {
		s.now = s.now.Add(time.Second)
		s.step(UsersListed{Group: "main", Region: region, StartedAt: s.now, Users: users, Last: true})
	}
	list(east, User{"a1", "anna"}, User{"a2", "ben"})
	list(east, User{"a1", "anne"}, User{"a2", "anna"}) // renamed, and the old name given away
	require.Equal(t, "anne", s.state.Agent("a1").Username)
	require.Equal(t, "anna", s.state.Agent("a2").Username)

	list(west, User{"a1", "anne"}, User{"a2", "anna"}) // the same ids, as is usual
	require.Empty(t, s.state.Agent("a1").Aliases)
	list(west, User{"r1", "anne"}, User{"a1", "anna"}, User{"", "anna"}, User{"r3", ""}) // an id of the source is nobody else's
	require.Equal(t, map[string]string{west: "r1"}, s.state.Agent("a1").Aliases)
	require.Empty(t, s.state.Agent("a2").Aliases)
	list(west, User{"r5", "anne"}) // replicated anew
	require.Equal(t, map[string]string{west: "r5"}, s.state.Agent("a1").Aliases)
	require.Equal(t, "r5", s.state.Agent("a1").IDIn(west))
	require.Equal(t, "a1", s.state.Agent("a1").IDIn(east))
	require.Nil(t, s.state.resolve("main", west, "r1"))
	require.Equal(t, s.state.Agent("a1"), s.state.resolve("main", west, "r5"))
	require.Nil(t, s.state.resolve("main", east, "r5"))

	list(east, User{"", "carl"}, User{"a1", ""}, User{"a2", "anna"}) // nonsense names nobody
	require.Equal(t, "anne", s.state.Agent("a1").Username)
	require.Len(t, s.state.AgentsOf("main"), 2)
}
