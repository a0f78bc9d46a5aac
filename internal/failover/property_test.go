package failover

import (
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestMain gives rapid a fixed seed, so that a run says about a change what the run before said. -rapid.seed=0 takes a new one
// each time, -rapid.checks=10000 looks longer; rapid prints the seed that failed.
func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.seed": "20261122", "rapid.checks": "60", "rapid.nofailfile": "true"} {
		if !given[name] {
			if err := flag.Set(name, value); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

// newMonkey lets rapid choose.
func newMonkey(t *rapid.T) *monkey {
	return &monkey{bytes: rapid.SliceOfN(rapid.Byte(), 50, 500).Draw(t, "choices")}
}

// TestAnyHistory: whatever happens in whatever order, restarts included, the witness has nothing to object to.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMonkey(t)
		s := m.service(t)
		for !m.done() {
			for _, mv := range m.moves() {
				s.play(mv)
			}
		}
	})
}

// together plays the same history in two services, the second one changed by twist, and gives all their events.
func together(t *rapid.T, m *monkey, twist func(two *service, o Observation) Observation) (one, two []Event) {
	choices := m.bytes
	a := m.service(t)
	m.bytes = choices
	b := m.service(t)
	a.witness.hasty, b.witness.hasty = true, true
	for !m.done() {
		for _, mv := range m.moves() {
			eff := a.play(mv)
			one = append(one, copied(eff.Events)...)
			b.now = a.now
			if mv.restart {
				eff = b.restart(mv.observe(b).(Streaming))
			} else {
				eff = b.step(twist(b, mv.observe(b)))
			}
			two = append(two, copied(eff.Events)...)
		}
	}
	return one, two
}

// copied keeps events beyond the next Step.
func copied(events []*Event) (copies []Event) {
	for _, e := range events {
		c := *e
		c.ContactIDs, c.Errors = slices.Clone(c.ContactIDs), slices.Clone(c.Errors)
		copies = append(copies, c)
	}
	return copies
}

// TestSameHistorySameEvents: what a Step does depends on nothing but the State, the observation and the time.
func TestSameHistorySameEvents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one, two := together(t, newMonkey(t), func(_ *service, o Observation) Observation { return o })
		require.Equal(t, one, two)
	})
}

// TestReloadChangesNothing: what is stored is all that counts. A State that was stored and loaded between any two observations tells
// what one tells that went on.
func TestReloadChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one, two := together(t, newMonkey(t), func(two *service, o Observation) Observation {
			two.reload()
			return o
		})
		require.Equal(t, told(one), told(two)) // agents may come in another order
	})
}

// TestOrderWithinAnObservation: the order of agents on a page, of contacts in a list and of answers in a round means nothing.
func TestOrderWithinAnObservation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one, two := together(t, newMonkey(t), func(_ *service, o Observation) Observation { return turned(o) })
		require.Equal(t, told(one), told(two))
	})
}

// turned is the same observation in another order. An agent or a contact that is in it twice stays as it is: there the
// first or last one counts.
func turned(o Observation) Observation {
	switch o := o.(type) {
	case DistributionRound:
		o.Answers = slices.Clone(o.Answers)
		slices.Reverse(o.Answers)
		return o
	case UserData:
		seen := map[string]bool{}
		o.Users = slices.Clone(o.Users)
		for i := range o.Users {
			u := &o.Users[i]
			if seen[u.ID] || u.ID == "r1" {
				return o
			}
			seen[u.ID] = true
			contacts := map[string]bool{}
			for _, c := range u.Contacts {
				contacts[c.ID] = true
			}
			if len(contacts) == len(u.Contacts) {
				u.Contacts = slices.Clone(u.Contacts)
				slices.Reverse(u.Contacts)
			}
		}
		slices.Reverse(o.Users)
		return o
	case RosterPage:
		o.UserIDs = slices.Clone(o.UserIDs)
		slices.Reverse(o.UserIDs)
		return o
	case TDGsListed:
		o.TDGs = slices.Clone(o.TDGs)
		slices.Reverse(o.TDGs)
		return o
	}
	return o
}

// TestFailedReadsChangeNothing (R13): while nobody is on the way, no failure, however long, tells anybody anything. Only
// what was already known of the set-up may come due.
func TestFailedReadsChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMonkey(t)
		s := m.service(t)
		s.witness.hasty = true
		for range m.choose(40) {
			for _, mv := range m.moves() {
				s.play(mv)
			}
		}
		for _, a := range s.state.agents {
			if a.Failover != nil {
				s.step(Force{FailoverID: a.Failover.ID, By: "olga"})
			}
		}
		s.now = s.now.Add(2 * time.Minute)
		s.step(Tick{})
		for range 20 {
			s.now = s.now.Add(5 * time.Second)
			s.step(ContactsUnavailable{Group: "main", Region: pick(m, east, west), At: s.now})
			if eff := s.step(Tick{}); len(eff.Events)+len(eff.Agents)+len(eff.Failovers) > 0 {
				s.fail("told %+v", eff)
			}
		}
	})
}
