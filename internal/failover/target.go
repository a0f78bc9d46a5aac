package failover

import (
	"slices"
	"time"
)

// target is where Amazon Connect wants the agent, as far as it is known, and the source of that knowledge; "" is
// unknown: keep what is, say nothing (R1).
func (st *step) target(a *Agent) (string, Source) {
	t := st.tdgs[a.TDG]
	if t == nil {
		return "", SourceNone
	}
	g := st.groups[a.Group]
	if region := t.Agents.Adopted.target(); region != "" {
		if !g.has(region) {
			return "", SourceNone // REGION_NOT_CONFIGURED, no failover (R17)
		}
		return region, SourceDistribution
	}
	if t.SplitAt.IsZero() {
		return "", SourceNone
	}
	return st.targetInSplit(a, t)
}

// targetInSplit asks the agent's desktop, else presence. What was said before the split began or before the active
// region was last decided has had its effect and does not count again.
func (st *step) targetInSplit(a *Agent, t *TDG) (string, Source) {
	counts := func(at time.Time) bool { return at.After(t.SplitAt) && !at.Before(a.ObservedAt) }
	d, f := &a.Desktop, a.Failover
	if d.NextRegion != "" && counts(d.NextAt) {
		return d.NextRegion, SourceDesktop
	}
	// Whoever still works where it did says nothing against an open failover, unless that rests on the same witness alone.
	cause := SourceNone
	if f != nil && f.DetectedAt.After(t.SplitAt) {
		cause = f.Cause
	}
	if region := a.desktopRegion(st.now); region != "" && d.ActiveAt.After(t.SplitAt) {
		if counts(d.ActiveAt) && (f == nil || region == f.To || cause == SourceDesktop && d.NextRegion == "") {
			return region, SourceDesktop
		}
		return "", SourceNone // the desktop decides, and it has not said that anything changes
	}
	if a.PresenceCount >= 2 && (f == nil || a.PresenceRegion == f.To || cause == SourcePresence) {
		return a.PresenceRegion, SourcePresence
	}
	return "", SourceNone
}

// decide brings an agent's failover in line with its target (R3, R4, R10) and then with what holds it.
func (st *step) decide(a *Agent) {
	st.syncSetup(a)
	target, source := st.target(a)
	switch {
	case target == "":
	case a.ActiveRegion == "":
		st.baseline(a, target, source, st.now)
	case a.Failover == nil && target != a.ActiveRegion:
		st.detect(a, target, source)
	case a.Failover != nil && target == a.ActiveRegion:
		st.cancel(a)
	}
	if a.Failover != nil {
		st.hold(a, false)
	}
	st.surface(a)
}

// baseline takes the first known target for the active region, without a failover (R3).
func (st *step) baseline(a *Agent, region string, source Source, at time.Time) {
	a.ActiveRegion, a.RegionSource, a.ObservedAt = region, source, at
	st.touch(a)
	st.emit(a, st.snapshotOf(a))
}

// snapshotOf is what a desktop has to know that knows nothing yet.
func (st *step) snapshotOf(a *Agent) Event {
	e := Event{
		Type: EventSnapshot, ActiveRegion: a.ActiveRegion, ActiveCCPURL: st.groups[a.Group].CCPURL(a.ActiveRegion),
		State: a.State(), Errors: slices.Clone(a.Errors),
	}
	if f := a.Failover; f != nil {
		e.FailoverID, e.NextRegion, e.ContactIDs = f.ID, f.To, f.ContactIDs
	}
	return e
}

// detect begins a failover (R4).
func (st *step) detect(a *Agent, to string, cause Source) {
	st.endDrillOf(a)
	f := &Failover{
		ID: st.newID(st.now), AgentID: a.ID, Group: a.Group, TDG: a.TDG, From: a.ActiveRegion, To: to,
		Status: Detected, Cause: cause, DetectedAt: st.now, LastOldAt: a.ObservedAt,
	}
	if cause == SourceDistribution {
		f.LastOldAt = st.tdgs[a.TDG].Agents.LastOldAt
	}
	a.Failover = f
	if !a.listed {
		a.listed = true
		st.open = append(st.open, a)
	}
	st.touchFailover(a, f)
	st.eff.Created = append(st.eff.Created, f)
	st.emit(a, Event{Type: EventFailoverDetected, FailoverID: f.ID, NextRegion: to})
	if st.groups[a.Group].Pause != nil {
		st.tellPause(a)
	}
}

// cancel ends a failover whose target went back; the active region never changed (R10).
func (st *step) cancel(a *Agent) {
	f := a.Failover
	f.Status, f.CancelledAt, f.Evidence = Cancelled, st.now, ""
	f.unforce(false)
	a.Failover = nil
	st.touchFailover(a, f)
	st.emit(a, Event{Type: EventFailoverCancelled, FailoverID: f.ID, ActiveRegion: a.ActiveRegion, CancelledRegion: f.To})
}

// distributionRound lets the Regions vote on each of the three distributions by themselves (R14); only the agents'
// one moves agents.
func (st *step) distributionRound(o DistributionRound) {
	t, g := st.tdgs[o.TDG], st.groups[o.Group]
	if t == nil || g == nil || t.Group != o.Group || len(o.Answers) == 0 {
		return
	}
	// Answers that came after those of a later round are old news: taken for new they would look like a change back.
	if o.TickAt.Before(t.roundAt) {
		return
	}
	t.roundAt = o.TickAt
	answers := slices.Clone(o.Answers)
	if i := slices.IndexFunc(answers, func(in RegionAnswer) bool { return in.Region == g.source() }); i > 0 {
		answers[0], answers[i] = answers[i], answers[0]
	}
	before := Distributions{t.Telephony.Adopted, t.Agents.Adopted, t.SignIn.Adopted}
	var telephony, agents, signIn []vote
	for _, in := range answers {
		if in.Telephony.percentages() {
			telephony = append(telephony, vote{in.Region, in.Telephony})
		}
		if in.Agents.percentages() {
			agents = append(agents, vote{in.Region, in.Agents})
		}
		if len(in.SignIn) > 0 {
			signIn = append(signIn, vote{in.Region, in.SignIn})
		}
	}
	t.ObservedAt = st.now
	st.touchTDG(t)
	telephonyNew, conflict := t.Telephony.round(telephony, o.TickAt, &st.set, st.now)
	agentsNew, agentsConflict := t.Agents.round(agents, o.TickAt, &st.set, st.now)
	signInNew, signInConflict := t.SignIn.round(signIn, o.TickAt, &st.set, st.now)
	if conflict = conflict || agentsConflict || signInConflict; conflict {
		if st.eff.Conflicts == nil {
			st.eff.Conflicts = make(map[string]int, 1)
		}
		st.eff.Conflicts[t.Group]++
	}
	if telephonyNew || agentsNew || signInNew {
		by := t.SignIn.AdoptedBy
		switch {
		case agentsNew:
			by = t.Agents.AdoptedBy
		case telephonyNew:
			by = t.Telephony.AdoptedBy
		}
		st.eff.Changes = append(st.eff.Changes, Change{
			TDG: t.ID, Group: t.Group, Before: before,
			After:      Distributions{t.Telephony.Adopted, t.Agents.Adopted, t.SignIn.Adopted},
			ObservedAt: st.now, ObservedBy: by, Conflict: conflict,
		})
	}
	if !agentsNew {
		return
	}
	switch target := t.Agents.Adopted.target(); {
	case target != "":
		t.SplitAt = time.Time{}
	case t.SplitAt.IsZero():
		t.SplitAt = st.now
	}
	st.checkTarget(g, t)
	st.announceTDG(t)
	if t.Agents.Adopted.target() != "" {
		st.room(len(st.byGroup[t.Group]))
	}
	for _, a := range st.byGroup[t.Group] {
		if a.TDG != t.ID {
			continue
		}
		if a.PresenceCount != 0 {
			a.PresenceRegion, a.PresenceCount = "", 0 // presence has to show itself anew (R1)
			st.touch(a)
		}
		st.decide(a)
	}
}

// checkTarget finds a distribution that sends everybody to a Region where the service does not look (R17), and says whether
// anything about that is new.
func (st *step) checkTarget(g *Group, t *TDG) bool {
	target := t.Agents.Adopted.target()
	if target == "" || g.has(target) {
		return st.repairSetup(&t.Setup, CodeRegionNotConfigured)
	}
	return st.setSetup(&t.Setup, SetupError{
		Code:    CodeRegionNotConfigured,
		Message: "the distribution of traffic distribution group " + t.ID + " sends every agent to " + target + ", which is not configured for failover group " + t.Group,
	})
}
