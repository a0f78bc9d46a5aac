package failover

import "time"

// PlanOutcome is what a shift would mean for an agent.
type PlanOutcome string

// The outcomes of a plan.
const (
	PlanThere   PlanOutcome = "there"   // works in that Region already
	PlanAtOnce  PlanOutcome = "atOnce"  // no contact holds: goes as soon as that is read again
	PlanWaits   PlanOutcome = "waits"   // contacts hold
	PlanUnknown PlanOutcome = "unknown" // where the agent works, or with which contacts, is not known well enough to tell
)

// Planned is what a shift to a Region would mean for one agent.
type Planned struct {
	AgentID, Username, TDG string
	From                   string // where the agent works; empty: not known
	Outcome                PlanOutcome
	Evidence               Evidence  // of atOnce: inferred, or lastKnown where the Region that is left is down (R9)
	Contacts               []Contact // that hold, of waits
	ReadAt                 time.Time // when the contact list that this rests on was read; zero: never
	Stale                  bool      // the Region that is left is silent
	Streaming              bool      // the agent's desktop would hear of it
	Reports                bool      // the agent's desktop reports, and has the last word (R8)
}

// Plan says what a shift of a failover group's agents, or those of one traffic distribution group, to a Region would mean now. It is
// what R5 to R9 would decide if nothing changed in the meantime, and it changes nothing. tdg empty: all.
func Plan(set Settings, g *Group, agents []*Agent, tdg, to string, now time.Time) []Planned {
	// Only what Plan reads of it: the rules that it asks need no agents.
	s := &State{set: set, groups: map[string]*Group{g.Name: g}}
	planned := make([]Planned, 0, len(agents))
	for _, a := range agents {
		if a.Group == g.Name && (tdg == "" || a.TDG == tdg) {
			planned = append(planned, s.plan(a, g, to, now))
		}
	}
	return planned
}

func (s *State) plan(a *Agent, g *Group, to string, now time.Time) Planned {
	p := Planned{
		AgentID: a.ID, Username: a.Username, TDG: a.TDG, From: a.ActiveRegion, Outcome: PlanUnknown, Streaming: a.Streaming,
		Reports: a.reports(now),
	}
	switch {
	case a.ActiveRegion == "" || a.TDG == "":
		return p // no distribution moves them
	case a.ActiveRegion == to:
		p.Outcome = PlanThere
		return p
	}
	var list ContactList // not made when there is none: nothing changes
	for _, l := range a.Lists {
		if l.Region == a.ActiveRegion || g.Routing == Global {
			list = l
		}
	}
	rs := RegionState{}
	for _, r := range g.Regions {
		if r.Region == a.ActiveRegion {
			rs = r
		}
	}
	// When an unchanged list was last read is stored once in a while, see read.
	recent := max(s.set.ContactsMaxAge, 2*rs.SweepDuration) + s.set.ContactsMaxAge/2
	p.ReadAt = list.ReadAt
	p.Stale = now.Sub(rs.AnsweredAt) >= s.set.RegionDownAfter
	for _, c := range list.Contacts {
		if c.holds(to) {
			p.Contacts = append(p.Contacts, c)
		}
	}
	switch {
	case list.ReadAt.IsZero():
	case len(p.Contacts) > 0 && (p.Stale || now.Sub(list.ReadAt) <= recent):
		p.Outcome = PlanWaits
	case len(p.Contacts) > 0: // old news; R6 asks again
		p.Contacts = nil
	case p.Stale && rs.AnsweredAt.Sub(list.ReadAt) <= recent && now.Sub(rs.AnsweredAt) <= s.set.MaxUnknown:
		p.Outcome, p.Evidence = PlanAtOnce, LastKnown
	case !p.Stale && now.Sub(list.ReadAt) <= recent:
		p.Outcome, p.Evidence = PlanAtOnce, Inferred
	}
	return p
}
