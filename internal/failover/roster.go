package failover

import (
	"slices"
	"strings"
	"time"
)

// tdgsListed takes a complete list of the traffic distribution groups. One that is missing from it is a set-up error,
// not a removal: its members stay what they are until their own lists say otherwise (R2, R17).
func (st *step) tdgsListed(o TDGsListed) {
	g := st.groups[o.Group]
	if g == nil {
		return
	}
	g.ListedAt = o.At
	st.touchGroup(g)
	listed := make(map[string]bool, len(o.TDGs))
	for _, in := range o.TDGs {
		listed[in.ID] = true
		t := st.tdgs[in.ID]
		if t == nil {
			t = &TDG{ID: in.ID, Group: o.Group}
			st.addTDG(t)
		}
		if t.Group != o.Group {
			continue // it belongs to another pair of instances
		}
		t.ARN, t.Name, t.Status, t.IsDefault = in.ARN, in.Name, in.Status, in.IsDefault
		st.touchTDG(t)
		st.repairSetup(&t.Setup, CodeTDGNotFound)
		switch in.Status {
		case "ACTIVE", "UPDATE_IN_PROGRESS":
			st.repairSetup(&t.Setup, CodeTDGNotActive)
		default:
			st.setSetup(&t.Setup, SetupError{
				Code: CodeTDGNotActive, Message: "traffic distribution group " + in.ID + " has status " + in.Status,
			})
		}
		st.announceTDG(t)
	}
	for _, t := range st.tdgsOf[o.Group] {
		if !listed[t.ID] {
			st.setSetup(&t.Setup, SetupError{
				Code: CodeTDGNotFound, Message: "traffic distribution group " + t.ID + " is not among those of the source instance",
			})
			st.touchTDG(t)
		}
	}
	st.repairSetup(&g.Setup, CodeTDGNotFound)
	for _, id := range g.TDGs {
		if bare := id[strings.LastIndexByte(id, '/')+1:]; !listed[bare] {
			st.setSetup(&g.Setup, SetupError{
				Code: CodeTDGNotFound, Message: "the configured traffic distribution group " + id + " is not among those of the source instance",
			})
		}
	}
	st.announceGroup(g)
	if t := st.single(o.Group); t != nil {
		for _, a := range st.byGroup[o.Group] {
			if a.TDG == "" {
				st.join(a, t)
			}
		}
	}
}

// create makes an agent that was not known.
func (st *step) create(g *Group, id string, t *TDG) *Agent {
	a := &Agent{ID: id, Group: g.Name, Username: st.names[aliasKey{g.Name, "", id}], NoTDGSince: st.now}
	delete(st.names, aliasKey{g.Name, "", id})
	st.index(a)
	st.touch(a)
	if t != nil {
		st.join(a, t)
	} else {
		st.decide(a)
	}
	return a
}

// seen returns the agent of an entry of GetCurrentUserData, which makes a user known (R2).
func (st *step) seen(g *Group, region, id string) *Agent {
	if a := st.resolve(g.Name, region, id); a != nil {
		return a
	}
	if id == "" || st.agents[id] != nil {
		return nil // malformed, or an agent of another failover group
	}
	return st.create(g, id, st.single(g.Name))
}

// join makes an agent a member of a traffic distribution group.
func (st *step) join(a *Agent, t *TDG) {
	a.TDG, a.NoTDGSince = t.ID, time.Time{}
	a.PresenceRegion, a.PresenceCount = "", 0
	st.touch(a)
	st.clearError(a, CodeAgentNotInTDG, ownErrors)
	st.decide(a)
}

// leave ends a membership; an open failover has lost its target and is cancelled (R2).
func (st *step) leave(a *Agent) {
	if a.Failover != nil {
		st.cancel(a)
	}
	a.TDG, a.NoTDGSince = "", st.now
	st.touch(a)
	st.decide(a)
}

// remove forgets an agent who is no user any more.
func (st *step) remove(a *Agent) {
	if a.Failover != nil {
		st.cancel(a)
	}
	delete(st.agents, a.ID)
	if k := (nameKey{a.Group, a.Username}); st.byName[k] == a {
		delete(st.byName, k)
	}
	for region, id := range a.Aliases {
		delete(st.byAlias, aliasKey{a.Group, region, id})
	}
	st.byGroup[a.Group] = slices.DeleteFunc(st.byGroup[a.Group], func(x *Agent) bool { return x == a })
	st.eff.Agents = slices.DeleteFunc(st.eff.Agents, func(x *Agent) bool { return x == a })
	st.eff.RemovedAgents = append(st.eff.RemovedAgents, a.ID)
}

// rosterPage takes a page of a group's members. Only a complete pass removes anyone (R2).
func (st *step) rosterPage(o RosterPage) {
	t, g := st.tdgs[o.TDG], st.groups[o.Group]
	if t == nil || g == nil || o.Pass < t.Roster.Pass {
		return
	}
	if o.Pass > t.Roster.Pass {
		t.Roster.Pass, t.Roster.StartedAt = o.Pass, st.now
	}
	t.Roster.NextToken = o.NextToken
	st.touchTDG(t)
	only := st.single(o.Group) != nil // the list of all users removes there, see usersListed
	for _, id := range o.UserIDs {
		a := st.resolve(o.Group, g.source(), id)
		switch {
		case a == nil && st.agents[id] != nil:
			continue // an agent of another failover group
		case a == nil:
			a = st.create(g, id, t)
		case a.TDG != t.ID:
			st.join(a, t)
		}
		if !only && a.SeenPass != o.Pass {
			a.SeenPass = o.Pass
			st.touch(a)
		}
	}
	if !o.Last {
		return
	}
	t.Roster.CompletedAt, t.Roster.NextToken = st.now, ""
	if only {
		return
	}
	complete := st.now // the oldest complete pass of the failover group's lists
	for _, other := range st.tdgsOf[o.Group] {
		if other.Roster.CompletedAt.Before(complete) {
			complete = other.Roster.CompletedAt
		}
	}
	for _, a := range st.byGroup[o.Group] {
		if a.TDG == t.ID && a.SeenPass != o.Pass {
			st.leave(a)
		}
		if a.TDG == "" && a.NoTDGSince.Before(complete) && (a.Streaming || a.wasSeen()) {
			st.setError(a, SetupError{
				Code: CodeAgentNotInTDG, Own: true, Message: "agent " + a.ID + " is associated with no traffic distribution group",
			})
		}
	}
}

func (a *Agent) wasSeen() bool {
	return slices.ContainsFunc(a.Lists, func(l ContactList) bool { return !l.SeenAt.IsZero() })
}

// usersListed takes a page of ListUsers: names, and ids that differ between the Regions of an old replica, which the
// username joins (R2).
func (st *step) usersListed(o UsersListed) {
	g := st.groups[o.Group]
	if g == nil || !g.has(o.Region) {
		return
	}
	if o.Region != g.source() {
		for _, u := range o.Users {
			st.nameInReplica(g, o.Region, u)
		}
		return
	}
	t := st.single(o.Group)
	for _, u := range o.Users {
		if u.ID == "" {
			continue
		}
		a := st.agents[u.ID]
		switch {
		case a != nil && a.Group != o.Group:
			continue
		case a == nil && t == nil:
			st.names[aliasKey{o.Group, "", u.ID}] = u.Username // until a list of members names the id
			continue
		case a == nil:
			a = st.create(g, u.ID, t)
		}
		st.name(a, u.Username)
		if t != nil && a.SeenPass != o.StartedAt.UnixMicro() {
			a.SeenPass = o.StartedAt.UnixMicro()
			st.touch(a)
		}
	}
	if !o.Last || t == nil {
		return
	}
	for _, a := range slices.Clone(st.byGroup[o.Group]) {
		seen := slices.ContainsFunc(a.Lists, func(l ContactList) bool { return l.Present && !l.SeenAt.Before(o.StartedAt) })
		if a.SeenPass < o.StartedAt.UnixMicro() && !seen {
			st.remove(a)
		}
	}
}

// name gives an agent of the source Region its username. Whoever bears the name with another id is the same person
// as seen in the replica: that record is dropped and its id kept as an alias.
func (st *step) name(a *Agent, username string) {
	k := nameKey{a.Group, username}
	if other := st.byName[k]; other != nil && other != a {
		st.remove(other)
		st.alias(a, st.groups[a.Group].other(st.groups[a.Group].source()), other.ID)
	}
	if a.Username != username && username != "" {
		if st.byName[nameKey{a.Group, a.Username}] == a {
			delete(st.byName, nameKey{a.Group, a.Username})
		}
		a.Username = username
		st.touch(a)
	}
	if username != "" {
		st.byName[k] = a
	}
}

// nameInReplica takes a user of the Region that is not the source.
func (st *step) nameInReplica(g *Group, region string, u User) {
	a, byID := st.byName[nameKey{g.Name, u.Username}], st.agents[u.ID]
	switch {
	case u.ID == "" || u.Username == "":
	case a == nil && byID != nil && byID.Group == g.Name:
		st.name(byID, u.Username)
	case a != nil && a.ID != u.ID && a.Aliases[region] != u.ID:
		if byID != nil && byID.Group == g.Name && byID.Username == "" {
			st.remove(byID) // seen in the replica before its name was known
		}
		if st.agents[u.ID] == nil {
			st.alias(a, region, u.ID)
		}
	}
}

func (st *step) alias(a *Agent, region, id string) {
	if a.Aliases == nil {
		a.Aliases = make(map[string]string, 1)
	}
	delete(st.byAlias, aliasKey{a.Group, region, a.Aliases[region]})
	a.Aliases[region] = id
	st.byAlias[aliasKey{a.Group, region, id}] = a
	st.touch(a)
}
