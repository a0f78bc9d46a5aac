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
		for _, o := range append(sweepOf(s, "anna", "ben"), Tick{}, Streaming{AgentIDs: map[string]bool{"anna": true}}, rounds(s, "default", toEast, toEast)) {
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
		ContactLocated{Group: "main", AgentID: "nobody", ContactID: "c", Region: west},
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
}
