package failover

import (
	"slices"
	"time"
)

// DrillOutcome is how a drill stands for one agent.
type DrillOutcome string

// The outcomes, in the order in which they come.
const (
	DrillDetected  DrillOutcome = "detected"  // told; its contacts are looked at next
	DrillPending   DrillOutcome = "pending"   // contacts would hold the agent
	DrillCompleted DrillOutcome = "completed" // would have gone
	DrillCancelled DrillOutcome = "cancelled" // the drill ended before, or a real failover began
	DrillSkipped   DrillOutcome = "skipped"   // was not told anything; Detail says why
)

// DrillAgent is one agent's part of a drill.
type DrillAgent struct {
	AgentID     string       `json:"agentId"`
	Username    string       `json:"username,omitempty"`
	From        string       `json:"fromRegion"`
	To          string       `json:"toRegion"`
	Outcome     DrillOutcome `json:"outcome"`
	Detail      string       `json:"detail,omitempty"` // for people
	Streaming   bool         `json:"streaming"`        // had an open stream, and so could hear of it
	Standby     *bool        `json:"standby"`          // what its desktop said of its CCP in the other Region; nil: nothing
	ContactIDs  []string     `json:"contactIds"`       // that hold, or held it first
	PendingAt   time.Time    `json:"pendingAt,omitzero"`
	CompletedAt time.Time    `json:"completedAt,omitzero"`
	CancelledAt time.Time    `json:"cancelledAt,omitzero"`
}

// Drill is a shift that is only told: the agents' desktops hear of it by events of their own, and nothing that is real changes.
type Drill struct {
	ID        string       `json:"drillId"`
	Group     string       `json:"failoverGroup"`
	By        string       `json:"by"`
	Reason    string       `json:"reason"`
	StartedAt time.Time    `json:"startedAt"`
	Until     time.Time    `json:"until"`
	EndedAt   time.Time    `json:"endedAt,omitzero"`
	Agents    []DrillAgent `json:"agents"`
}

// drill begins one. Of each failover group there is one at a time.
func (st *step) drill(o StartDrill) {
	g := st.groups[o.Group]
	if g == nil {
		st.answerGroup(o.CommandID, o.Group)
		return
	}
	if running := st.drills[o.Group]; running != nil {
		st.eff.Results = append(st.eff.Results, Result{
			CommandID: o.CommandID, Outcome: OutcomeRefused, Detail: "drill " + running.ID + " is under way in failover group " + o.Group,
		})
		return
	}
	d := &Drill{ID: o.DrillID, Group: o.Group, By: o.By, Reason: o.Reason, StartedAt: st.now, Until: st.now.Add(o.TTL)}
	for _, id := range o.AgentIDs {
		if slices.ContainsFunc(d.Agents, func(p DrillAgent) bool { return p.AgentID == id }) {
			continue
		}
		d.Agents = append(d.Agents, st.drillAgent(g, d, id))
	}
	st.drills[o.Group] = d
	st.touchDrill(d)
	st.drillOn(d)
	// The id is in the answer, because whoever asks again after a crash may have made up another one.
	st.eff.Results = append(st.eff.Results, Result{CommandID: o.CommandID, Outcome: OutcomeDone, Detail: d.ID})
}

// drillAgent tells one agent that a drill begins, if one can.
func (st *step) drillAgent(g *Group, d *Drill, id string) DrillAgent {
	p := DrillAgent{AgentID: id, Outcome: DrillSkipped}
	a := st.agents[id]
	if a == nil || a.Group != g.Name {
		p.Detail = "the failover group has no such agent"
		return p
	}
	p.Username = a.Username
	switch {
	case a.ActiveRegion == "":
		p.Detail = "the agent's active Region is not known"
		return p
	case a.Failover != nil:
		p.Detail = "a real failover is under way"
		return p
	}
	p.From, p.To, p.Outcome, p.Streaming = a.ActiveRegion, g.other(a.ActiveRegion), DrillDetected, a.Streaming
	if a.Standby != nil {
		p.Standby = a.Standby.Ready
	}
	st.tellDrill(a, d, Event{Type: EventDrillDetected, NextRegion: p.To})
	return p
}

func (st *step) tellDrill(a *Agent, d *Drill, e Event) {
	e.DrillID = d.ID
	st.touch(a)
	st.emit(a, e)
}

func (st *step) touchDrill(d *Drill) {
	if !slices.Contains(st.eff.Drills, d) {
		st.eff.Drills = append(st.eff.Drills, d)
	}
}

// drillOn lets a drill go on: by the contact lists as they are known, without asking for them.
func (st *step) drillOn(d *Drill) {
	over := !st.now.Before(d.Until)
	left := 0
	for i := range d.Agents {
		p := &d.Agents[i]
		if p.Outcome != DrillDetected && p.Outcome != DrillPending {
			continue
		}
		a := st.agents[p.AgentID]
		if a == nil { // no user any more: there is nobody to tell
			p.Outcome, p.Detail, p.CancelledAt = DrillCancelled, "the agent was removed", st.now
			st.touchDrill(d)
			continue
		}
		ids := st.wouldHold(a, p)
		switch {
		case over:
			st.cancelDrill(a, d, p, "the drill ended")
		case len(ids) == 0:
			p.Outcome, p.CompletedAt = DrillCompleted, st.now
			st.tellDrill(a, d, Event{Type: EventDrillCompleted, ActiveRegion: p.To, PreviousRegion: p.From})
			st.touchDrill(d)
		case p.Outcome == DrillDetected:
			p.Outcome, p.PendingAt, p.ContactIDs = DrillPending, st.now, ids
			st.tellDrill(a, d, Event{Type: EventDrillPending, NextRegion: p.To, ContactIDs: ids})
			st.touchDrill(d)
			left++
		default:
			left++
		}
	}
	if left == 0 {
		d.EndedAt = st.now
		delete(st.drills, d.Group)
		st.touchDrill(d)
	}
}

// wouldHold are the contacts that would hold the agent, as far as is known.
func (st *step) wouldHold(a *Agent, p *DrillAgent) (ids []string) {
	for _, l := range a.Lists {
		if l.Region != p.From && l.Region != "" {
			continue
		}
		for i := range l.Contacts {
			if l.Contacts[i].holds(p.To) {
				ids = append(ids, l.Contacts[i].ID)
			}
		}
	}
	return ids
}

func (st *step) cancelDrill(a *Agent, d *Drill, p *DrillAgent, why string) {
	p.Outcome, p.Detail, p.CancelledAt = DrillCancelled, why, st.now
	st.tellDrill(a, d, Event{Type: EventDrillCancelled, ActiveRegion: p.From, CancelledRegion: p.To})
	st.touchDrill(d)
}

// endDrillOf takes an agent out of a drill before something real is told: nobody has to wonder which of the two it was.
func (st *step) endDrillOf(a *Agent) {
	d := st.drills[a.Group]
	if d == nil {
		return
	}
	for i := range d.Agents {
		if p := &d.Agents[i]; p.AgentID == a.ID && (p.Outcome == DrillDetected || p.Outcome == DrillPending) {
			st.cancelDrill(a, d, p, "a real failover began")
		}
	}
}
