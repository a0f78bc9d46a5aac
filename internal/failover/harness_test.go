package failover

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	FailNow()
}

// The contact centre of all tests: two linked instances.
const (
	east = "us-east-1"
	west = "us-west-2"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// defaults are those of docs/configuration.md.
func defaults() Settings {
	return Settings{
		Confirmations: 1, ConflictAfter: time.Minute, RegionDownAfter: 30 * time.Second, ContactsMaxAge: time.Minute, MaxUnknown: 15 * time.Minute,
		ConfigureErrorAfter: time.Minute, ConfirmWithin: 5 * time.Minute, DrainInterval: 5 * time.Second,
	}
}

func mainGroup(routing Routing) GroupConfig {
	return GroupConfig{
		Name: "main", Routing: routing,
		Instances: []Instance{{east, "https://east.example/ccp-v2/"}, {west, "https://west.example/ccp-v2/"}},
	}
}

// service is a State with everything around it that it needs: a clock, a database that knows nothing but what Effects told
// it, and a witness who checks each Step.
type service struct {
	t       tester
	set     Settings
	groups  []GroupConfig
	now     time.Time
	ids     int
	state   *State
	db      *database
	witness *witness
	trail   []seen // what was observed
}

type seen struct {
	at time.Time
	o  Observation
}

func newService(t tester, set Settings, groups ...GroupConfig) *service {
	s := &service{t: t, set: set, groups: groups, now: noon, db: newDatabase()}
	s.witness = newWitness(s)
	s.state = New(set, groups, s.db.load(t), s.newID)
	return s
}

func (s *service) newID(time.Time) string {
	s.ids++
	return "f" + strconv.Itoa(s.ids)
}

// step applies an observation, has the witness check what came of it, and commits.
func (s *service) step(o Observation) Effects {
	s.t.Helper()
	s.trail = append(s.trail, seen{s.now, o})
	s.witness.before(o)
	eff := s.state.Step(o, s.now)
	s.db.commit(s.t, &eff)
	s.witness.after(o, &eff)
	return eff
}

// restart loses everything but the database, as kill -9 does. The next leader asks who streams, and begins.
func (s *service) restart(streams Streaming) Effects {
	s.t.Helper()
	s.state = New(s.set, s.groups, s.db.load(s.t), s.newID)
	s.witness.restarted()
	s.step(streams)
	return s.step(Started{})
}

// reload replaces the State by one that was stored and loaded again in between, without anybody noticing: the same
// process goes on, so that what it remembers of its own past stays.
func (s *service) reload() {
	s.t.Helper()
	old := s.state
	snapshot := Snapshot{}
	for _, name := range sortedKeys(old.groups) {
		snapshot.Groups = append(snapshot.Groups, stored(s.t, old.groups[name]))
	}
	for _, id := range sortedKeys(old.tdgs) {
		snapshot.TDGs = append(snapshot.TDGs, stored(s.t, old.tdgs[id]))
	}
	for _, id := range sortedKeys(old.agents) {
		snapshot.Agents = append(snapshot.Agents, stored(s.t, old.agents[id]))
	}
	for _, name := range sortedKeys(old.drills) {
		snapshot.Drills = append(snapshot.Drills, stored(s.t, old.drills[name]))
	}
	s.state = New(s.set, s.groups, snapshot, s.newID)
	s.state.inherit(old)
}

// stored gives back what a database would: the exported fields, as JSON.
func stored[T any](t tester, v *T) *T {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("store %T: %v", v, err)
	}
	back := new(T)
	if err := json.Unmarshal(b, back); err != nil {
		t.Fatalf("load %T: %v", v, err)
	}
	return back
}

// database keeps what Effects told, and nothing else. What is read from it shares no memory with what was written.
type database struct {
	groups, tdgs, agents map[string][]byte
	drills               map[string][]byte
	settled              map[string]string // what the witness compares, of agents and groups
}

func newDatabase() *database {
	return &database{groups: map[string][]byte{}, tdgs: map[string][]byte{}, agents: map[string][]byte{}, drills: map[string][]byte{}, settled: map[string]string{}}
}

func encode(t tester, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("store %T: %v", v, err)
	}
	return b
}

// commit does what internal/store does: agents that were removed are gone, also when they are among the changed ones.
func (db *database) commit(t tester, e *Effects) {
	t.Helper()
	for _, g := range e.Groups {
		db.groups[g.Name] = encode(t, g)
		db.settled["group "+g.Name] = settledGroup(t, g)
	}
	for _, g := range e.TDGs {
		db.tdgs[g.ID] = encode(t, g)
	}
	for _, a := range e.Agents {
		db.agents[a.ID] = encode(t, a)
		db.settled[a.ID] = settled(t, a)
	}
	for _, id := range e.RemovedAgents {
		delete(db.agents, id)
	}
	for _, d := range e.Drills {
		if db.drills[d.ID] = encode(t, d); !d.EndedAt.IsZero() {
			delete(db.drills, d.ID)
		}
	}
}

func (db *database) load(t tester) Snapshot {
	t.Helper()
	return Snapshot{Groups: decodeAll[Group](t, db.groups), TDGs: decodeAll[TDG](t, db.tdgs), Agents: decodeAll[Agent](t, db.agents), Drills: decodeAll[Drill](t, db.drills)}
}

func decodeAll[T any](t tester, rows map[string][]byte) (all []*T) {
	t.Helper()
	for _, id := range sortedKeys(rows) {
		v := new(T)
		if err := json.Unmarshal(rows[id], v); err != nil {
			t.Fatalf("load %T %s: %v", v, id, err)
		}
		all = append(all, v)
	}
	return all
}

// inherit takes over what a process remembers without storing it.
func (s *State) inherit(old *State) {
	s.startedAt = old.startedAt
	s.names, s.replicas, s.left = old.names, old.replicas, old.left
	for id, t := range old.tdgs {
		v := s.tdgs[id]
		v.roundAt, v.Telephony.counted, v.Agents.counted, v.SignIn.counted = t.roundAt, t.Telephony.counted, t.Agents.counted, t.SignIn.counted
	}
	for id, a := range old.agents {
		s.agents[id].streamSince, s.agents[id].streamEnded = a.streamSince, a.streamEnded
		for i := range a.Lists {
			s.agents[id].Lists[i].savedAt = a.Lists[i].savedAt
		}
	}
}

func (s *service) fail(format string, args ...any) {
	s.t.Helper()
	var trail strings.Builder
	for _, seen := range s.trail {
		fmt.Fprintf(&trail, "%s %T%+v\n", seen.at.Format("15:04:05.000"), seen.o, seen.o)
	}
	s.t.Fatalf("%s\nafter\n%s", fmt.Sprintf(format, args...), trail.String())
}

// sortedIDs are the ids of contacts, sorted.
func sortedIDs(ids map[string]bool) []string {
	out := make([]string, 0, len(ids))
	for id := range ids {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}
