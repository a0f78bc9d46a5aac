package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// monkey makes observations at random: sane ones, late ones, contradictory ones and nonsense. Bytes that rapid or a fuzzer
// drew choose for it, so that a failure can be made small.
type monkey struct {
	bytes   []byte
	routing Routing
	passes  map[string]int64
	command int64
}

// choose gives a number from 0 to n-1, n being at most 256. Small bytes, which rapid prefers, lead anywhere.
func (m *monkey) choose(n int) int {
	if len(m.bytes) == 0 {
		return 0
	}
	b := m.bytes[0]
	m.bytes = m.bytes[1:]
	return int(b*181+77) % n
}

// done says that there is nothing left to choose by.
func (m *monkey) done() bool { return len(m.bytes) == 0 }

// move is one thing that happens: time passes, then something is observed, or the service restarts.
type move struct {
	after   time.Duration
	restart bool
	// observe makes the observation. It depends on the State only for what a person would have read there.
	observe func(s *service) Observation
}

func pick[T any](m *monkey, of ...T) T { return of[m.choose(len(of))] }

func (m *monkey) oneIn(n int) bool { return m.choose(n) == n-1 }

var (
	monkeyAgents   = []string{"a1", "a2", "a3"}
	monkeyContacts = []Contact{
		{ID: "v1", Channel: "VOICE"}, {ID: "v2", Channel: "VOICE"}, {ID: "h1", Channel: "CHAT"}, {ID: "t1", Channel: "TASK"},
		{ID: "m1", Channel: "EMAIL"}, {ID: "x1", Channel: "HOLOGRAM"},
	}
	toEast, toWest      = Distribution{{east, 100}, {west, 0}}, Distribution{{east, 0}, {west, 100}}
	splitFloor          = Distribution{{east, 70}, {west, 30}}
	monkeyDistributions = []Distribution{
		toEast, toWest, toEast, toWest, toEast, toWest, toWest, splitFloor, splitFloor, nil,
		{{"eu-west-2", 100}}, {{east, 0}, {west, 0}}, {{east, 50}, {west, 50}}, {{east, -100}, {west, 200}},
	}
)

// service makes a contact centre of a random kind, with three agents who work in us-east-1.
func (m *monkey) service(t tester) *service {
	set := defaults()
	set.Pace = pick(m, 0, 0, 0, 0.5, 2)
	set.Confirmations = pick(m, 1, 1, 2)
	set.RegionDownAfter = pick(m, 30*time.Second, 10*time.Second)
	if set.RegionDownAfter < 30*time.Second {
		set.MaxUnknown = time.Minute
	}
	set.StaleRelease = pick(m, 0, 0, 40*time.Second)
	set.ConfirmWithin = pick(m, 5*time.Minute, 20*time.Second)
	m.routing = pick(m, Regional, Regional, Global)
	m.passes = map[string]int64{}
	s := newService(t, set, mainGroup(m.routing))
	s.step(Started{})
	list := TDGsListed{Group: "main", At: s.now, TDGs: []TDGInfo{{ID: "t1", Status: "ACTIVE", IsDefault: true}}}
	if m.oneIn(3) {
		list.TDGs = append(list.TDGs, TDGInfo{ID: "t2", Status: "ACTIVE"})
	}
	s.step(list)
	users := UsersListed{Group: "main", Region: east, StartedAt: s.now, Last: true}
	for _, id := range monkeyAgents {
		users.Users = append(users.Users, User{id, "n" + id[1:]})
	}
	s.step(users)
	for _, t := range list.TDGs {
		m.passes[t.ID] = 1
		o := RosterPage{Group: "main", TDG: t.ID, Pass: 1, Last: true}
		if t.ID == "t1" {
			o.UserIDs = monkeyAgents
		}
		s.step(o)
		for range set.Confirmations {
			s.now = s.now.Add(time.Second)
			s.step(DistributionRound{Group: "main", TDG: t.ID, TickAt: s.now, Answers: []RegionAnswer{
				{Region: east, Agents: monkeyDistributions[0]}, {Region: west, Agents: monkeyDistributions[0]},
			}})
		}
	}
	s.now = s.now.Add(time.Second)
	return s
}

// play makes a move.
func (s *service) play(mv move) Effects {
	s.t.Helper()
	s.now = s.now.Add(mv.after)
	if mv.restart {
		return s.restart(mv.observe(s).(Streaming))
	}
	return s.step(mv.observe(s))
}

// streams are some agents', which began now or a while ago.
func (m *monkey) streams() func(s *service) Observation {
	ages := map[string]time.Duration{}
	for range m.choose(3) {
		ages[pick(m, monkeyAgents...)] = pick(m, 0, time.Second, 90*time.Second, 5*time.Minute, time.Hour)
	}
	return func(s *service) Observation {
		o := Streaming{Since: map[string]time.Time{}}
		for id, age := range ages {
			o.Since[id] = s.now.Add(-age)
		}
		return o
	}
}

// moves makes the next moves; some things come in several steps.
func (m *monkey) moves() []move {
	after := pick(m, 0, 0, 100*time.Millisecond, time.Second, time.Second, 3*time.Second)
	one := func(make func(s *service) Observation) []move { return []move{{after: after, observe: make}} }
	switch m.choose(24) {
	case 0, 1:
		return one(m.distribution())
	case 2, 3, 4, 5:
		return one(m.readByID())
	case 6:
		return m.pass(true, after)
	case 7, 8:
		return m.pass(false, after)
	case 9, 10:
		region := pick(m, east, east, west)
		return one(func(s *service) Observation { return ContactsUnavailable{Group: "main", Region: region, At: s.now} })
	case 11, 12, 13:
		return one(m.report())
	case 14:
		return one(m.order())
	case 15:
		agent, contact, region := pick(m, monkeyAgents...), pick(m, monkeyContacts...), pick(m, east, west, west, "")
		return one(func(*service) Observation {
			return ContactLocated{AgentID: agent, ContactID: contact.ID, Region: region}
		})
	case 16:
		return one(m.listing())
	case 17:
		if m.oneIn(2) {
			return []move{{after: pick(m, 0, time.Second, time.Minute), observe: m.streams(), restart: true}}
		}
		return one(m.streams())
	case 18:
		return m.outage()
	case 19:
		return m.shift()
	case 20:
		return m.idle()
	}
	tick := func(*service) Observation { return Tick{} }
	return []move{{after: pick(m, time.Second, time.Second, time.Second, 5*time.Second, 16*time.Second, 31*time.Second, 121*time.Second, 301*time.Second), observe: tick}}
}

// outage is a Region that fails reads for a while, with Ticks in between.
func (m *monkey) outage() (moves []move) {
	region := pick(m, east, east, west)
	for n := 1 + m.choose(8); n > 0; n-- {
		moves = append(moves,
			move{after: 4 * time.Second, observe: func(s *service) Observation { return ContactsUnavailable{Group: "main", Region: region, At: s.now} }},
			move{after: pick(m, time.Second, 4*time.Second), observe: func(*service) Observation { return Tick{} }})
	}
	return moves
}

// shift is what an administrator does and all Regions agree on, followed by what the readers do then, or by a good
// while of nothing.
func (m *monkey) shift() []move {
	to, rest := pick(m, toEast, toWest, toWest, splitFloor), m.choose(4)
	round := func(s *service) Observation {
		return DistributionRound{Group: "main", TDG: "t1", TickAt: s.now, Answers: []RegionAnswer{{Region: west, Agents: to}, {Region: east, Agents: to}}}
	}
	moves := []move{{after: time.Second, observe: round}, {after: 10 * time.Second, observe: round}}
	switch rest {
	case 0:
		moves = append(moves, m.pass(true, 0)...)
	case 1:
		moves = append(moves, m.outage()...)
	case 2:
		moves = append(moves, m.pass(false, 0)...)
		moves = append(moves, move{after: 301 * time.Second, observe: func(*service) Observation { return Tick{} }})
		moves = append(moves, m.pass(false, 0)...)
	}
	return moves
}

// idle is a desktop that reports once and then has nothing new to say, with its stream open, until the floor is shifted; perhaps the stream breaks in
// between, or another one leads.
func (m *monkey) idle() []move {
	o := Streaming{Since: map[string]time.Time{}}
	streams := func(s *service) Observation {
		for _, id := range monkeyAgents {
			if _, open := o.Since[id]; !open {
				o.Since[id] = s.now
			}
		}
		return Streaming{Since: maps.Clone(o.Since)}
	}
	none := func(*service) Observation {
		clear(o.Since)
		return Streaming{}
	}
	moves := []move{{after: time.Second, observe: streams}}
	for _, id := range monkeyAgents {
		m.command++
		r := Report{CommandID: m.command, AgentID: id, ActiveRegion: pick(m, east, west)}
		moves = append(moves, move{observe: func(s *service) Observation { r.At = s.now; return r }})
	}
	switch long := pick(m, 121*time.Second, 10*time.Minute); m.choose(4) {
	case 0:
		moves = append(moves, move{after: long, observe: streams, restart: true})
	case 1:
		moves = append(moves, move{after: long, observe: none}, move{after: pick(m, time.Second, time.Second, 3*time.Minute), observe: streams})
	case 2:
		moves = append(moves, move{after: long, observe: none})
	default:
		moves = append(moves, move{after: long, observe: streams})
	}
	moves = append(moves, m.shift()...)
	return append(moves, m.pass(true, time.Second)...)
}

// ago is how long ago a read began: mostly just now.
func (m *monkey) ago() time.Duration {
	return pick(m, 0, 0, 0, 10*time.Millisecond, time.Second, 4*time.Second, 12*time.Second, 45*time.Second)
}

func (m *monkey) contacts(at time.Duration) func(now time.Time) []Contact {
	var of []Contact
	var began []time.Duration
	for n := pick(m, 0, 0, 1, 1, 2, 3); n > 0; n-- {
		c := pick(m, monkeyContacts...)
		c.State = pick(m, "CONNECTED", "ENDED", "CONNECTING", "MISSED", "NEW_STATE")
		of = append(of, c)
		began = append(began, pick(m, 0, time.Second, 30*time.Second, -1))
	}
	return func(now time.Time) []Contact {
		out := slices.Clone(of)
		for i := range out {
			if began[i] >= 0 {
				out[i].Began = now.Add(-at - began[i])
			}
			out[i].StateSince = out[i].Began
		}
		return out
	}
}

func (m *monkey) distribution() func(s *service) Observation {
	tdg := pick(m, "t1", "t1", "t1", "t1", "t1", "t2", "nonsense")
	one, two, who := pick(m, monkeyDistributions...), pick(m, monkeyDistributions...), m.choose(6)
	return func(s *service) Observation {
		o := DistributionRound{Group: "main", TDG: tdg, TickAt: s.now}
		if who != 4 {
			o.Answers = append(o.Answers, RegionAnswer{Region: east, Agents: one, Telephony: one})
		}
		if who == 3 {
			o.Answers = append(o.Answers, RegionAnswer{Region: west, Agents: two, Telephony: two})
		} else if who != 5 {
			o.Answers = append(o.Answers, RegionAnswer{Region: west, Agents: one, Telephony: one})
		}
		return o
	}
}

// id is how a Region calls an agent; now and then one that nobody knows.
func (m *monkey) id(region string) string {
	id := pick(m, "a1", "a1", "a1", "a2", "a2", "a2", "a3", "a3", "r1", "x9", "")
	if region == east && id == "r1" {
		id = "a1"
	}
	return id
}

func (m *monkey) readByID() func(s *service) Observation {
	region, ago := pick(m, east, east, east, west), m.ago()
	id, contacts, absent, offline := m.id(region), m.contacts(ago), m.oneIn(4), m.oneIn(4)
	profile := pick(m, "p1", "p1", "p2")
	return func(s *service) Observation {
		o := UserData{Group: "main", Region: region, StartedAt: s.now.Add(-ago)}
		if absent {
			o.Absent = []string{id}
		} else {
			o.Users = []UserRecord{{ID: id, RoutingProfile: profile, Offline: offline, Contacts: contacts(s.now)}}
		}
		return o
	}
}

// pass reads a Region's routing profiles: pages, chunks, and perhaps the end.
func (m *monkey) pass(filtered bool, after time.Duration) []move {
	region, ago := pick(m, east, east, west), m.ago()
	var moves []move
	add := func(make func(s *service) Observation) {
		moves = append(moves, move{after: after, observe: make})
		after = pick(m, 0, 10*time.Millisecond, time.Second)
	}
	began := time.Time{}
	for _, profile := range pick(m, []string{"p1", "p2"}, []string{"p2", "p1"}, []string{"p1"}) {
		var users []func(now time.Time) UserRecord
		for n := m.choose(3); n > 0; n-- {
			id, contacts, offline := m.id(region), m.contacts(ago), m.oneIn(4)
			users = append(users, func(now time.Time) UserRecord {
				return UserRecord{ID: id, RoutingProfile: profile, Offline: offline, Contacts: contacts(now)}
			})
		}
		add(func(s *service) Observation {
			if began.IsZero() || s.now.Add(-ago).Before(began) {
				began = s.now.Add(-ago)
			}
			o := UserData{Group: "main", Region: region, StartedAt: s.now.Add(-ago)}
			for _, u := range users {
				r := u(s.now)
				if !slices.ContainsFunc(o.Users, func(x UserRecord) bool { return x.ID == r.ID }) {
					o.Users = append(o.Users, r)
				}
			}
			return o
		})
		add(func(*service) Observation {
			return ChunkComplete{Group: "main", Region: region, StartedAt: began, Filtered: filtered, Profiles: []string{profile}}
		})
	}
	if m.oneIn(3) {
		return moves
	}
	add(func(s *service) Observation {
		return PassComplete{Group: "main", Region: region, StartedAt: began, FinishedAt: s.now, Filtered: filtered}
	})
	return moves
}

func (m *monkey) report() func(s *service) Observation {
	m.command++
	o := Report{
		CommandID: m.command, AgentID: pick(m, "a1", "a1", "a2", "a3", "x9"), ActiveRegion: pick(m, "", east, east, west, west, "mars"),
		NextActiveRegion: pick(m, "", "", "", west, east), ContactsRegion: pick(m, "", "", east, west, "mars"),
	}
	o.ClearNext = o.NextActiveRegion == "" && m.oneIn(4)
	if o.HasContacts = m.oneIn(2); o.HasContacts {
		for _, c := range m.contacts(0)(noon) {
			o.Contacts = append(o.Contacts, ReportedContact{c.ID, c.Channel, c.State})
		}
	}
	if m.oneIn(6) {
		ready := m.oneIn(2)
		o.Standby = &Standby{Region: pick(m, east, west, "mars"), Ready: pick(m, &ready, nil), Reason: "no\nmicrophone"}
	}
	if o.HasConfigError = m.oneIn(6); o.HasConfigError {
		o.ConfigCode, o.ConfigMessage = pick(m, "", "LOGIN_URL_MISSING", "LILY_AGENT_CONFIG_MISSING"), pick(m, "", "a", "\"<b>\u2028")
	}
	late := pick(m, 0, 0, 10*time.Millisecond, 2*time.Second)
	return func(s *service) Observation {
		o.At = s.now.Add(-late)
		return o
	}
}

func (m *monkey) order() func(s *service) Observation {
	m.command++
	id, who := m.command, pick(m, monkeyAgents...)
	if m.oneIn(4) {
		ttl, resume, group := pick(m, 5*time.Second, time.Minute, 20*time.Minute), m.oneIn(3), pick(m, "main", "main", "main", "mars")
		drill := m.oneIn(3)
		return func(*service) Observation {
			if drill {
				return StartDrill{CommandID: id, DrillID: fmt.Sprintf("d%d", id), Group: group, AgentIDs: monkeyAgents, TTL: ttl, By: "olga"}
			}
			if resume {
				return ResumeGroup{CommandID: id, Group: group}
			}
			return PauseGroup{CommandID: id, Group: group, TTL: ttl, By: "olga", Reason: "call storm"}
		}
	}
	if m.oneIn(3) {
		o := BulkForce{
			CommandID: id, Group: pick(m, "main", "main", ""), TDG: pick(m, "", "t1", "t2"), From: pick(m, "", east, west), OnlyStale: m.oneIn(2),
			MaxPerSecond: pick(m, 0, 0.1, 5), MaxFraction: pick(m, 0, 0.5, 1), By: "olga",
		}
		return func(*service) Observation { return o }
	}
	return func(s *service) Observation {
		o := Force{CommandID: id, FailoverID: "none", By: "olga"}
		if a := s.state.Agent(who); a != nil && a.Failover != nil {
			o.FailoverID = a.Failover.ID
		}
		return o
	}
}

// listing is a page of members or users, or a list of groups.
func (m *monkey) listing() func(s *service) Observation {
	switch m.choose(4) {
	case 0:
		o := TDGsListed{Group: "main"}
		for _, id := range []string{"t1", "t2"} {
			if !m.oneIn(3) {
				o.TDGs = append(o.TDGs, TDGInfo{ID: id, Status: pick(m, "ACTIVE", "ACTIVE", "UPDATE_IN_PROGRESS", "PENDING_DELETION")})
			}
		}
		return func(s *service) Observation { o.At = s.now; return o }
	case 1:
		tdg, last := pick(m, "t1", "t2"), m.oneIn(2)
		o := RosterPage{Group: "main", TDG: tdg, Pass: m.passes[tdg], Last: last}
		if m.oneIn(2) {
			m.passes[tdg]++
			o.Pass++
		}
		for _, id := range monkeyAgents {
			if !m.oneIn(3) {
				o.UserIDs = append(o.UserIDs, id)
			}
		}
		return func(*service) Observation { return o }
	case 2:
		o := SetupObserved{
			Group: "main", TDG: pick(m, "", "t1"), Code: pick(m, CodeAccessDenied, CodeTDGNotFound), Message: pick(m, "one", "two"), Repaired: m.oneIn(2),
		}
		return func(*service) Observation { return o }
	}
	region, last, ago := pick(m, east, west), m.oneIn(2), m.ago()
	var users []User
	for i := range 1 + m.choose(4) {
		id := pick(m, "a", "a", "a", "r") + fmt.Sprint(1+i%3)
		u := User{id, pick(m, "n"+id[1:], "n"+id[1:], "n"+id[1:], "", "n1")}
		// Neither an id nor a name is there twice at one moment.
		if !slices.ContainsFunc(users, func(x User) bool { return x.ID == u.ID || x.Username == u.Username }) {
			users = append(users, u)
		}
	}
	return func(s *service) Observation {
		return UsersListed{Group: "main", Region: region, Users: users, StartedAt: s.now.Add(-ago), Last: last}
	}
}

// told are the events of each agent, one per line, with the agent's own count of failovers instead of their ids.
func told(events []Event) map[string][]string {
	out, ids := map[string][]string{}, map[string]map[string]string{}
	for i := range events {
		e := events[i]
		if ids[e.AgentID] == nil {
			ids[e.AgentID] = map[string]string{"": ""}
		}
		own := ids[e.AgentID]
		if _, ok := own[e.FailoverID]; !ok {
			own[e.FailoverID] = fmt.Sprint("failover ", len(own))
		}
		e.FailoverID = own[e.FailoverID]
		out[e.AgentID] = append(out[e.AgentID], strings.Join([]string{string(e.Type), string(e.AppendData(nil))}, " "))
	}
	return out
}
