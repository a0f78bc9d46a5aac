package failover

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// witness watches a State from outside. After every Step of every test it checks what must hold whatever happened. What
// holds a contact it works out by itself, from the observations alone: it asks none of the code's own functions.
type witness struct {
	*service
	agents  map[string]*watched
	regions map[string]*watchedRegion // of the group; there is one group
	ended   map[string]bool           // failovers
	started time.Time                 // of the process
	left    map[string]time.Time      // routing profiles, by the last read that showed somebody in another one than before

	pausedUntil time.Time // zero: no pause

	stored map[string]bool // failovers

	paced      map[string]int       // completions that failover.pace counts, by group
	pacedSince map[string]time.Time // the first of them
	restarts   int

	hasty bool // leaves out what takes longest: whether everything is stored
}

// watched is what the witness knows of an agent.
type watched struct {
	active    string
	open      *watchedFailover
	completed map[string]bool // failovers that may still stall
	profile   string
	drill     string                 // that the agent is told of; empty: none
	seen      map[string]time.Time   // when a Region last showed the agent; not since it showed that the agent is not there
	reads     map[string]watchedRead // the latest of each Region that counts for R6
	known     map[string]watchedRead // the latest of any kind, as R9 wants it
	others    []watchedRead          // global routing: what the other Region's view showed
	reported  map[string]watchedReport
	desktop   struct {
		at     time.Time
		active string
	}
	stream struct {
		open         bool
		since, ended time.Time
	}
	located map[string]string // contact ids to Regions
}

type watchedFailover struct {
	id, from, to string
	at           time.Time
	status       Status
	contacts     []string
	downAt       time.Time // when R9 came to apply; zero: it does not
}

type watchedRead struct {
	startedAt time.Time
	holding   map[string]bool // ids of voice and chat contacts
}

type watchedReport struct {
	at      time.Time
	holding map[string]bool
}

type watchedRegion struct {
	answered, failed time.Time
	swept            time.Duration // the last sweep's
}

func newWitness(s *service) *witness {
	return &witness{
		service: s, agents: map[string]*watched{}, regions: map[string]*watchedRegion{east: {}, west: {}},
		ended: map[string]bool{}, stored: map[string]bool{}, left: map[string]time.Time{}, paced: map[string]int{}, pacedSince: map[string]time.Time{},
	}
}

func (w *witness) restarted() {
	w.restarts++
	clear(w.left)
	for _, a := range w.agents {
		a.stream.open, a.stream.ended = false, time.Time{} // the next leader asks
	}
}

func (w *witness) agent(id string) *watched {
	a := w.agents[id]
	if a == nil {
		a = &watched{
			seen: map[string]time.Time{}, completed: map[string]bool{}, reads: map[string]watchedRead{}, known: map[string]watchedRead{}, reported: map[string]watchedReport{}, located: map[string]string{},
		}
		w.agents[id] = a
	}
	return a
}

func holdingOf(contacts []Contact) map[string]bool {
	ids := map[string]bool{}
	for _, c := range contacts {
		if c.Channel != "TASK" && c.Channel != "EMAIL" {
			ids[c.ID] = true
		}
	}
	return ids
}

// before takes what an observation says by itself.
func (w *witness) before(o Observation) {
	switch o := o.(type) {
	case Started:
		w.started = w.now
	case UserData:
		w.answered(o.Region)
		for _, u := range o.Users {
			if a := w.resolve(o.Group, o.Region, u.ID); a != nil {
				if u.RoutingProfile != "" && u.RoutingProfile != a.profile {
					w.left[a.profile] = o.StartedAt
					a.profile = u.RoutingProfile
				}
				w.see(a, o.Region, o.StartedAt, true)
				w.read(a, o.Region, o.StartedAt, holdingOf(u.Contacts))
			}
		}
		for _, id := range o.Absent {
			if a := w.resolve(o.Group, o.Region, id); a != nil {
				w.see(a, o.Region, o.StartedAt, false)
				w.read(a, o.Region, o.StartedAt, nil)
			}
		}
	case ChunkComplete:
		w.answered(o.Region)
		for _, a := range w.agents {
			if !o.Filtered && slices.Contains(o.Profiles, a.profile) && len(a.known[o.Region].holding) == 0 && a.known[o.Region].startedAt.Before(o.StartedAt) {
				w.see(a, o.Region, o.StartedAt, false)
			}
			switch {
			case !slices.Contains(o.Profiles, a.profile) || !a.known[o.Region].startedAt.Before(o.StartedAt):
			case o.Filtered && a.open != nil && a.open.from == o.Region && !w.certain(a, o.Region, o.StartedAt): // R6
			case o.Filtered:
				w.read(a, o.Region, o.StartedAt, nil)
			case len(a.known[o.Region].holding) == 0 && (a.open == nil || a.open.from != o.Region):
				w.know(a, o.Region, watchedRead{o.StartedAt, nil})
			}
		}
	case PassComplete:
		w.answered(o.Region)
		if r := w.regions[o.Region]; r != nil && !o.Filtered {
			r.swept = o.FinishedAt.Sub(o.StartedAt)
		}
		for _, a := range w.agents {
			if !o.Filtered && a.known[o.Region].startedAt.Before(o.StartedAt) {
				w.see(a, o.Region, o.StartedAt, false)
			}
			switch {
			case !a.known[o.Region].startedAt.Before(o.StartedAt):
			case o.Filtered:
				w.read(a, o.Region, o.StartedAt, nil)
			case a.open == nil || a.open.from != o.Region:
				w.know(a, o.Region, watchedRead{o.StartedAt, nil})
			}
		}
	case ContactsUnavailable:
		if r := w.regions[o.Region]; r != nil {
			r.failed = w.now
		}
	case ContactLocated:
		w.agent(o.AgentID).located[o.ContactID] = o.Region
	case Report:
		w.report(o)
	case Streaming:
		for id, a := range w.agents {
			since, open := o.Since[id]
			switch s := &a.stream; {
			case open && !s.open && (s.ended.IsZero() || w.now.Sub(s.ended) > 2*time.Minute):
				s.since = since
			case open:
			case s.open:
				s.ended = w.now
			}
			a.stream.open = open
		}
	case PauseGroup:
		if o.Group == "main" {
			w.pausedUntil = w.now.Add(o.TTL)
		}
	case ResumeGroup:
		if o.Group == "main" {
			w.pausedUntil = time.Time{}
		}
	case Tick:
		if !w.now.Before(w.pausedUntil) {
			w.pausedUntil = time.Time{}
		}
		for _, a := range w.agents {
			if f := a.open; f != nil && f.downAt.IsZero() && w.isDown(f) {
				f.downAt = w.now
			}
		}
	}
}

// resolve uses the code's join of ids: it is no part of what is checked here.
func (w *witness) resolve(group, region, id string) *watched {
	if a := w.state.resolve(group, region, id); a != nil {
		return w.agent(a.ID)
	}
	if w.state.groups[group] == nil || !w.state.groups[group].has(region) || id == "" || w.state.agents[id] != nil {
		return nil
	}
	return w.agent(id) // it will be made
}

func (w *witness) answered(region string) {
	r := w.regions[region]
	if r == nil {
		return
	}
	r.answered = w.now
	for _, a := range w.agents {
		if a.open != nil && a.open.from == region {
			a.open.downAt = time.Time{}
		}
	}
}

// see keeps whether a Region showed the agent; with global routing there is one view.
func (w *witness) see(a *watched, region string, startedAt time.Time, there bool) {
	if w.regions[region] == nil {
		return
	}
	if w.groups[0].Routing == Global {
		region = ""
	}
	switch {
	case there && !startedAt.Before(a.seen[region]):
		a.seen[region] = startedAt
	case !there && startedAt.After(a.seen[region]):
		delete(a.seen, region)
	}
}

// certain says whether a set of the agent's routing profile would have shown a contact: the Region has shown the agent lately, and nobody
// has left the profile lately (R6).
func (w *witness) certain(a *watched, region string, at time.Time) bool {
	limit := max(w.set.ContactsMaxAge, 2*w.regions[region].swept)
	if left, ok := w.left[a.profile]; ok && at.Sub(left) <= limit {
		return false
	}
	if w.groups[0].Routing == Global {
		region = ""
	}
	seen, ok := a.seen[region]
	return ok && at.Sub(seen) <= limit
}

// read keeps the latest read of each Region, by when it began.
func (w *witness) read(a *watched, region string, startedAt time.Time, holding map[string]bool) {
	if w.regions[region] == nil {
		return
	}
	r := watchedRead{startedAt, holding}
	if !startedAt.Before(a.known[region].startedAt) {
		a.reads[region] = r
		w.know(a, region, r)
	}
	a.others = append(a.others, r)
}

// know keeps what a Region showed last. With global routing there is one list, and what the active Region does not show is gone
// from it, whoever had shown it before.
func (w *witness) know(a *watched, region string, r watchedRead) {
	a.known[region] = r
	if w.groups[0].Routing != Global || region != a.active {
		return
	}
	for other, was := range a.known {
		if was.startedAt.After(r.startedAt) {
			continue
		}
		left := watchedRead{was.startedAt, map[string]bool{}}
		for id := range was.holding {
			if r.holding[id] {
				left.holding[id] = true
			}
		}
		a.known[other] = left
	}
}

func (w *witness) report(o Report) {
	s := w.state.agents[o.AgentID]
	if s == nil {
		return
	}
	a, g := w.agent(o.AgentID), w.state.groups[s.Group]
	a.desktop.at = o.At
	if g.has(o.ActiveRegion) {
		a.desktop.active = o.ActiveRegion
	}
	defer func() { // a CCP that has left a Region has nothing open there, unless it says so
		if f := a.open; f != nil && g.Routing == Regional && o.ActiveRegion == f.to && a.reported[f.from].at.Before(o.At) {
			delete(a.reported, f.from)
		}
	}()
	if !o.HasContacts {
		return
	}
	region := o.ContactsRegion
	all := w.regions[region] == nil
	for _, other := range []string{o.ActiveRegion, a.active} {
		if w.regions[region] == nil {
			region = other
		}
	}
	if w.regions[region] == nil {
		return
	}
	var contacts []Contact
	for _, c := range o.Contacts {
		contacts = append(contacts, Contact{ID: c.ContactID, Channel: c.Channel})
	}
	holding := holdingOf(contacts)
	if g.Routing == Global {
		a.reported[""] = watchedReport{o.At, holding} // one list
		return
	}
	if all { // what Amazon Connect shows in the other Region is there
		there := map[string]bool{}
		other := g.other(region)
		was, here := a.reported[other], a.reported[region]
		for id := range holding {
			if a.known[other].holding[id] || was.holding[id] && w.now.Sub(was.at) <= 2*time.Minute {
				there[id] = true
				if !a.known[region].holding[id] && !(here.holding[id] && w.now.Sub(here.at) <= 2*time.Minute) {
					delete(holding, id)
				}
			}
		}
		a.reported[other] = watchedReport{o.At, there}
	}
	a.reported[region] = watchedReport{o.At, holding}
}

// isDown says whether R9 applies: no answer for regionDownAfter since the detection, and failures meanwhile.
func (w *witness) isDown(f *watchedFailover) bool {
	r := w.regions[f.from]
	since := f.at
	for _, t := range []time.Time{r.answered, w.started} {
		if t.After(since) {
			since = t
		}
	}
	return r.failed.After(since) && w.now.Sub(since) >= w.set.RegionDownAfter
}

// holding is what holds an open failover by the rules R5, R6, R15 and R20, as far as reads that count and fresh reports
// say. fresh is whether there is any read that counts.
func (w *witness) holding(a *watched, routing Routing) (ids map[string]bool, fresh bool) {
	f := a.open
	ids = map[string]bool{}
	last := a.reads[f.from]
	fresh = !last.startedAt.IsZero() && !last.startedAt.Before(f.at)
	for id := range last.holding {
		ids[id] = true
	}
	if routing == Global {
		for _, r := range a.others {
			if r.startedAt.After(last.startedAt) {
				for id := range r.holding {
					ids[id] = true
				}
			}
		}
	}
	region := f.from
	if routing == Global {
		region = ""
	}
	if r := a.reported[region]; w.now.Sub(r.at) <= 2*time.Minute {
		for id := range r.holding {
			ids[id] = true
		}
	}
	for id := range ids {
		if routing == Global && a.located[id] == f.to {
			delete(ids, id)
		}
	}
	return ids, fresh
}

// after checks what a Step did.
func (w *witness) after(o Observation, eff *Effects) {
	w.t.Helper()
	w.checkShape(eff)
	for _, e := range eff.Events {
		w.checkEvent(o, e)
		w.checkRecord(e, eff.Failovers)
	}
	for _, id := range eff.RemovedAgents {
		if a := w.agents[id]; a != nil && a.open != nil {
			w.fail("agent %s was removed with an open failover", id)
		}
		delete(w.agents, id)
	}
	w.checkState()
	if !w.hasty {
		w.checkStored()
	}
	switch o.(type) {
	case ContactsUnavailable: // R13
		if len(eff.Events)+len(eff.Agents)+len(eff.Failovers)+len(eff.TDGs)+len(eff.Changes) > 0 {
			w.fail("a failed read changed something: %+v", eff)
		}
	case Report, Force, BulkForce, PauseGroup, ResumeGroup, StartDrill:
		if len(eff.Results) != 1 {
			w.fail("%T has %d results, want 1", o, len(eff.Results))
		}
	}
}

// checkShape: nothing twice, and nothing told that is not stored in the same transaction.
func (w *witness) checkShape(eff *Effects) {
	w.t.Helper()
	agents, failovers := map[string]bool{}, map[string]bool{}
	for _, a := range eff.Agents {
		if agents[a.ID] {
			w.fail("agent %s is in the effects twice", a.ID)
		}
		if w.state.agents[a.ID] != a {
			w.fail("agent %s in the effects is not the State's", a.ID)
		}
		agents[a.ID] = true
	}
	for _, id := range eff.RemovedAgents {
		if agents[id] {
			w.fail("agent %s is in the effects twice, as removed too", id)
		}
		if w.state.agents[id] != nil {
			w.fail("agent %s is in the effects as removed and in the State", id)
		}
		agents[id] = true
	}
	for _, f := range eff.Failovers {
		if failovers[f.ID] {
			w.fail("failover %s is in the effects twice", f.ID)
		}
		if !agents[f.AgentID] {
			w.fail("failover %s is in the effects without its agent %s", f.ID, f.AgentID)
		}
		failovers[f.ID] = true
		if slices.Contains(eff.Created, f) == w.stored[f.ID] { // the store relies on it
			w.fail("failover %s: stored before: %t, the effects say the opposite", f.ID, w.stored[f.ID])
		}
		w.stored[f.ID] = true
	}
	for i, f := range eff.Created {
		if !failovers[f.ID] || slices.Contains(eff.Created[:i], f) {
			w.fail("failover %s is in the effects twice as created, or only there", f.ID)
		}
	}
	for i := range eff.TDGs {
		if slices.Contains(eff.TDGs[:i], eff.TDGs[i]) {
			w.fail("traffic distribution group %s is in the effects twice", eff.TDGs[i].ID)
		}
	}
	for i := range eff.Groups {
		if slices.Contains(eff.Groups[:i], eff.Groups[i]) {
			w.fail("failover group %s is in the effects twice", eff.Groups[i].Name)
		}
	}
	for _, e := range eff.Events {
		if !agents[e.AgentID] {
			w.fail("%s of agent %s without the agent in the effects", e.Type, e.AgentID)
		}
		if e.FailoverID != "" && e.Type != EventSnapshot && !failovers[e.FailoverID] {
			w.fail("%s of failover %s without the failover in the effects", e.Type, e.FailoverID)
		}
		if !e.Time.Equal(w.now) {
			w.fail("%s has time %s", e.Type, e.Time)
		}
	}
}

// checkEvent follows the order of R18, and what a completion must rest on.
func (w *witness) checkEvent(o Observation, e *Event) {
	w.t.Helper()
	data := e.AppendData(nil)
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		w.fail("%s is no JSON: %v: %s", e.Type, err, data)
	}
	if strings.ContainsAny(string(data), "\r\n") || m["agentId"] != strings.ToValidUTF8(e.AgentID, "\ufffd") || m["time"] != FormatTime(e.Time) {
		w.fail("%s has data %s", e.Type, data)
	}
	a := w.agent(e.AgentID)
	f := a.open
	same := func() {
		if f == nil || f.id != e.FailoverID {
			w.fail("%s of %s for agent %s, whose open failover is %+v", e.Type, e.FailoverID, e.AgentID, f)
		}
	}
	switch e.Type {
	case EventSnapshot:
		if a.active != "" {
			w.fail("a second baseline of agent %s", e.AgentID)
		}
		a.active = e.ActiveRegion
	case EventFailoverDetected:
		if a.drill != "" {
			w.fail("%s detected in a drill", e.FailoverID)
		}
		if f != nil || w.ended[e.FailoverID] {
			w.fail("%s detected while %+v is open", e.FailoverID, f)
		}
		if a.active == "" || a.active == e.NextRegion {
			w.fail("%s detected from %q to %q", e.FailoverID, a.active, e.NextRegion)
		}
		a.open = &watchedFailover{id: e.FailoverID, from: a.active, to: e.NextRegion, at: w.now, status: Detected}
	case EventFailoverPending:
		if same(); f.status != Detected || len(e.ContactIDs) == 0 {
			w.fail("%s pending as %s with %v", f.id, f.status, e.ContactIDs)
		}
		f.status, f.contacts = Pending, e.ContactIDs
	case EventPendingUpdated:
		if same(); f.status != Pending || slices.Equal(f.contacts, e.ContactIDs) {
			w.fail("%s updated as %s from %v to %v", f.id, f.status, f.contacts, e.ContactIDs)
		}
		f.contacts = e.ContactIDs
	case EventFailoverCompleted:
		same()
		w.checkCompletion(o, a, e)
		a.active, a.open = f.to, nil
		w.ended[f.id], a.completed[f.id] = true, true
	case EventFailoverCancelled:
		if same(); e.ActiveRegion != a.active || e.CancelledRegion != f.to {
			w.fail("%s cancelled as %+v", f.id, e)
		}
		a.open, w.ended[f.id] = nil, true
	case EventDrillDetected:
		if a.drill != "" || f != nil || e.NextRegion == a.active || m["drill"] != true {
			w.fail("a drill begins for agent %s in one, or in a failover: %s", e.AgentID, data)
		}
		a.drill = e.DrillID
	case EventDrillPending:
		if a.drill != e.DrillID || f != nil || len(e.ContactIDs) == 0 || m["drill"] != true {
			w.fail("a drill is pending for agent %s: %s", e.AgentID, data)
		}
	case EventDrillCompleted, EventDrillCancelled:
		if a.drill != e.DrillID || f != nil || m["drill"] != true {
			w.fail("a drill ends for agent %s: %s", e.AgentID, data)
		}
		a.drill = ""
	case EventFailoverPaused:
		if same(); w.pausedUntil.IsZero() || !e.Until.Equal(w.pausedUntil) {
			w.fail("%s is told to be paused until %s, the pause lasts until %s", f.id, e.Until, w.pausedUntil)
		}
	case EventFailoverResumed:
		if same(); !w.pausedUntil.IsZero() {
			w.fail("%s is told to go on in a pause", f.id)
		}
	case EventFailoverStalled:
		if !a.completed[e.FailoverID] {
			w.fail("%s stalled", e.FailoverID)
		}
		delete(a.completed, e.FailoverID)
	}
	if !slices.IsSorted(e.ContactIDs) || len(slices.Compact(slices.Clone(e.ContactIDs))) != len(e.ContactIDs) {
		w.fail("%s with %v", e.Type, e.ContactIDs)
	}
}

// checkRecord: the record of a failover tells what its event tells.
func (w *witness) checkRecord(e *Event, failovers []*Failover) {
	w.t.Helper()
	i := slices.IndexFunc(failovers, func(f *Failover) bool { return f.ID == e.FailoverID })
	if i < 0 {
		return // no event of a failover, or checkShape has told
	}
	f := failovers[i]
	ok := true
	switch e.Type {
	case EventFailoverDetected:
		ok = f.DetectedAt.Equal(w.now) && f.To == e.NextRegion && f.AgentID == e.AgentID && f.Cause != ""
	case EventFailoverPending:
		ok = f.PendingAt.Equal(w.now) && slices.Equal(f.InitialContactIDs, e.ContactIDs)
	case EventFailoverCompleted:
		ok = f.Status == Completed && f.CompletedAt.Equal(w.now) && f.CancelledAt.IsZero() && f.Evidence == e.Evidence && f.Forced == e.Forced &&
			(f.ForcedBy != "") == f.Forced && f.ForceAt.IsZero()
	case EventFailoverCancelled:
		ok = f.Status == Cancelled && f.CancelledAt.Equal(w.now) && f.CompletedAt.IsZero() && f.Evidence == "" && !f.Forced && f.ForcedBy == "" && f.ForceAt.IsZero()
	case EventFailoverStalled:
		ok = f.Status == Completed && f.StalledAt.Equal(w.now) && f.SignedIn
	}
	if !ok {
		w.fail("%s of %+v", e.Type, *f)
	}
}

// checkCompletion: nobody is completed while a contact holds, unless by force or by R9.
func (w *witness) checkCompletion(o Observation, a *watched, e *Event) {
	w.t.Helper()
	f := a.open
	if e.ActiveRegion != f.to || e.PreviousRegion != f.from || e.Forced != (e.Evidence == ByForce) {
		w.fail("%s completed as %+v", f.id, e)
	}
	if e.Forced {
		return // by a command, perhaps an earlier one
	}
	if !w.pausedUntil.IsZero() {
		w.fail("%s completed in a pause", f.id)
	}
	s := w.state.agents[e.AgentID]
	ids, fresh := w.holding(a, w.state.groups[s.Group].Routing)
	reporting := a.desktop.active != "" && w.now.Sub(a.desktop.at) <= 2*time.Minute
	streaming := a.stream.since.Sub(a.desktop.at) <= 2*time.Minute && (a.stream.open || w.now.Sub(a.stream.ended) <= 2*time.Minute)
	if (reporting || a.desktop.active != "" && streaming) && a.desktop.active != f.to && w.now.Sub(f.at) < w.set.ConfirmWithin && w.set.StaleRelease == 0 {
		w.fail("%s completed although the desktop says %s", f.id, a.desktop.active)
	}
	down := !f.downAt.IsZero()
	switch e.Evidence {
	case Inferred:
		if !fresh || len(ids) > 0 {
			w.fail("%s inferred; fresh %t, held by %v", f.id, fresh, sortedIDs(ids))
		}
		if reporting && a.desktop.active == f.to {
			w.fail("%s inferred although the desktop says so too", f.id)
		}
	case ByDesktop:
		if !down && (!fresh || len(ids) > 0) {
			w.fail("%s completed by the desktop; fresh %t, held by %v", f.id, fresh, sortedIDs(ids))
		}
		if !down && (!reporting || a.desktop.active != f.to) {
			w.fail("%s completed by the desktop, which says %s", f.id, a.desktop.active)
		}
	case LastKnown:
		if !down {
			w.fail("%s completed by what was last known of a Region that is not down", f.id)
		}
		last, region := a.known[f.from], w.regions[f.from]
		limit := max(w.set.ContactsMaxAge, 2*region.swept)
		if w.restarts > 0 {
			limit += w.set.RegionDownAfter / 6 // when a Region last answered is stored once in a while
		}
		released := w.set.StaleRelease > 0 && w.now.Sub(f.downAt) >= w.set.StaleRelease
		if !released && (len(last.holding) > 0 || region.answered.Sub(last.startedAt) > limit || f.downAt.Sub(region.answered) > w.set.MaxUnknown) {
			w.fail("%s completed by what was known at %s, the region's last answer was at %s: %v", f.id, last.startedAt, region.answered, sortedIDs(last.holding))
		}
	default:
		w.fail("%s completed with evidence %q", f.id, e.Evidence)
	}
	if w.set.Pace > 0 && (w.set.StaleRelease == 0 || e.Evidence != LastKnown) {
		if _, ok := o.(Tick); !ok {
			w.fail("%s completed out of its turn, at %T", f.id, o)
		}
		if w.paced[s.Group] == 0 {
			w.pacedSince[s.Group] = w.now
		}
		w.paced[s.Group]++
		burst := max(1, w.set.Pace) * float64(1+w.restarts)
		if n, most := float64(w.paced[s.Group]), burst+w.set.Pace*w.now.Sub(w.pacedSince[s.Group]).Seconds(); n > most+1e-6 {
			w.fail("%.0f completions, at most %.1f by now", n, math.Floor(most))
		}
	}
}

// checkState compares the State with what the events told, and its indexes with one another.
func (w *witness) checkState() {
	w.t.Helper()
	st := w.state
	for id, s := range st.agents {
		a := w.agent(id)
		if id == "" {
			w.fail("an agent without an id: %+v", s)
		}
		if s.ID != id || s.ActiveRegion != a.active {
			w.fail("agent %s is active in %q, events told %q", id, s.ActiveRegion, a.active)
		}
		switch {
		case (s.Failover == nil) != (a.open == nil):
			w.fail("agent %s has failover %+v, events told %+v", id, s.Failover, a.open)
		case s.Failover == nil:
		case s.Failover.ID != a.open.id || s.Failover.Status != a.open.status || s.Failover.From != a.open.from || s.Failover.To != a.open.to ||
			!slices.Equal(s.Failover.ContactIDs, a.open.contacts):
			w.fail("agent %s has failover %+v, events told %+v", id, s.Failover, a.open)
		case !slices.Contains(st.open, s):
			w.fail("agent %s with failover %s is not among the open ones", id, s.Failover.ID)
		}
		if l := s.Last; l != nil && (l.Status != Completed || !l.ConfirmedAt.IsZero()) {
			w.fail("agent %s waits for the confirmation of %+v", id, l)
		}
		for i, l := range s.Lists {
			if !slices.IsSortedFunc(l.Contacts, func(x, y Contact) int { return strings.Compare(x.ID, y.ID) }) {
				w.fail("contacts of agent %s are not sorted: %+v", id, l.Contacts)
			}
			for j := range l.Contacts {
				if j > 0 && l.Contacts[j].ID == l.Contacts[j-1].ID {
					w.fail("agent %s has contact %s twice", id, l.Contacts[j].ID)
				}
			}
			if i > 0 && s.Lists[i-1].Region >= l.Region {
				w.fail("lists of agent %s are not sorted", id)
			}
		}
		for i, e := range s.Errors {
			for _, x := range s.Errors[:i] {
				if x.Code == e.Code && x.kind() == e.kind() {
					w.fail("agent %s has error %s twice", id, e.Code)
				}
			}
		}
		if s.touched || s.Failover != nil && s.Failover.touched || s.Last != nil && s.Last.touched {
			w.fail("agent %s is still marked as changed", id)
		}
	}
	n := 0
	for group, agents := range st.byGroup {
		n += len(agents)
		for _, s := range agents {
			if st.agents[s.ID] != s || s.Group != group {
				w.fail("agent %s is listed in group %s and in none", s.ID, group)
			}
		}
	}
	if n != len(st.agents) {
		w.fail("groups have %d agents, there are %d", n, len(st.agents))
	}
	n = 0
	for k, agents := range st.byProfile {
		n += len(agents)
		for i, s := range agents {
			if st.agents[s.ID] != s || s.inProfile != i || k != (profileKey{s.Group, s.RoutingProfile}) {
				w.fail("agent %s of profile %q is listed in profile %q, place %d", s.ID, s.RoutingProfile, k.profile, i)
			}
		}
	}
	if n != len(st.agents) {
		w.fail("profiles have %d agents, there are %d", n, len(st.agents))
	}
	for k, s := range st.byName {
		if st.agents[s.ID] != s || s.Username != k.username {
			w.fail("name %s leads to agent %s, %s", k.username, s.ID, s.Username)
		}
	}
	for k, s := range st.byAlias {
		if st.agents[s.ID] != s || s.Aliases[k.region] != k.id {
			w.fail("alias %v leads to agent %s with %v", k, s.ID, s.Aliases)
		}
	}
	w.checkWork()
}

// checkWork: everybody who is detected and without evidence is read at once, and nobody is read who has no failover.
func (w *witness) checkWork() {
	w.t.Helper()
	asked := map[string]bool{}
	for _, d := range w.state.Work(w.now).Drain {
		s := w.state.agents[d.AgentID]
		if s == nil || s.Failover == nil || s.Failover.ID != d.FailoverID || s.Failover.From != d.Region || asked[d.AgentID] {
			w.fail("work asks for %+v", d)
		}
		asked[d.AgentID] = true
	}
	for id, s := range w.state.agents {
		if s.Failover != nil && s.Failover.EvidenceAt.IsZero() && s.Failover.ClearedAt.IsZero() && !asked[id] {
			w.fail("nobody reads agent %s", id)
		}
	}
}

// checkStored: a restart at this moment would find the State as it is, but for times that are stored once in a while.
func (w *witness) checkStored() {
	w.t.Helper()
	if len(w.db.agents) != len(w.state.agents) {
		w.fail("%d agents are stored, there are %d", len(w.db.agents), len(w.state.agents))
	}
	for id, a := range w.state.agents {
		if was, is := w.db.settled[id], settled(w.t, a); was != is {
			w.fail("agent %s is stored as\n%s\nand is\n%s", id, was, is)
		}
	}
	for id, t := range w.state.tdgs {
		if is := encode(w.t, t); string(w.db.tdgs[id]) != string(is) {
			w.fail("traffic distribution group %s is stored as\n%s\nand is\n%s", id, w.db.tdgs[id], is)
		}
	}
	for name, g := range w.state.groups {
		if w.db.groups[name] == nil {
			continue // nothing to know of it yet
		}
		if was, is := w.db.settled["group "+name], settledGroup(w.t, g); was != is {
			w.fail("group %s is stored as\n%s\nand is\n%s", name, was, is)
		}
	}
}

// settled is an agent as it has to be stored at all times: without what is stored once in a while only (when an unchanged
// list was last read, and so how new the evidence is, but not whether there is any) or asked for anew by each process (who has an event stream).
func settled(t tester, a *Agent) string {
	is := *a
	if f := a.Failover; f != nil && !f.EvidenceAt.IsZero() {
		clone := *f
		clone.EvidenceAt = f.DetectedAt
		is.Failover = &clone
	}
	is.Streaming, is.Lists = false, nil
	for _, l := range a.Lists {
		l.ReadAt, l.SeenAt = time.Time{}, time.Time{}
		l.Contacts = slices.Clone(l.Contacts)
		for i := range l.Contacts {
			l.Contacts[i].ObservedAt = time.Time{}
		}
		if l.Present || len(l.Contacts) > 0 {
			is.Lists = append(is.Lists, l)
		}
	}
	return string(encode(t, is))
}

// settledGroup leaves out when a Region last answered, how the pace stands, and what is configured anyway.
func settledGroup(t tester, g *Group) string {
	is := *g
	is.GroupConfig = GroupConfig{}
	is.PaceAt, is.PaceLeft, is.Regions = time.Time{}, 0, nil
	for _, r := range g.Regions {
		if r.AnsweredAt = (time.Time{}); r != (RegionState{Region: r.Region}) {
			is.Regions = append(is.Regions, r)
		}
	}
	return string(encode(t, is))
}
