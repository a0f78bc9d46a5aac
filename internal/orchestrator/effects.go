package orchestrator

import (
	"slices"

	"changeover/internal/failover"
)

// maxAgents is how many agents one transaction changes at most. It bounds how long the first desktops of a large shift
// wait for the last ones' rows.
const maxAgents = 2000

// maxSteps is how many observations share a commit at most.
const maxSteps = 100

// pending gathers the effects of several Steps for one commit. The pointers in it are into the State, so all of them
// are committed as the last Step left them.
type pending struct {
	eff   failover.Effects
	steps int

	// Where an id is in eff; made when a second Step has effects.
	agents, failovers map[string]int
	removed           map[string]bool
}

func (p *pending) empty() bool {
	e := &p.eff
	return len(e.Agents)+len(e.RemovedAgents)+len(e.Failovers)+len(e.TDGs)+len(e.Groups)+len(e.Changes)+len(e.Events)+len(e.Results) == 0
}

// room says whether another Step's effects may join, or these should be told first: a detection waits for nobody.
func (p *pending) room() bool {
	return len(p.eff.Agents) < maxAgents && p.steps < maxSteps && !p.detected()
}

func (p *pending) detected() bool {
	return slices.ContainsFunc(p.eff.Events, func(e failover.Event) bool { return e.Type == failover.EventFailoverDetected })
}

// add joins the effects of the next Step.
func (p *pending) add(e failover.Effects) {
	p.steps++
	if p.empty() {
		conflicts := p.eff.Conflicts
		p.eff = e
		p.count(conflicts)
		return
	}
	if p.agents == nil {
		p.agents, p.failovers, p.removed = map[string]int{}, map[string]int{}, map[string]bool{}
		for i, a := range p.eff.Agents {
			p.agents[a.ID] = i
		}
		for i, f := range p.eff.Failovers {
			p.failovers[f.ID] = i
		}
		for _, id := range p.eff.RemovedAgents {
			p.removed[id] = true
		}
	}
	for _, id := range e.RemovedAgents {
		if i, ok := p.agents[id]; ok {
			delete(p.agents, id)
			last := len(p.eff.Agents) - 1
			if moved := p.eff.Agents[last]; i != last {
				p.eff.Agents[i], p.agents[moved.ID] = moved, i
			}
			p.eff.Agents = p.eff.Agents[:last]
		}
		if !p.removed[id] {
			p.removed[id] = true
			p.eff.RemovedAgents = append(p.eff.RemovedAgents, id)
		}
	}
	for _, a := range e.Agents {
		if p.removed[a.ID] { // back again
			delete(p.removed, a.ID)
			p.eff.RemovedAgents = slices.DeleteFunc(p.eff.RemovedAgents, func(id string) bool { return id == a.ID })
		}
		if i, ok := p.agents[a.ID]; ok {
			p.eff.Agents[i] = a
			continue
		}
		p.agents[a.ID] = len(p.eff.Agents)
		p.eff.Agents = append(p.eff.Agents, a)
	}
	for _, f := range e.Failovers {
		if i, ok := p.failovers[f.ID]; ok {
			p.eff.Failovers[i] = f
			continue
		}
		p.failovers[f.ID] = len(p.eff.Failovers)
		p.eff.Failovers = append(p.eff.Failovers, f)
	}
	for _, t := range e.TDGs {
		if !slices.Contains(p.eff.TDGs, t) {
			p.eff.TDGs = append(p.eff.TDGs, t)
		}
	}
	for _, g := range e.Groups {
		if !slices.Contains(p.eff.Groups, g) {
			p.eff.Groups = append(p.eff.Groups, g)
		}
	}
	p.eff.Changes = append(p.eff.Changes, e.Changes...)
	p.eff.Events = append(p.eff.Events, e.Events...)
	p.eff.Results = append(p.eff.Results, e.Results...)
	p.count(e.Conflicts)
}

func (p *pending) count(conflicts map[string]int) {
	for group, n := range conflicts {
		if p.eff.Conflicts == nil {
			p.eff.Conflicts = map[string]int{}
		}
		p.eff.Conflicts[group] += n
	}
}

// split divides effects into transactions of at most size agents each. What concerns one agent stays in one of them, in
// its order.
//
// A leader that dies between two of them leaves some agents decided and others not. The rules then find the rest at
// the next start, provided that they see what the first were decided by: so what is known of groups goes with the first
// transaction (else the agents of the first would be taken back), with the answers to commands and how far the lists
// of members have come in the last (else a page would count as read whose members are not stored). listed is how far
// that was before.
func split(e failover.Effects, size int, listed func(tdg string) failover.RosterPass) []failover.Effects {
	if len(e.Agents)+len(e.RemovedAgents) <= size {
		return []failover.Effects{e}
	}
	part := make(map[string]int, len(e.Agents)+len(e.RemovedAgents))
	of := func(id string) int {
		i, ok := part[id]
		if !ok {
			i = len(part) / size
			part[id] = i
		}
		return i
	}
	var parts []failover.Effects
	at := func(id string) *failover.Effects {
		i := of(id)
		for len(parts) <= i {
			parts = append(parts, failover.Effects{})
		}
		return &parts[i]
	}
	for _, a := range e.Agents {
		p := at(a.ID)
		p.Agents = append(p.Agents, a)
	}
	for _, id := range e.RemovedAgents {
		p := at(id)
		p.RemovedAgents = append(p.RemovedAgents, id)
	}
	for _, f := range e.Failovers {
		p := at(f.AgentID)
		p.Failovers = append(p.Failovers, f)
	}
	for _, ev := range e.Events {
		p := at(ev.AgentID)
		p.Events = append(p.Events, ev)
	}
	first, last := &parts[0], &parts[len(parts)-1]
	first.Changes, first.Groups, first.Conflicts = e.Changes, e.Groups, e.Conflicts
	for _, t := range e.TDGs {
		early := *t
		early.Roster = listed(t.ID)
		first.TDGs = append(first.TDGs, &early)
	}
	last.TDGs, last.Results = e.TDGs, e.Results
	return parts
}
