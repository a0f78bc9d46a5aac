package orchestrator

import (
	"slices"

	"changeover/internal/failover"
)

// The bounds of a commit.
const (
	// maxAgents is how many agents one transaction changes at most. It bounds how long the first desktops of a large shift
	// wait for the last ones' rows. Larger ones cost less for each agent; see docs/performance.md.
	maxAgents = 1000
	// maxSteps is how many observations are decided on while a commit is under way.
	maxSteps = 100
)

// queue is what has been decided and is not being committed yet: the agents in the order in which they were touched, each with
// everything of theirs. An agent who is touched again keeps the place; what is committed is then as the last Step left it, so a
// completion that comes while its detection waits costs no second row. The pointers in it are into the State.
//
// A leader that dies between two transactions leaves some agents decided and others not. The rules then find the rest at
// the next start, provided that they see what the first were decided by: so what is known of groups goes with the next
// transaction (else its agents would be taken back), with the answers to commands and how far the lists of members have
// come behind all agents that they concern (else a page would count as read whose members are not stored).
type queue struct {
	agents map[string]*entry
	order  []*entry
	next   int64 // number of the next entry
	hurry  bool  // there is a detection, which waits for nobody
	events int   // ever added

	groups    []*failover.Group
	tdgs      []*failover.TDG
	drills    []*failover.Drill
	changes   []failover.Change
	conflicts map[string]int

	behind  []answer                       // in order
	rosters map[*failover.TDG]int64        // whose lists of members wait until all entries before this one have been taken
	listed  map[string]failover.RosterPass // as committed, by traffic distribution group

	causes []cause // of what is in the queue; first one that tells events, if any does
}

// entry is everything of one agent.
type entry struct {
	id        string
	number    int64           // in order
	agent     *failover.Agent // nil: no change of the agent itself
	removed   bool
	failovers []*failover.Failover
	created   []*failover.Failover // those of failovers that are in no transaction before
	events    []*failover.Event
	room      struct { // what nearly all need of the three
		failovers, created [1]*failover.Failover
		events             [2]*failover.Event
	}
}

// answer is what follows a Step's effects: the results of commands, and what is to be done once they are committed.
type answer struct {
	after     int64 // all entries before this one have to be taken
	results   []failover.Result
	committed func()
}

// part is what one transaction commits.
type part struct {
	failover.Effects
	agents    []string // whose rows it locks
	committed []func()
	causes    []cause
}

// shared says whether the part writes rows that are no agent's.
func (p *part) shared() bool { return len(p.Groups)+len(p.TDGs)+len(p.Drills) > 0 }

// nothing says that the part writes no rows at all.
func (p *part) nothing() bool {
	return len(p.agents)+len(p.Groups)+len(p.TDGs)+len(p.Drills)+len(p.Changes)+len(p.Results)+len(p.Conflicts) == 0
}

// done does what was to be done after the commit.
func (p *part) done() {
	for _, f := range p.committed {
		f()
	}
}

func newQueue() *queue {
	return &queue{agents: map[string]*entry{}, rosters: map[*failover.TDG]int64{}, listed: map[string]failover.RosterPass{}}
}

// empty says that nothing has to be committed.
func (q *queue) empty() bool {
	return len(q.order)+len(q.groups)+len(q.tdgs)+len(q.drills)+len(q.changes)+len(q.conflicts)+len(q.behind) == 0
}

// shared says whether the next part may write rows that are no agent's.
func (q *queue) shared() bool { return len(q.groups)+len(q.tdgs)+len(q.drills)+len(q.rosters) > 0 }

// weight grows with everything that a Step adds to be written.
func (q *queue) weight() int {
	n := len(q.groups) + len(q.tdgs) + len(q.drills) + len(q.changes) + q.events
	return n + int(q.next)
}

// of is the entry of an agent, made behind all others when there is none.
func (q *queue) of(id string) *entry {
	e := q.agents[id]
	if e == nil {
		e = &entry{id: id, number: q.next}
		e.failovers, e.created, e.events = e.room.failovers[:0], e.room.created[:0], e.room.events[:0]
		q.next++
		q.agents[id] = e
		q.order = append(q.order, e)
	}
	return e
}

// add takes the effects of a Step.
func (q *queue) add(e failover.Effects) {
	if len(q.agents) == 0 && len(e.Agents) > 0 {
		q.agents, q.order = make(map[string]*entry, len(e.Agents)), slices.Grow(q.order, len(e.Agents))
	}
	for _, id := range e.RemovedAgents {
		en := q.of(id)
		en.agent, en.removed = nil, true
	}
	for _, a := range e.Agents {
		en := q.of(a.ID)
		en.agent, en.removed = a, false
	}
	for _, f := range e.Failovers {
		if en := q.of(f.AgentID); !slices.Contains(en.failovers, f) {
			en.failovers = append(en.failovers, f)
		}
	}
	for _, f := range e.Created {
		en := q.of(f.AgentID)
		en.created = append(en.created, f)
	}
	for _, ev := range e.Events {
		en := q.of(ev.AgentID)
		en.events = append(en.events, ev)
		q.events++
		q.hurry = q.hurry || ev.Type == failover.EventFailoverDetected
	}
	for _, t := range e.TDGs {
		if !slices.Contains(q.tdgs, t) {
			q.tdgs = append(q.tdgs, t)
		}
		q.rosters[t] = q.next
	}
	for _, g := range e.Groups {
		if !slices.Contains(q.groups, g) {
			q.groups = append(q.groups, g)
		}
	}
	for _, d := range e.Drills {
		if !slices.Contains(q.drills, d) {
			q.drills = append(q.drills, d)
		}
	}
	q.changes = append(q.changes, e.Changes...)
	for group, n := range e.Conflicts {
		if q.conflicts == nil {
			q.conflicts = map[string]int{}
		}
		q.conflicts[group] += n
	}
	if len(e.Results) > 0 {
		q.behind = append(q.behind, answer{after: q.next, results: e.Results})
	}
}

// then has f called once everything that was added so far is committed.
func (q *queue) then(f func()) {
	q.behind = append(q.behind, answer{after: q.next, committed: f})
}

// take is the next transaction: the first agents who are not busy, at most size. Nil: there is nothing, or all are busy.
func (q *queue) take(size int, busy map[string]bool) *part {
	most, failovers, created, events := min(size, len(q.order)), 0, 0, 0
	for _, en := range q.order[:most] { // nearly always those that are taken
		failovers, created, events = failovers+len(en.failovers), created+len(en.created), events+len(en.events)
	}
	p := &part{agents: make([]string, 0, most)}
	p.Agents, p.Events = make([]*failover.Agent, 0, most), make([]*failover.Event, 0, events)
	p.Failovers, p.Created = make([]*failover.Failover, 0, failovers), make([]*failover.Failover, 0, created)
	var kept []*entry
	n := 0
	for i, en := range q.order {
		if n == size {
			if len(kept) == 0 {
				kept = q.order[i:]
			} else {
				kept = append(kept, q.order[i:]...)
			}
			break
		}
		if busy[en.id] {
			kept = append(kept, en)
			continue
		}
		n++
		p.agents = append(p.agents, en.id)
		if en.agent != nil {
			p.Agents = append(p.Agents, en.agent)
		}
		if en.removed {
			p.RemovedAgents = append(p.RemovedAgents, en.id)
		}
		p.Failovers, p.Created = append(p.Failovers, en.failovers...), append(p.Created, en.created...)
		p.Events = append(p.Events, en.events...)
		delete(q.agents, en.id)
	}
	if n == 0 && (len(q.order) > 0 || q.empty()) {
		return nil
	}
	q.order = kept
	q.hurry = false
	if p.causes = q.causes; len(q.order) == 0 {
		q.causes = nil
	}
	p.Groups, p.Drills, p.Changes, p.Conflicts = q.groups, q.drills, q.changes, q.conflicts
	q.groups, q.drills, q.changes, q.conflicts = nil, nil, nil, nil
	q.takeTDGs(p)
	for len(q.behind) > 0 && q.passed(q.behind[0].after) {
		p.Results = append(p.Results, q.behind[0].results...)
		if f := q.behind[0].committed; f != nil {
			p.committed = append(p.committed, f)
		}
		q.behind = q.behind[1:]
	}
	return p
}

// passed says whether all entries before a number have been taken.
func (q *queue) passed(number int64) bool { return len(q.order) == 0 || q.order[0].number >= number }

// takeTDGs adds what is known of traffic distribution groups; how far their lists of members have come only if all that these
// named are in this part or were before.
func (q *queue) takeTDGs(p *part) {
	for _, t := range q.tdgs {
		if !q.passed(q.rosters[t]) {
			early := *t
			early.Roster = q.listed[t.ID]
			p.TDGs = append(p.TDGs, &early)
		}
	}
	q.tdgs = nil
	for t, after := range q.rosters {
		if q.passed(after) {
			q.listed[t.ID] = t.Roster
			p.TDGs = append(p.TDGs, t)
			delete(q.rosters, t)
		}
	}
}
