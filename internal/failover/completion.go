package failover

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// holding returns the ids of the contacts that hold the agent's open failover, sorted, and whether any of them has been seen
// since the given time, or is reported by the agent's desktop (R5, R15, R20).
func (st *step) holding(a *Agent, since time.Time) (ids []string, seen bool) {
	f := a.Failover
	list := a.list(st.groups[a.Group], f.From)
	for i := range list.Contacts {
		if c := &list.Contacts[i]; c.holds(f.To) {
			ids = append(ids, c.ID)
			seen = seen || c.ObservedAt.After(since) || st.reported(c)
		}
	}
	return ids, seen
}

// hold brings an open failover in line with the contacts that hold it: pending, updates, completion (R6 to R9).
// justRead says that fresh evidence has arrived in this Step.
func (st *step) hold(a *Agent, justRead bool) {
	st.regionBack(a)
	f := a.Failover
	ids, seen := st.holding(a, f.DetectedAt)
	fresh := !f.EvidenceAt.IsZero()
	if len(ids) > 0 {
		if !f.ClearedAt.IsZero() {
			f.ClearedAt = time.Time{}
			st.touchFailover(a, f)
		}
		// A list from before the detection is no news of what is open now (R6).
		if fresh || seen || !f.StaleSince.IsZero() || f.Status == Pending {
			st.pending(a, ids)
		}
		return
	}
	// R6: "no contacts" needs fresh evidence; R9 stands in for it when the Region is down.
	cleared := fresh || f.Evidence != ""
	if cleared && f.ClearedAt.IsZero() {
		f.ClearedAt = st.now
		st.touchFailover(a, f)
	}
	if cleared && st.set.Pace == 0 && st.completeIfReady(a, justRead) {
		return
	}
	if f.Status == Pending {
		st.pending(a, nil)
	}
}

// pending tells which contacts hold the failover: failoverPending once, then every change of the set (R7).
func (st *step) pending(a *Agent, ids []string) {
	f := a.Failover
	e := Event{Type: EventPendingUpdated, FailoverID: f.ID, NextRegion: f.To, ContactIDs: ids}
	switch {
	case f.Status == Detected:
		e.Type = EventFailoverPending
		f.Status, f.PendingAt, f.InitialContactIDs = Pending, st.now, ids
	case slices.Equal(ids, f.ContactIDs):
		return
	}
	f.ContactIDs = ids
	st.touchFailover(a, f)
	st.emit(a, e)
}

// completeIfReady completes a failover whose set is empty, unless the agent's desktop knows better or the evidence
// has grown old while it waited (R8).
func (st *step) completeIfReady(a *Agent, justRead bool) bool {
	f := a.Failover
	evidence := cmp.Or(f.Evidence, Inferred) // that of R9 while it applies
	switch {
	case st.groups[a.Group].Pause != nil:
		return false
	case st.waitsForDesktop(a, st.now):
		return false
	case evidence == LastKnown && !st.stillDown(f):
		return false
	case a.desktopRegion(st.now) == f.To:
		// It has arrived; what the Region that it left showed last need not be read again.
		evidence = ByDesktop
	case evidence == Inferred && !justRead && st.now.Sub(f.EvidenceAt) > 2*st.set.DrainInterval:
		return false // read again first; Work asks for it
	}
	st.complete(a, evidence)
	return true
}

// waitsForDesktop says whether the set is empty and the agent's desktop, which reports, does not say yet that it works
// in the target: at most for confirmWithin (R8).
func (s *State) waitsForDesktop(a *Agent, now time.Time) bool {
	f := a.Failover
	return !f.ClearedAt.IsZero() && a.reports(now) && a.Desktop.ActiveRegion != f.To && now.Sub(f.ClearedAt) < s.set.ConfirmWithin
}

// complete ends a failover and changes the active region (R8). What is still open was forced (R11) or released (R9).
func (st *step) complete(a *Agent, evidence Evidence) {
	f := a.Failover
	f.ContactIDs, _ = st.holding(a, f.DetectedAt)
	f.Status, f.CompletedAt, f.Evidence = Completed, st.now, evidence
	f.unforce(evidence == ByForce)
	f.SignedIn = a.Streaming || slices.ContainsFunc(a.Lists, func(l ContactList) bool { return l.Present && !l.Offline })
	a.ActiveRegion, a.RegionSource, a.ObservedAt = f.To, f.Cause, st.now
	if evidence == ByDesktop {
		a.RegionSource = SourceDesktop
	}
	if a.desktopRegion(st.now) == f.To {
		f.ConfirmedAt = st.now
	}
	a.PresenceRegion, a.PresenceCount = "", 0
	if g := st.groups[a.Group]; g.Routing == Global {
		a.list(g, f.To).ReadAt = time.Time{} // what the Region that was left said says nothing for the new one (R20)
	}
	a.Failover, a.Last = nil, f
	st.touchFailover(a, f)
	st.emit(a, Event{
		Type: EventFailoverCompleted, FailoverID: f.ID, ActiveRegion: f.To, ActiveCCPURL: st.groups[a.Group].CCPURL(f.To),
		PreviousRegion: f.From, Forced: f.Forced, Evidence: evidence,
	})
	if !f.ConfirmedAt.IsZero() {
		a.Last = nil
	}
	st.surface(a)
}

// unforce ends a forced completion that was due later; forced says that it is this one that is carried out.
func (f *Failover) unforce(forced bool) {
	f.Forced, f.ForceAt = forced, time.Time{}
	if !forced {
		f.ForcedBy, f.ForcedReason = "", ""
	}
}

// age decides what time alone changes in an open failover.
func (st *step) age(a *Agent) {
	f := a.Failover
	if !f.ForceAt.IsZero() && !st.now.Before(f.ForceAt) {
		st.complete(a, ByForce)
		return
	}
	st.expireReported(a)
	st.regionDown(a)
	if st.released(a) {
		st.complete(a, LastKnown)
		return
	}
	st.hold(a, false)
	if a.Failover != nil && st.set.Pace > 0 && !f.ClearedAt.IsZero() {
		st.paced(a)
	}
}

// paced completes a failover whose set is empty if its turn has come; tick asks in order of detection (R8).
func (st *step) paced(a *Agent) {
	g := st.groups[a.Group]
	if !g.PaceAt.Equal(st.now) {
		full := max(1, st.set.Pace) // an idle second is not saved up for later
		g.PaceLeft = min(full, g.PaceLeft+st.set.Pace*max(0, st.now.Sub(g.PaceAt).Seconds()))
		g.PaceAt = st.now
	}
	if g.PaceLeft < 1-1e-9 || !st.completeIfReady(a, false) { // a tenth ten times is not quite one
		return
	}
	g.PaceLeft--
	st.touchGroup(g)
}

// expireReported drops contacts that only the desktop knew of when it has fallen silent (R15).
func (st *step) expireReported(a *Agent) {
	list := a.list(st.groups[a.Group], a.Failover.From)
	n := len(list.Contacts)
	list.Contacts = slices.DeleteFunc(list.Contacts, func(c Contact) bool { return c.Desktop && !st.reported(&c) })
	if len(list.Contacts) != n {
		st.touch(a)
	}
}

// regionDown applies R9, once, when the from-Region has answered no contacts read for regionDownAfter since the
// detection. Timeouts, broken connections and 5xx are evidence of that; throttling is not, so that one lost request among
// throttled ones is not enough: a read of the second half of that time has to have failed, too. It stays applied, also
// over a restart, until the Region answers.
func (st *step) regionDown(a *Agent) {
	st.regionBack(a)
	f, g := a.Failover, st.groups[a.Group]
	if !f.StaleSince.IsZero() {
		return
	}
	rs := g.region(f.From)
	silentSince := f.DetectedAt
	for _, t := range [...]time.Time{rs.AnsweredAt, st.startedAt} {
		if t.After(silentSince) {
			silentSince = t
		}
	}
	if st.now.Sub(silentSince) < st.set.RegionDownAfter || !rs.UnavailableAt.After(silentSince.Add(st.set.RegionDownAfter/2)) {
		return
	}
	f.StaleSince = st.now
	st.touchFailover(a, f)
	list := a.list(g, f.From)
	for i := range list.Contacts {
		list.Contacts[i].StaleSince = st.now
	}
	if a.desktopRegion(st.now) == f.To && a.Desktop.ActiveAt.After(f.DetectedAt) {
		st.leftRegion(a)
		return
	}
	// How old the list is counts from the Region's last answer to anybody: a Region that has been dead for ten minutes had nothing
	// newer to show. What may have happened in these ten minutes is bounded by maxUnknown.
	recent := !list.ReadAt.IsZero() && rs.AnsweredAt.Sub(list.ReadAt) <= st.recent(g, f.From) && st.recentlyDown(g, f.From)
	if ids, _ := st.holding(a, f.DetectedAt); len(ids) == 0 && recent {
		f.Evidence = LastKnown
	}
}

// recentlyDown says whether a Region has not been silent for longer than what it showed last can be relied on (R9).
func (st *step) recentlyDown(g *Group, region string) bool {
	return st.now.Sub(g.region(region).AnsweredAt) <= st.set.MaxUnknown
}

// regionBack ends R9 when the from-Region has answered anybody: what was last known counts no more.
func (st *step) regionBack(a *Agent) {
	f := a.Failover
	if f.StaleSince.IsZero() || st.groups[a.Group].region(f.From).AnsweredAt.Before(f.StaleSince) {
		return
	}
	f.StaleSince, f.Evidence = time.Time{}, ""
	if f.EvidenceAt.IsZero() {
		f.ClearedAt = time.Time{}
	}
	st.touchFailover(a, f)
}

// stillDown says whether R9, once applied, can complete: the from-Region has failed a read of this process, too. A new
// leader looks for itself before it lets go of anybody.
func (st *step) stillDown(f *Failover) bool {
	return st.groups[f.Group].region(f.From).UnavailableAt.After(st.startedAt)
}

// released says whether an agent who was held by what a dead Region showed last has waited for staleRelease (R9). A contact
// that the agent's desktop reports, or with global routing the other Region shows, is not one of those.
func (st *step) released(a *Agent) bool {
	f := a.Failover
	if st.set.StaleRelease <= 0 || st.groups[a.Group].Pause != nil || f.StaleSince.IsZero() || f.Status != Pending || st.now.Sub(f.StaleSince) < st.set.StaleRelease {
		return false
	}
	_, seen := st.holding(a, f.StaleSince)
	return !seen && st.stillDown(f)
}

// leftRegion takes the word of a CCP that has left a Region which is down: what it does not report is gone (R9, R15).
func (st *step) leftRegion(a *Agent) {
	f := a.Failover
	st.dropUnreported(a, a.list(st.groups[a.Group], f.From))
	f.Evidence = ByDesktop
	st.touchFailover(a, f)
}

// force completes one failover (R11).
func (st *step) force(o Force) {
	// Failovers are few among agents, commands fewer: a scan of the open ones is enough.
	for _, a := range st.open {
		if f := a.Failover; f != nil && f.ID == o.FailoverID {
			f.ForcedBy, f.ForcedReason = o.By, o.Reason
			st.complete(a, ByForce)
			st.eff.Results = append(st.eff.Results, Result{CommandID: o.CommandID, Outcome: OutcomeDone, Matched: 1, Forced: 1})
			return
		}
	}
	st.eff.Results = append(st.eff.Results, Result{
		CommandID: o.CommandID, Outcome: OutcomeConflict,
		Detail: "failover " + o.FailoverID + " is neither detected nor pending",
	})
}

// bulkForce completes all open failovers that match, at most o.MaxPerSecond each second (R11).
func (st *step) bulkForce(o BulkForce) {
	var named map[string]bool // nil: all
	if o.FailoverIDs != nil {
		named = make(map[string]bool, len(o.FailoverIDs))
		for _, id := range o.FailoverIDs {
			named[id] = true
		}
	}
	var matched []*Agent
	for _, a := range st.open {
		f := a.Failover
		if f != nil && (o.OnlyStale || o.OnlyFresh) {
			st.regionBack(a)
		}
		if f == nil || !f.ForceAt.IsZero() || o.Group != "" && a.Group != o.Group || o.TDG != "" && f.TDG != o.TDG ||
			o.From != "" && f.From != o.From || o.OnlyStale && f.StaleSince.IsZero() || o.OnlyFresh && !f.StaleSince.IsZero() ||
			o.Status != "" && f.Status != o.Status || !st.heldAs(a, o.Channel, o.Phase) || named != nil && !named[f.ID] {
			continue
		}
		matched = append(matched, a)
	}
	result := Result{CommandID: o.CommandID, Outcome: OutcomeDone, Matched: len(matched), Forced: len(matched)}
	if !o.OnlyStale {
		if result.Detail = st.tooMany(matched, cmp.Or(o.MaxFraction, maxFraction), o.MaxPerSecond); result.Detail != "" {
			result.Outcome, result.Forced = OutcomeRefused, 0
			st.eff.Results = append(st.eff.Results, result)
			return
		}
	}
	for i, a := range matched {
		f := a.Failover
		f.ForcedBy, f.ForcedReason = o.By, o.Reason
		if o.MaxPerSecond > 0 && i > 0 {
			wait := min(float64(i)/o.MaxPerSecond, 1e9) // seconds; more would not fit into a Duration
			f.ForceAt = st.now.Add(time.Duration(wait * float64(time.Second)))
			st.touchFailover(a, f)
			continue
		}
		st.complete(a, ByForce)
	}
	st.eff.Results = append(st.eff.Results, result)
}

// heldAs says whether a contact of the channel holds the agent, and whether those that do are in the phase; empty: in any.
func (st *step) heldAs(a *Agent, channel string, phase Phase) bool {
	if channel == "" && phase == "" {
		return true
	}
	f, of, live := a.Failover, false, false
	list := a.list(st.groups[a.Group], f.From)
	for i := range list.Contacts {
		if c := &list.Contacts[i]; c.holds(f.To) {
			of = of || c.Channel == channel
			live = live || c.State != ContactEnded
		}
	}
	return (channel == "" || of) && (phase == "" || f.Status == Pending && live == (phase == PhaseTalking))
}

// The rule that keeps a slip of the hand from emptying a floor: how many agents of a failover group may be forced in bulk within
// how long, unless the command says otherwise (R11).
const (
	maxFraction = 0.2
	forceWindow = 10 * time.Minute
)

// ForcedBulk is a bulk force that the rule counts.
type ForcedBulk struct {
	At        time.Time `json:"at"`
	Forced    int       `json:"forced"`
	PerSecond float64   `json:"perSecond,omitempty"` // 0: all at once
}

// near counts those whose turn was or comes within the window, before the given time or after it.
func (b *ForcedBulk) near(now time.Time) int {
	since := now.Sub(b.At)
	if b.PerSecond <= 0 {
		if since < forceWindow {
			return b.Forced
		}
		return 0
	}
	// The k-th is due k/PerSecond seconds after At.
	first := max(0, math.Floor((since-forceWindow).Seconds()*b.PerSecond)+1)
	end := min(float64(b.Forced), math.Ceil((since+forceWindow).Seconds()*b.PerSecond))
	return int(max(0, end-first))
}

// over says whether the last one's turn is longer ago than the window; one that takes longer than a day is forgotten after it.
func (b *ForcedBulk) over(now time.Time) bool {
	since := now.Sub(b.At).Seconds()
	if b.PerSecond > 0 {
		since -= min(float64(b.Forced-1)/b.PerSecond, (24 * time.Hour).Seconds())
	}
	return since >= forceWindow.Seconds()
}

// tooMany says why a bulk force would force too many agents of a failover group; empty: it would not, and is counted. Of slow commands before it
// those count whose turn is near.
func (st *step) tooMany(matched []*Agent, fraction, perSecond float64) string {
	byGroup := map[string]int{}
	for _, a := range matched {
		byGroup[a.Group]++
	}
	groups := sortedKeys(byGroup)
	for _, name := range groups {
		g := st.groups[name]
		already, all := 0, len(st.byGroup[name])
		for _, b := range g.ForcedBulk {
			already += b.near(st.now)
		}
		if fraction < 1 && float64(already+byGroup[name]) > fraction*float64(all) {
			return fmt.Sprintf("maxFraction: %d of the %d agents of failover group %s match and %d were or will be forced within ten minutes, more than %g of them; nothing was forced",
				byGroup[name], all, name, already, fraction)
		}
	}
	for _, name := range groups {
		g := st.groups[name]
		g.ForcedBulk = slices.DeleteFunc(g.ForcedBulk, func(b ForcedBulk) bool { return b.over(st.now) })
		g.ForcedBulk = append(g.ForcedBulk, ForcedBulk{At: st.now, Forced: byGroup[name], PerSecond: perSecond})
		st.touchGroup(g)
	}
	return ""
}

// confirmByPresence confirms a completion when the agent is seen at work in the new Region (R12).
func (st *step) confirmByPresence(a *Agent, g *Group, region string, offline bool, startedAt time.Time) {
	if f := a.Last; f != nil && g.Routing == Regional && region == f.To && !offline && !startedAt.Before(f.CompletedAt) {
		st.confirm(a, startedAt)
	}
}

// confirm takes what was observed at the given time for the confirmation of a completion.
func (st *step) confirm(a *Agent, at time.Time) {
	f := a.Last
	f.ConfirmedAt = st.now
	a.Last, a.ObservedAt = nil, at
	st.touchFailover(a, f)
	st.surface(a)
}

// stallByPresence tells, once, that complete reads of both Regions made after confirmWithin show the agent at work in the Region
// that was left, and not in the new one (R12). Who is seen in neither has gone home, as far as anybody knows.
func (st *step) stallByPresence(a *Agent, g *Group) {
	f := a.Last
	if f == nil || !st.mayStall(a) {
		return
	}
	due := f.CompletedAt.Add(st.set.ConfirmWithin)
	if g.region(f.To).SweepStartedAt.Before(due) || a.atWork(g, f.To, due) || !a.atWork(g, f.From, due) {
		return
	}
	st.stall(a, f.From)
}

// atWork says whether a read of the Region that began at since or later was the last to tell, and showed the agent there, not offline.
func (a *Agent) atWork(g *Group, region string, since time.Time) bool {
	l := a.list(g, region)
	return l.Present && !l.Offline && !l.SeenAt.Before(since)
}

// mayStall: only who was there at completion, and has no next failover already, can be missed (R12).
func (st *step) mayStall(a *Agent) bool {
	return a.Last.StalledAt.IsZero() && a.Last.SignedIn && a.Failover == nil
}

func (st *step) stall(a *Agent, seenIn string) {
	a.Last.StalledAt = st.now
	st.touchFailover(a, a.Last)
	st.emit(a, Event{Type: EventFailoverStalled, FailoverID: a.Last.ID, ActiveRegion: seenIn})
}
