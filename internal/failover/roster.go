package failover

import (
	"maps"
	"slices"
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
		if !g.wants(in.ID) {
			continue
		}
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
		if !listed[bareID(id)] {
			st.setSetup(&g.Setup, SetupError{
				Code: CodeTDGNotFound, Message: "the configured traffic distribution group " + id + " is not among those of the source instance",
			})
		}
	}
	st.announceGroup(g)
	t := st.single(o.Group)
	if t == nil {
		return
	}
	for _, a := range st.byGroup[o.Group] {
		if a.TDG == "" {
			st.join(a, t)
		}
	}
	// Users who were listed before it was known that all of them are members.
	var ids []string
	for k := range st.names {
		if k.group == o.Group {
			ids = append(ids, k.id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		listed := st.names[aliasKey{o.Group, "", id}].listed
		st.create(g, id, t).SeenPass = listed
	}
}

// create makes an agent that was not known.
func (st *step) create(g *Group, id string, t *TDG) *Agent {
	k := aliasKey{g.Name, "", id}
	a := &Agent{ID: id, Group: g.Name, NoTDGSince: st.now}
	st.eff.RemovedAgents = slices.DeleteFunc(st.eff.RemovedAgents, func(removed string) bool { return removed == id })
	st.index(a)
	st.touch(a)
	st.name(a, st.names[k].value)
	delete(st.names, k)
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

// remove forgets agents of a failover group who are no users any more.
func (st *step) remove(group string, gone func(*Agent) bool) {
	had := len(st.byGroup[group])
	st.byGroup[group] = slices.DeleteFunc(st.byGroup[group], func(a *Agent) bool {
		if !gone(a) {
			return false
		}
		if a.Failover != nil {
			st.cancel(a)
		}
		delete(st.agents, a.ID)
		st.outOfProfile(a)
		if k := (nameKey{a.Group, a.Username}); st.byName[k] == a {
			delete(st.byName, k)
		}
		for region, id := range a.Aliases {
			delete(st.byAlias, aliasKey{a.Group, region, id})
		}
		st.eff.RemovedAgents = append(st.eff.RemovedAgents, a.ID)
		return true
	})
	if len(st.byGroup[group]) != had {
		st.eff.Agents = slices.DeleteFunc(st.eff.Agents, func(a *Agent) bool { return st.agents[a.ID] != a })
	}
}

// rosterPage takes a page of a group's members. Only a complete pass removes anyone (R2).
func (st *step) rosterPage(o RosterPage) {
	t, g := st.tdgs[o.TDG], st.groups[o.Group]
	if t == nil || g == nil || t.Group != o.Group || o.Pass < t.Roster.Pass {
		return
	}
	if o.Pass > t.Roster.Pass {
		t.Roster.Pass, t.Roster.StartedAt, t.Roster.Unnoted = o.Pass, st.now, false
	}
	t.Roster.NextToken = o.NextToken
	st.touchTDG(t)
	only := st.single(o.Group) != nil // the list of all users removes there, see usersListed
	t.Roster.Unnoted = t.Roster.Unnoted || only
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
	t.Roster.CompletedAt, t.Roster.ListedFrom, t.Roster.NextToken = st.now, t.Roster.StartedAt, ""
	if t.Roster.Unnoted {
		return
	}
	listed := st.now // every list of the failover group has been read since
	for _, other := range st.tdgsOf[o.Group] {
		if other.Roster.ListedFrom.Before(listed) {
			listed = other.Roster.ListedFrom
		}
	}
	everyTDG := len(g.TDGs) == 0 // else it may be a member of one that is not configured
	for _, a := range st.byGroup[o.Group] {
		if a.TDG == t.ID && a.SeenPass != o.Pass {
			st.leave(a)
		}
		if everyTDG && a.TDG == "" && a.NoTDGSince.Before(listed) && (a.Streaming || a.wasSeen()) {
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
	pass := o.StartedAt.UnixMicro()
	if o.Region != g.source() {
		for _, u := range o.Users {
			st.nameInReplica(g, o.Region, u, pass)
		}
		if o.Last {
			maps.DeleteFunc(st.replicas, func(k nameKey, m mention) bool { return k.group == o.Group && m.listed < pass })
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
			st.names[aliasKey{o.Group, "", u.ID}] = mention{u.Username, pass} // until a list of members names the id
			continue
		case a == nil:
			a = st.create(g, u.ID, t)
		}
		st.name(a, u.Username)
		// Of the members of one group among several its own list notes who was seen.
		if (t != nil || a.TDG == "") && a.SeenPass != pass {
			a.SeenPass = pass
			st.touch(a)
		}
	}
	if !o.Last {
		return
	}
	maps.DeleteFunc(st.names, func(k aliasKey, m mention) bool { return k.group == o.Group && m.listed < pass })
	st.remove(o.Group, func(a *Agent) bool {
		if t == nil && (a.TDG != "" || !a.NoTDGSince.Before(o.StartedAt)) {
			return false
		}
		seen := slices.ContainsFunc(a.Lists, func(l ContactList) bool { return l.Present && !l.SeenAt.Before(o.StartedAt) })
		return a.SeenPass < pass && !seen
	})
}

// name gives an agent of the source Region its username. Whoever bears the name with an id that the source has never
// listed is the same person as seen in the replica: that record is dropped and its id kept as an alias.
func (st *step) name(a *Agent, username string) {
	if username == "" {
		return
	}
	k := nameKey{a.Group, username}
	if a.Username != username {
		if st.byName[nameKey{a.Group, a.Username}] == a {
			delete(st.byName, nameKey{a.Group, a.Username})
		}
		a.Username = username
		st.touch(a)
	}
	other, m := st.byName[k], st.replicas[k]
	st.byName[k] = a
	delete(st.replicas, k)
	g := st.groups[a.Group]
	replica := g.other(g.source())
	switch {
	case other != nil && other != a && other.SeenPass == 0:
		st.absorb(a, other, replica)
	case other != nil && other != a:
		// A user of the source who bore the name before: a complete pass will tell whether there still is one.
		other.Username = ""
		st.touch(other)
	case m.value != "" && m.value != a.ID && st.agents[m.value] == nil:
		st.alias(a, replica, m.value)
	}
}

// absorb drops a record of the replica that turned out to be an agent of the source, and keeps its id and what was read of it: a
// call in the replica must not get lost between two reads.
func (st *step) absorb(a, other *Agent, region string) {
	g := st.groups[a.Group]
	st.remove(a.Group, func(x *Agent) bool { return x == other })
	st.alias(a, region, other.ID)
	list := a.list(g, region)
	if was := other.list(g, region); was.ReadAt.After(list.ReadAt) {
		*list = *was
	}
	st.decide(a)
}

// nameInReplica takes a user of the Region that is not the source.
func (st *step) nameInReplica(g *Group, region string, u User, pass int64) {
	k := nameKey{g.Name, u.Username}
	a, byID := st.byName[k], st.agents[u.ID]
	switch {
	case u.ID == "" || u.Username == "":
	case a == nil && byID != nil && byID.Group == g.Name:
		if byID.Username == "" { // the source's word for its own ids goes before
			st.name(byID, u.Username)
		}
	case a == nil && byID == nil:
		st.replicas[k] = mention{u.ID, pass} // until the source lists the name
	case a != nil && a.ID != u.ID && a.Aliases[region] != u.ID:
		switch {
		case byID == nil:
			st.alias(a, region, u.ID)
		case byID.Group == g.Name && byID.Username == "":
			st.absorb(a, byID, region) // seen in the replica before its name was known
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
