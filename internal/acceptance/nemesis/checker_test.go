package nemesis

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// slack is how much later than it was there a process may take notice of an answer: the machine may be busy with something else.
const slack = time.Second

// check holds a record against the rules, and returns everything that is wrong. What has to hold is said in terms of what Amazon
// Connect answered: nobody can know of a call that no answer has shown yet.
//
//   - The log counts without gaps, and no event of an old term comes after the first one of a new term (R19).
//   - For each agent: the baseline first; then for each failover detected, pending, updates, one end; each event in time, from and to
//     the Regions where the agent is (R3, R4, R7, R8, R10, R18). At rest no failover is open.
//   - A failover is detected only when some Region's answer gives everything to the new Region, or in a split by a report or by
//     presence (R1, R4, R13, R14), and cancelled only in the same way (R10).
//   - It is completed by inference only when an answer of the old Region that began after the detection covers the agent and shows no
//     voice or chat contact (R6), when no later answer to that leader has shown one (R7, R8), and never while one contact
//     was open on the floor from before the detection until after the completion.
//   - It is completed by R9 only when the old Region had not answered that leader for regionDownAfter, counted from the detection and from
//     the leader's beginning, too, and when what was answered last about the agent showed no contact.
//   - It is completed by force only when somebody asked for that, which the audit knows. The audit's chain is sound.
//   - While completions are paused nothing is completed but by force, and what waited is read again (R8).
//   - Contacts that are told are the agent's own, of the old Region, and such as hold (R5).
//   - Every client heard exactly what is in its log, from the first cursor on, with each connection going on where the last one ended;
//     nothing of anybody else; a reset only for a cursor that is no good; snapshots that say what the log says at their place.
//   - Whoever was removed has no open failover and is in REST no more; after that nothing is told about them (R2).
//   - In the end everybody is where Amazon Connect wants them, in the log, in REST and on the floor.
func check(r *record) []string {
	c := &checker{r: r, people: map[string]*person{}, gone: map[string]*leaver{}, stories: map[string]*story{}}
	for i := range r.floor {
		c.people[r.floor[i].id] = &r.floor[i]
	}
	for i := range r.gone {
		l := &r.gone[i]
		c.people[l.id], c.gone[l.id] = &l.person, l
	}
	slices.SortFunc(r.reads, func(a, b read) int { return a.begun.Compare(b.begun) })
	slices.SortFunc(r.targets, func(a, b distribution) int { return a.end.Compare(b.end) })
	c.sequence()
	c.tell()
	c.ends()
	c.begins()
	for i := range r.clients {
		c.client(&r.clients[i])
	}
	c.commands()
	c.rest()
	for _, b := range r.broken {
		c.wrong("process", "%s", b)
	}
	return c.faults
}

type checker struct {
	r       *record
	people  map[string]*person
	gone    map[string]*leaver
	stories map[string]*story // by agent
	seen    map[string][]*read
	faults  []string
}

func (c *checker) wrong(rule, format string, args ...any) {
	c.faults = append(c.faults, rule+": "+fmt.Sprintf(format, args...))
}

// view is what somebody knows who has heard everything up to an event.
type view struct {
	seq                           int64
	region, state, next, failover string
	contacts                      []string
	errors                        map[string]string
}

// story is an agent's log.
type story struct {
	events    []*logged
	views     []view // after each event
	failovers map[string]*told
}

// told is a failover as the log tells it.
type told struct {
	id, agent, from, to                    string
	detected, ended                        *logged
	end                                    eventData
	completed, pending, stalled, cancelled bool
	paused                                 bool
	resumed                                time.Time // the last time; zero: never paused
}

// sequence looks at the log as a whole.
func (c *checker) sequence() {
	var before logged
	for _, e := range c.r.log {
		if e.seq != before.seq+1 {
			c.wrong("log", "event %d follows %d", e.seq, before.seq)
		}
		if e.epoch < before.epoch {
			c.wrong("R19", "event %d is of term %d, that before it of the later term %d", e.seq, e.epoch, before.epoch)
		}
		before = e
	}
}

// tell follows every agent's log as a desktop does.
func (c *checker) tell() {
	for i := range c.r.log {
		e := &c.r.log[i]
		s := c.stories[e.agent]
		if s == nil {
			s = &story{failovers: map[string]*told{}}
			c.stories[e.agent] = s
		}
		d, err := parse(e.data)
		if err != nil || d.AgentID != e.agent || d.FailoverID != e.failover {
			c.wrong("log", "event %d of agent %s has data %s (%v)", e.seq, e.agent, e.data, err)
		}
		now := view{state: "unknown"}
		if n := len(s.views); n > 0 {
			now = s.views[n-1]
			if e.at.Before(s.events[n-1].at) {
				c.wrong("R18", "%s of agent %s, event %d, is of %s, that before it of %s", e.event, e.agent, e.seq, e.at, s.events[n-1].at)
			}
		}
		now.seq = e.seq
		if l := c.gone[e.agent]; l != nil && e.at.After(l.noted) {
			c.wrong("R2", "%s, event %d, of agent %s, who was removed %s and forgotten %s", e.event, e.seq, e.agent, l.at.Format(clock), l.noted.Format(clock))
		} else if l != nil && e.event == "snapshot" && e.at.After(l.at) && now.failover == "" {
			now = view{state: "unknown", seq: e.seq} // an answer from before the removal showed them once more
		}
		c.next(s, e, &d, &now)
		s.events, s.views = append(s.events, e), append(s.views, now)
	}
}

// next is what is known after an event, and what about it cannot be.
func (c *checker) next(s *story, e *logged, d *eventData, v *view) {
	bad := func(rule, format string, args ...any) {
		c.wrong(rule, "%s of agent %s, event %d, failover %s: %s", e.event, e.agent, e.seq, e.failover, fmt.Sprintf(format, args...))
	}
	f := s.failovers[e.failover]
	mine := func() bool {
		if f == nil || v.failover != e.failover {
			bad("R18", "open is %q", v.failover)
			return false
		}
		return true
	}
	switch e.event {
	case "snapshot":
		if v.region != "" && d.ActiveRegion != v.region || e.failover != v.failover {
			bad("R3", "from %s, failover %q, to %s without a failover", v.region, v.failover, d.ActiveRegion)
		}
		v.region, v.state = d.ActiveRegion, d.State
		v.errors = map[string]string{}
		for _, x := range d.ConfigureErrors {
			v.errors[x.Code] = x.Message
		}
	case "failoverDetected":
		switch {
		case v.failover != "":
			bad("R18", "while %s is open", v.failover)
		case f != nil:
			bad("R4", "it was detected before, by event %d", f.detected.seq)
		case v.region == "":
			bad("R3", "there was no baseline")
		case d.NextActiveRegion == v.region || !slices.Contains(c.r.regions[:], d.NextActiveRegion):
			bad("R4", "from %q to %q", v.region, d.NextActiveRegion)
		}
		s.failovers[e.failover] = &told{id: e.failover, agent: e.agent, from: v.region, to: d.NextActiveRegion, detected: e}
		v.state, v.next, v.failover, v.contacts = "detected", d.NextActiveRegion, e.failover, nil
	case "failoverPending", "failoverPendingUpdated":
		if !mine() {
			return
		}
		first := e.event == "failoverPending"
		switch {
		case first == f.pending:
			bad("R7", "told before: %t", f.pending)
		case first && len(d.ContactIDs) == 0:
			bad("R7", "without a contact")
		case !first && slices.Equal(d.ContactIDs, v.contacts):
			bad("R7", "nothing has changed")
		case d.NextActiveRegion != f.to:
			bad("R7", "to %s instead of %s", d.NextActiveRegion, f.to)
		}
		c.own(e, f, d.ContactIDs)
		f.pending = true
		v.state, v.contacts = "pending", d.ContactIDs
	case "failoverCompleted":
		if !mine() {
			return
		}
		if d.ActiveRegion != f.to || d.PreviousRegion != f.from || d.ActiveCCPURL != c.r.ccpURLs[f.to] {
			bad("R8", "from %s to %s (%s) instead of from %s to %s", d.PreviousRegion, d.ActiveRegion, d.ActiveCCPURL, f.from, f.to)
		}
		if d.Forced != (d.Evidence == "forced") {
			bad("R11", "forced is %t, the evidence %s", d.Forced, d.Evidence)
		}
		if f.paused && !d.Forced {
			bad("R8", "while it is paused")
		}
		f.ended, f.end, f.completed = e, *d, true
		v.region, v.state, v.next, v.failover, v.contacts = f.to, "active", "", "", nil
	case "failoverCancelled":
		if !mine() {
			return
		}
		if d.ActiveRegion != f.from || d.CancelledRegion != f.to {
			bad("R10", "in %s, not to %s, instead of in %s, not to %s", d.ActiveRegion, d.CancelledRegion, f.from, f.to)
		}
		f.ended, f.end, f.cancelled = e, *d, true
		v.state, v.next, v.failover, v.contacts = "active", "", "", nil
	case "failoverPaused":
		if !mine() {
			return
		}
		if d.NextActiveRegion != f.to || d.Reason == "" {
			bad("R8", "to %s instead of %s, because of %q", d.NextActiveRegion, f.to, d.Reason)
		}
		f.paused = true
	case "failoverResumed":
		if !mine() {
			return
		}
		if !f.paused {
			bad("R8", "it was not paused")
		}
		f.paused, f.resumed = false, e.at
	case "failoverStalled":
		switch {
		case f == nil || !f.completed || f.stalled:
			bad("R12", "it is not a completed one that has not been told before")
		case e.at.Before(f.ended.at.Add(c.r.confirmWithin)):
			bad("R12", "%s after the completion", e.at.Sub(f.ended.at))
		case v.failover != "":
			bad("R12", "while %s is open", v.failover)
		}
		if f != nil {
			f.stalled = true
		}
	case "configureError":
		if m, told := v.errors[d.Code]; told && m == d.Message {
			bad("R17", "%s was told before", d.Code)
		}
		v.errors = maps.Clone(v.errors)
		if v.errors == nil {
			v.errors = map[string]string{}
		}
		v.errors[d.Code] = d.Message
	case "configureErrorCleared":
		if _, told := v.errors[d.Code]; !told {
			bad("R17", "%s was not told", d.Code)
		}
		v.errors = maps.Clone(v.errors)
		delete(v.errors, d.Code)
	default:
		bad("log", "no event has this name")
	}
}

// own looks at the contacts that hold a failover (R5).
func (c *checker) own(e *logged, f *told, ids []string) {
	for _, id := range ids {
		i := slices.IndexFunc(c.r.contacts, func(x contact) bool { return x.id == id })
		if i < 0 {
			c.wrong("R5", "%s of agent %s, event %d: nobody ever had contact %s", e.event, e.agent, e.seq, id)
			continue
		}
		x := &c.r.contacts[i]
		if x.agent != e.agent || x.channel == "TASK" || x.channel == "EMAIL" || x.since.Sub(e.at) > slack ||
			x.region != f.from && !c.r.global && !c.reported(e.agent, id) {
			c.wrong("R5", "%s of agent %s, event %d: contact %s is a %s of agent %s in %s since %s", e.event, e.agent, e.seq, id, x.channel, x.agent, x.region, x.since)
		}
	}
}

func (c *checker) reported(agent, contact string) bool {
	return slices.ContainsFunc(c.r.reports, func(r report) bool { return r.agent == agent && slices.Contains(r.contacts, contact) })
}

// ends looks at what completions rest on.
func (c *checker) ends() {
	c.seen = map[string][]*read{}
	for i := range c.r.reads {
		c.seen[c.r.reads[i].region] = append(c.seen[c.r.reads[i].region], &c.r.reads[i])
	}
	for _, agent := range slices.Sorted(maps.Keys(c.stories)) {
		s := c.stories[agent]
		for _, id := range slices.Sorted(maps.Keys(s.failovers)) {
			f := s.failovers[id]
			switch {
			case f.ended == nil:
				c.wrong("R18", "failover %s of agent %s, detected by event %d, has no end", id, agent, f.detected.seq)
			case f.completed && f.detected.at.After(c.r.since):
				c.completed(f)
			}
		}
	}
}

func (c *checker) completed(f *told) {
	bad := func(rule, format string, args ...any) {
		c.wrong(rule, "failover %s of agent %s from %s, detected %s, completed (%s) %s by event %d: %s", f.id, f.agent, f.from,
			f.detected.at.Format(clock), f.end.Evidence, f.ended.at.Format(clock), f.ended.seq, fmt.Sprintf(format, args...))
	}
	p := c.people[f.agent]
	if p == nil {
		bad("R2", "nobody has that id")
		return
	}
	for _, x := range c.r.pauses {
		if f.end.Evidence != "forced" && f.ended.at.After(x.from) && f.ended.at.Before(x.until) {
			bad("R8", "completions are held from %s until %s", x.from.Format(clock), x.until.Format(clock))
		}
	}
	leader, since := c.leader(f.ended.epoch)
	switch f.end.Evidence {
	case "inferred":
		if x := c.open(f, f.detected.at); x != nil {
			bad("R8", "contact %s, a %s, was open all the time, from %s on", x.id, x.channel, x.since.Format(clock))
		}
		c.fresh(f, p, leader, since, bad)
	case "desktop":
		// The desktop's word counts for what it showed when it looked.
		looked := f.detected.at
		for _, r := range c.r.reports {
			if r.agent == f.agent && r.sent.Before(f.ended.at) && r.looked.Before(looked) && f.detected.at.Sub(r.looked) < 2*time.Minute {
				looked = r.looked
			}
		}
		if x := c.open(f, looked); x != nil {
			bad("R8", "contact %s, a %s, was open all the time, from %s on", x.id, x.channel, x.since.Format(clock))
		}
		if !slices.ContainsFunc(c.r.reports, func(r report) bool { return r.agent == f.agent && r.looked.Before(f.ended.at) }) {
			bad("R8", "no desktop of that agent ever reported")
		}
	case "lastKnown":
		c.lastKnown(f, p, leader, since, bad)
	case "forced":
		if !slices.ContainsFunc(c.r.forces, func(o force) bool {
			return (o.failover == f.id || o.failover == "") && o.sent.Before(f.ended.at.Add(slack))
		}) {
			bad("R11", "nobody asked for it")
		}
	default:
		bad("R8", "there is no such evidence")
	}
}

const clock = "15:04:05.000"

// leader is the replica that led in a term, and from when on it decided.
func (c *checker) leader(epoch int64) (replica int, from time.Time) {
	for _, r := range c.r.reigns {
		if r.epoch == epoch {
			return r.replica, r.from
		}
	}
	c.wrong("R19", "nobody said that it led in term %d", epoch)
	return -1, time.Time{}
}

// open is a contact that held the agent from before a time until after the completion.
func (c *checker) open(f *told, from time.Time) *contact {
	for i := range c.r.contacts {
		if x := &c.r.contacts[i]; x.agent == f.agent && x.blocks(f.from) && x.throughout(from, f.ended.at) {
			return x
		}
	}
	return nil
}

// fresh looks for the answer that an inference rests on (R6), and for one that contradicts it.
func (c *checker) fresh(f *told, p *person, leader int, since time.Time, bad func(rule, format string, args ...any)) {
	var none, some *read // the last ones to begin
	for _, a := range c.seen[f.from] {
		if a.end.After(f.ended.at) {
			continue
		}
		if id := c.holding(a, f); id == "" {
			if a.covers(p) || a.shown[f.agent] != nil {
				none = a
			}
		} else if a.replica == leader && a.begun.After(since) && f.ended.at.Sub(a.end) > slack && !c.asleep(leader, a.begun, f.ended.at) {
			some = a
		}
	}
	switch {
	case none != nil && none.begun.Before(f.resumed.Add(-slack)):
		bad("R8", "after the pause, which ended %s, it was not read again", f.resumed.Format(clock))
	case none == nil || none.begun.Before(f.detected.at):
		bad("R6", "no answer that began after the detection shows that there was no contact")
	case some != nil && some.begun.Sub(none.begun) > slack:
		bad("R8", "the answer of %s to %d shows contact %s, none after it shows that it is gone", some.begun.Format(clock), leader, c.holding(some, f))
	}
}

// holding is the first contact that an answer shows of an agent and that holds the failover. With global routing that is one of the old
// Region alone, which a look-up tells (R20).
func (c *checker) holding(a *read, f *told) string {
	for _, x := range a.shown[f.agent] {
		elsewhere := c.r.global && slices.ContainsFunc(c.r.contacts, func(k contact) bool { return k.id == x.id && k.region == f.to })
		if x.channel != "TASK" && x.channel != "EMAIL" && !elsewhere {
			return x.id
		}
	}
	return ""
}

// asleep says whether a replica was frozen in that time, so that it may not have looked at an answer that it had.
func (c *checker) asleep(replica int, from, to time.Time) bool {
	return slices.ContainsFunc(c.r.frozen, func(s span) bool { return s.replica == replica && s.overlaps(from, to) })
}

// lastKnown looks whether the Region was silent, and at what it showed last (R9).
func (c *checker) lastKnown(f *told, p *person, leader int, since time.Time, bad func(rule, format string, args ...any)) {
	var last *read // that says something about the agent
	for _, a := range c.seen[f.from] {
		if a.end.After(f.ended.at) {
			continue
		}
		if a.covers(p) || a.shown[f.agent] != nil {
			last = a
		}
		if a.replica == leader && a.begun.After(since) && f.ended.at.Sub(a.end) > slack &&
			f.ended.at.Sub(a.end) < c.r.regionDownAfter && !c.asleep(leader, a.begun, f.ended.at) {
			bad("R9", "the Region answered at %s", a.end.Format(clock))
			return
		}
	}
	if f.ended.at.Sub(f.detected.at) < c.r.regionDownAfter {
		bad("R9", "%s after the detection", f.ended.at.Sub(f.detected.at))
	}
	// The epoch is the time at which the leader got the lease: if it got it so early, nobody before it could have concluded that either.
	if began := time.UnixMilli(f.ended.epoch); began.Sub(f.detected.at) < c.r.regionDownAfter && f.ended.at.Sub(began) < c.r.regionDownAfter {
		bad("R9", "%s after the leader began", f.ended.at.Sub(began))
	}
	if last == nil {
		bad("R9", "the Region never showed the agent's list")
	} else if id := c.holding(last, f); id != "" && !c.r.unseen(f, last) {
		bad("R9", "the answer of %s, the last about the agent, shows contact %s", last.begun.Format(clock), id)
	}
}

// unseen says whether the answer may have been lost with its leader.
func (r *record) unseen(f *told, a *read) bool {
	return f.ended.at.Sub(a.end) < slack || slices.ContainsFunc(r.reigns, func(n reign) bool { return n.epoch <= f.ended.epoch && n.from.After(a.begun) })
}

// begins looks at what detections and cancellations rest on.
func (c *checker) begins() {
	causes := map[string]string{}
	for _, f := range c.r.failovers {
		causes[f.id] = f.cause
	}
	for _, s := range c.stories {
		for _, f := range s.failovers {
			if f.detected.at.Before(c.r.since) {
				continue
			}
			c.wanted("R4", f, f.detected, f.to, causes[f.id])
			if f.cancelled {
				c.wanted("R10", f, f.ended, f.from, causes[f.id])
			}
		}
	}
}

// wanted looks whether at an event some Region's answer was that the agent has to be in a Region.
func (c *checker) wanted(rule string, f *told, e *logged, region, cause string) {
	p := c.people[f.agent]
	if p == nil {
		return // told already
	}
	if l := c.gone[f.agent]; l != nil && rule == "R10" && e.at.After(l.at) {
		return // there is no target (R2)
	}
	// What a Region answers stands until its next answer; a leader may have taken notice of that a little later.
	lately := c.lately(e)
	current, split, anybody := map[string]string{}, false, false
	for i := range c.r.targets {
		a := &c.r.targets[i]
		if a.tdg != p.tdg || a.begun.After(e.at) {
			continue
		}
		anybody = true
		if was, answered := current[a.region]; answered && a.end.After(e.at.Add(-lately)) {
			if was == region {
				return
			}
			split = split || was == ""
		}
		current[a.region] = a.target
	}
	for _, target := range current {
		if target == region {
			return
		}
		split = split || target == ""
	}
	// A leader that has just begun knows what those before it were told last, however long nobody decided.
	for _, target := range c.inherited(p.tdg, e, lately) {
		if target == region {
			return
		}
		split = split || target == ""
	}
	if split && (cause == "presence" || cause == "desktop" || rule == "R10" && c.saidThat(f.agent, region, e.at)) {
		return
	}
	first := "none"
	if len(c.r.targets) > 0 {
		first = c.r.targets[0].begun.Format(clock)
	}
	c.wrong(rule, "%s of agent %s, event %d (%s): the Regions' last answers about %q at %s were %v, answered at all: %t; of %d answers the first is of %s",
		e.event, f.agent, e.seq, cause, p.tdg, e.at.Format(clock), current, anybody, len(c.r.targets), first)
}

// lately is for how long before an event its leader may have taken no notice of an answer: a little, and while it was frozen.
func (c *checker) lately(e *logged) time.Duration {
	lately := 3 * time.Second
	replica, _ := c.leader(e.epoch)
	for _, s := range c.r.frozen {
		if s.replica == replica && s.overlaps(e.at.Add(-lately), e.at) {
			lately += min(s.to.Sub(s.from), e.at.Sub(s.from))
		}
	}
	return lately
}

// inherited are the last answers about a group to those who led before, if who decided on an event had led no longer than a while.
func (c *checker) inherited(tdg string, e *logged, lately time.Duration) (targets []string) {
	_, since := c.leader(e.epoch)
	if e.at.Sub(since) > lately {
		return nil
	}
	led := map[int]bool{}
	for _, r := range c.r.reigns {
		led[r.replica] = led[r.replica] || r.epoch < e.epoch
	}
	type question struct {
		replica int
		region  string
	}
	last := map[question]string{}
	for i := range c.r.targets {
		if a := &c.r.targets[i]; led[a.replica] && a.tdg == tdg && a.begun.Before(since) {
			last[question{a.replica, a.region}] = a.target
		}
	}
	return slices.Collect(maps.Values(last))
}

// saidThat says whether the agent's desktop reported, before a time, that it works in a Region or goes there.
func (c *checker) saidThat(agent, region string, before time.Time) bool {
	return slices.ContainsFunc(c.r.reports, func(r report) bool {
		return r.agent == agent && r.sent.Before(before) && (r.region == region || r.next == region)
	})
}

// client follows what a client heard over all its connections.
func (c *checker) client(h *heard) {
	bad := func(n int, format string, args ...any) {
		c.wrong("stream", "%s, connection %d to replica %d: %s", h.name, n, h.connections[n].replica, fmt.Sprintf(format, args...))
	}
	want := c.r.log
	if h.agent != "" {
		want = nil
		if s := c.stories[h.agent]; s != nil {
			for _, e := range s.events {
				want = append(want, *e)
			}
		}
	}
	at := int64(-1) // everything up to here is known; -1: nothing
	for n := range h.connections {
		k := &h.connections[n]
		sent, sentEpoch, ok := c.cursor(k.cursor)
		good := ok && somewhere(sent, sentEpoch)
		switch {
		case n == 0 && h.history:
			at = 0
		case n == 0 && h.from != "" && k.cursor == h.from && good:
			at = sent
		}
		if h.history && k.cursor == "" {
			good = true
		} else if h.history { // its cursor may be behind other agents' events, too
			if sent < at || !good {
				bad(n, "asked from %s on, known is everything up to %d", k.cursor, at)
			}
			c.none(want, at, sent, func(e logged) { bad(n, "asked from %s on, before event %d", k.cursor, e.seq) })
			at = sent
		} else if good && !k.spoiled && sent != at {
			bad(n, "opened with %s, known is everything up to %d", k.cursor, at)
		}
		anew := k.cursor == "" && !h.history // snapshots come
		if anew || k.spoiled || !good {
			at = -1
		}
		snapshots := map[string]bool{}
		for i, x := range k.frames {
			d, err := parse(x.data)
			if err != nil {
				bad(n, "frame %d has data %q", i, x.data)
				return
			}
			if h.agent != "" && d.AgentID != h.agent {
				bad(n, "%s of agent %s: %s", x.event, d.AgentID, x.data)
				return
			}
			seq, epoch, ok := c.cursor(x.id)
			if x.event == "draining" && at < 0 && (x.id == unread || k.spoiled && x.id == k.cursor) {
				continue // nobody has looked at the cursor: it is told back
			}
			if !ok {
				bad(n, "%s has id %q of another log", x.event, x.id)
				return
			}
			switch {
			case x.event == "reset":
				if !k.spoiled && good || i > 0 {
					bad(n, "frame %d is %s, opened with %s", i, x.data, k.cursor)
				}
				anew, at = true, -1
			case x.event == "draining":
				if somewhere(seq, epoch) && at >= 0 { // else it is the cursor that nobody has looked at yet
					if seq < at {
						bad(n, "draining at %s, known is everything up to %d", x.id, at)
					}
					c.none(want, at, seq, func(e logged) { bad(n, "draining at %s, before %s of event %d", x.id, e.event, e.seq) })
					at = seq
				}
			case anew && x.event == "snapshot" && at < 0:
				if !somewhere(seq, epoch) && h.agent != "" {
					bad(n, "the snapshot has the id %s of nowhere", x.id)
				}
				snapshots[d.AgentID] = true
				place := seq
				if !somewhere(seq, epoch) && seq == 1 && d.State == "unknown" {
					place = 0 // before the first event the id of nowhere says 1, too
				}
				// Whoever is gone is known to nobody, to a replica that was started since. A connection may have waited for that one since before.
				if l := c.gone[d.AgentID]; l == nil || d.Time.Before(l.at.Truncate(time.Millisecond)) || d.State != "unknown" {
					c.snapshot(h, n, x, &d, place)
				}
				if somewhere(seq, epoch) {
					if h.agent == "" {
						c.everybody(h, n, snapshots, seq)
					}
					at, anew = seq, false
				}
			default:
				if anew {
					bad(n, "%s before the snapshots are complete: %s", x.event, x.data)
					return
				}
				j := sort.Search(len(want), func(j int) bool { return want[j].seq > at })
				if j == len(want) {
					bad(n, "%s %s after the end of the log: %s", x.id, x.event, x.data)
					return
				}
				if e := want[j]; e.seq != seq || e.epoch != epoch || e.event != x.event || e.data != x.data {
					bad(n, "frame %d is %s %s %s instead of event %d of term %d, %s %s", i, x.id, x.event, x.data, e.seq, e.epoch, e.event, e.data)
					return
				}
				at = seq
			}
		}
	}
	if n := len(h.connections) - 1; n < 0 {
		c.wrong("stream", "%s never was connected", h.name)
	} else if h.left {
		return
	} else if at < 0 {
		bad(n, "not even a snapshot came")
	} else {
		c.none(want, at, 1<<62, func(e logged) { bad(n, "%s, event %d, never came", e.event, e.seq) })
	}
}

// none calls missed with the first event that a client should have heard after one place and up to another.
func (c *checker) none(want []logged, after, upto int64, missed func(logged)) {
	if j := sort.Search(len(want), func(j int) bool { return want[j].seq > after }); after >= 0 && j < len(want) && want[j].seq <= upto {
		missed(want[j])
	}
}

// cursor reads an id: the place and the term.
func (c *checker) cursor(id string) (seq, epoch int64, ok bool) {
	rest, ok := strings.CutPrefix(id, c.r.logID+"-")
	if !ok {
		return 0, 0, false
	}
	e, s, ok := strings.Cut(rest, "-")
	epoch, err1 := strconv.ParseInt(e, 10, 64)
	seq, err2 := strconv.ParseInt(s, 10, 64)
	return seq, epoch, ok && err1 == nil && err2 == nil
}

// unread is the place nowhere of a replica that has not read the log yet.
const unread = "none-0-1"

// somewhere says whether a cursor is a place in the log, or before its first event. That of a frame that does not tell everything is not.
func somewhere(seq, epoch int64) bool { return epoch != 0 || seq == 0 }

// at is what the log says of an agent at a place.
func (c *checker) at(agent string, seq int64) view {
	s := c.stories[agent]
	if s != nil {
		if j := sort.Search(len(s.views), func(j int) bool { return s.views[j].seq > seq }); j > 0 {
			return s.views[j-1]
		}
	}
	return view{state: "unknown"}
}

// snapshot compares one with what the log says at its place.
func (c *checker) snapshot(h *heard, n int, x frame, d *eventData, seq int64) {
	v := c.at(d.AgentID, seq)
	got := view{region: d.ActiveRegion, state: d.State, next: d.NextActiveRegion, failover: d.FailoverID, contacts: d.ContactIDs, errors: map[string]string{}}
	for _, e := range d.ConfigureErrors {
		got.errors[e.Code] = e.Message
	}
	if got.region != v.region || got.state != v.state || got.next != v.next || got.failover != v.failover ||
		!slices.Equal(got.contacts, v.contacts) || !maps.Equal(got.errors, v.errors) || d.ActiveCCPURL != c.r.ccpURLs[v.region] {
		c.wrong("stream", "%s, connection %d to replica %d: snapshot %s %s, but the log says %+v", h.name, n, h.connections[n].replica, x.id, x.data, v)
	}
}

// everybody compares the agents of whom a console got a snapshot with those in the log. Where ids differ between Regions, the log may know somebody by that of
// the replica's, from before the service had listed the users; that one is nobody any more (R2).
func (c *checker) everybody(h *heard, n int, snapshots map[string]bool, seq int64) {
	for agent, s := range c.stories {
		if s.events[0].seq <= seq && !snapshots[agent] && c.people[agent] != nil && c.gone[agent] == nil {
			c.wrong("stream", "%s, connection %d: no snapshot of agent %s", h.name, n, agent)
		}
	}
}

// commands looks at what was asked of the service, and what the audit says of it.
func (c *checker) commands() {
	if c.r.chain != "" {
		c.wrong("audit", "%s", c.r.chain)
	}
	if c.r.waiting != 0 {
		c.wrong("inbox", "%d commands were never answered", c.r.waiting)
	}
	accepted := map[string]int{} // by reason, which is different for each force
	reports := map[string]int{}
	for _, a := range c.r.audit {
		if a.outcome == "accepted" {
			accepted[a.reason]++
			reports[a.target]++
		}
	}
	for _, f := range c.r.forces {
		var kept *answered
		for i := range f.answers {
			a := &f.answers[i]
			if a.status >= 500 || a.status == 0 || a.status == 429 || a.kind == "request-in-progress" {
				continue // not an answer yet
			}
			if a.status != 202 && a.status != 409 {
				c.wrong("R11", "force %s of %s was answered %d %s", f.reason, f.failover, a.status, a.body)
			}
			if kept != nil && (kept.status != a.status || kept.body != a.body) {
				c.wrong("idempotency", "force %s of %s was answered %d %s and then %d %s", f.reason, f.failover, kept.status, kept.body, a.status, a.body)
			}
			kept = a
		}
		if kept != nil && kept.status == 202 && accepted[f.reason] == 0 {
			c.wrong("audit", "force %s of %s was accepted, and the audit does not know", f.reason, f.failover)
		}
		if accepted[f.reason] > 1 {
			c.wrong("idempotency", "force %s of %s was handed to the leader %d times", f.reason, f.failover, accepted[f.reason])
		}
	}
	for _, row := range c.r.failovers {
		if row.forced && accepted[row.reason] == 0 {
			c.wrong("audit", "failover %s was forced for the reason %q, of which the audit knows nothing", row.id, row.reason)
		}
	}
	taken := map[string]int{}
	for _, r := range c.r.reports {
		if r.taken {
			taken["agents/"+r.agent]++
		}
	}
	for target, n := range taken {
		if reports[target] < n {
			c.wrong("audit", "%d reports of %s were taken, the audit knows %d", n, target, reports[target])
		}
	}
}

// rest looks at how everything ended.
func (c *checker) rest() {
	rows := map[string]agentRow{}
	for _, a := range c.r.agents {
		rows[a.id] = a
	}
	for _, p := range c.r.floor {
		s := c.stories[p.id]
		if s == nil {
			c.wrong("R3", "agent %s is not in the log", p.id)
			continue
		}
		v := s.views[len(s.views)-1]
		if v.region != p.target || v.failover != "" || v.state != "active" {
			c.wrong("end", "Amazon Connect wants agent %s in %s, the log has them %s in %s, failover %q", p.id, p.target, v.state, v.region, v.failover)
		}
		if p.region != p.target {
			c.wrong("end", "agent %s works in %s and not in %s", p.id, p.region, p.target)
		}
		if a := rows[p.id]; a.region != v.region || a.state != v.state || a.failover != v.failover {
			c.wrong("end", "agent %s is %s in %s, failover %q, in REST, and %s in %s, failover %q, in the log", p.id, a.state, a.region, a.failover, v.state, v.region, v.failover)
		}
	}
	for id := range c.gone {
		if a, there := rows[id]; there {
			c.wrong("R2", "agent %s, who was removed, is %s in REST", id, a.state)
		}
	}
	if len(rows) != len(c.r.floor) {
		c.wrong("end", "REST has %d agents, the floor %d", len(rows), len(c.r.floor))
	}
	total := 0
	for _, s := range c.stories {
		total += len(s.failovers)
	}
	if len(c.r.failovers) != total {
		c.wrong("end", "REST has %d failovers, the log %d", len(c.r.failovers), total)
	}
	for _, row := range c.r.failovers {
		s := c.stories[row.agent]
		if s == nil || s.failovers[row.id] == nil {
			c.wrong("end", "failover %s of agent %s is not in the log", row.id, row.agent)
			continue
		}
		f := s.failovers[row.id]
		status := map[bool]string{f.completed: "completed", f.cancelled: "cancelled"}[true]
		if row.from != f.from || row.to != f.to || row.status != status || row.forced != f.end.Forced || f.completed && row.evidence != f.end.Evidence {
			c.wrong("end", "failover %s of agent %s is %+v in REST, and %s from %s to %s (%s) in the log", row.id, row.agent, row, status, f.from, f.to, f.end.Evidence)
		}
	}
}
