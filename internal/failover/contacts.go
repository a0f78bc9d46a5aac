package failover

import (
	"slices"
	"strings"
	"time"
)

// blocking says whether a channel's contacts hold a failover (R5). A channel that is not known yet holds too: a hold
// can be forced, a call that was dropped cannot be brought back.
func blocking(channel string) bool { return channel != "TASK" && channel != "EMAIL" }

// holds says whether a contact holds a failover to Region to.
func (c *Contact) holds(to string) bool {
	return c.Blocking && (c.Lookup != LookupTold || c.LookupTo != to) // R20
}

// wantLookup has a contact's Region asked for, once, if it could be that of the target (R20), and says whether that is new.
func (c *Contact) wantLookup(list *ContactList, f *Failover) bool {
	if list.Region != "" || f == nil || c.Lookup != LookupNone || !c.Blocking || c.Began.Before(f.DetectedAt) {
		return false
	}
	c.Lookup = LookupWanted
	return true
}

// userData takes a page of GetCurrentUserData: what it shows is, what it does not show says nothing yet.
func (st *step) userData(o UserData) {
	g := st.groups[o.Group]
	if g == nil || !g.has(o.Region) {
		return
	}
	st.answered(g, o.Region)
	for i := range o.Users {
		u := &o.Users[i]
		a := st.seen(g, o.Region, u.ID)
		if a == nil {
			continue
		}
		if a.RoutingProfile != u.RoutingProfile && u.RoutingProfile != "" {
			if a.RoutingProfile != "" {
				st.left[profileKey{a.Group, a.RoutingProfile}] = o.StartedAt
			}
			st.outOfProfile(a)
			a.RoutingProfile = u.RoutingProfile
			st.intoProfile(a)
			st.touch(a)
		}
		list := a.list(g, o.Region)
		if !o.StartedAt.Before(list.SeenAt) {
			if !list.Present || list.Offline != u.Offline {
				st.touch(a)
			}
			list.Present, list.Offline, list.SeenAt = true, u.Offline, o.StartedAt
		}
		st.confirmByPresence(a, g, o.Region, u.Offline, o.StartedAt)
		st.read(a, g, o.Region, u.Contacts, o.StartedAt, true)
	}
	for _, id := range o.Absent {
		if a := st.resolve(o.Group, o.Region, id); a != nil {
			st.absent(a, g, o.Region, o.StartedAt, true, true)
		}
	}
}

// read takes an agent's contact list that a Region showed. evidence says that it counts for R6.
func (st *step) read(a *Agent, g *Group, region string, contacts []Contact, startedAt time.Time, evidence bool) {
	list := a.list(g, region)
	if startedAt.Before(list.ReadAt) {
		return // overtaken by a later read
	}
	// With global routing the other Region's view can add a contact; only the Region that the agent leaves can say
	// that there is none (R20).
	from := a.ActiveRegion
	addOnly := g.Routing == Global && from != "" && region != from
	changed := st.merge(a, list, contacts, startedAt, addOnly)
	if !addOnly {
		list.ReadAt = startedAt
	}
	if changed || list.ReadAt.Sub(list.savedAt) >= st.set.ContactsMaxAge/2 {
		st.touch(a)
	}
	f := a.Failover
	if f == nil {
		if changed {
			st.surface(a)
		}
		return
	}
	if region == f.From && !startedAt.Before(f.DetectedAt) && evidence {
		// Stored when it is the first: where a later one is not known, a leader that loads it reads again before it completes.
		if f.EvidenceAt.IsZero() {
			st.touchFailover(a, f)
		}
		f.EvidenceAt = startedAt
		st.hold(a, true)
	} else if changed {
		st.hold(a, false)
	}
	st.surface(a)
}

// absent takes the absence of an agent from a complete read. counts says that it is evidence of R6; an unfiltered
// pass by routing profile is none, since an agent who changes profile can slip through it.
func (st *step) absent(a *Agent, g *Group, region string, startedAt time.Time, unfiltered, counts bool) {
	list := a.list(g, region)
	if unfiltered && startedAt.After(list.SeenAt) && list.Present {
		list.Present, list.Offline, list.SeenAt = false, false, startedAt
		st.touch(a)
	}
	if !counts && a.Failover != nil && a.Failover.From == region {
		return
	}
	st.read(a, g, region, nil, startedAt, counts)
}

// merge replaces a list by what Amazon Connect showed. A contact that the agent's desktop still reports stays (R15).
func (st *step) merge(a *Agent, list *ContactList, contacts []Contact, readAt time.Time, addOnly bool) bool {
	if len(contacts) == 0 && len(list.Contacts) == 0 {
		return false
	}
	old := list.Contacts
	now := make([]Contact, 0, max(len(contacts), len(old)))
	changed := false
	for _, c := range contacts {
		if slices.ContainsFunc(now, func(x Contact) bool { return x.ID == c.ID }) {
			continue
		}
		c.Blocking, c.ObservedAt, c.Region = blocking(c.Channel), readAt, list.Region
		c.Desktop, c.ReportedAt, c.StaleSince = false, time.Time{}, time.Time{}
		c.Lookup, c.LookupTo, c.Surfaced = LookupNone, "", false
		if i := slices.IndexFunc(old, func(x Contact) bool { return x.ID == c.ID }); i >= 0 {
			was := old[i]
			c.ReportedAt, c.Lookup, c.LookupTo, c.Surfaced = was.ReportedAt, was.Lookup, was.LookupTo, was.Surfaced
			if was.Region != "" {
				c.Region = was.Region
			}
			if was.ObservedAt.After(readAt) {
				c.ObservedAt = was.ObservedAt
			}
			if !was.Began.IsZero() && (c.Began.IsZero() || was.Began.Before(c.Began)) {
				c.Began = was.Began
			}
			changed = changed || was.Desktop || was.State != c.State || was.Channel != c.Channel ||
				!was.StateSince.Equal(c.StateSince) || !was.Began.Equal(c.Began) || !was.StaleSince.IsZero()
		} else {
			changed = true
		}
		if c.wantLookup(list, a.Failover) {
			changed = true
		}
		now = append(now, c)
	}
	for _, was := range old {
		if slices.ContainsFunc(now, func(x Contact) bool { return x.ID == was.ID }) {
			continue
		}
		switch {
		case addOnly, was.ObservedAt.After(readAt): // with global routing the other Region's view can be the later one
		case st.reported(&was):
			changed = changed || !was.Desktop
			was.Desktop = true
		default:
			changed = true
			continue
		}
		now = append(now, was)
	}
	slices.SortFunc(now, func(x, y Contact) int { return strings.Compare(x.ID, y.ID) })
	list.Contacts = now
	return changed
}

// reported says whether the agent's desktop lists the contact and is still there to take it back (R15).
func (st *step) reported(c *Contact) bool {
	return !c.ReportedAt.IsZero() && st.now.Sub(c.ReportedAt) <= reportFresh
}

// chunkComplete finds who is not in a complete set of routing profiles (R6).
func (st *step) chunkComplete(o ChunkComplete) {
	g := st.groups[o.Group]
	if g == nil || !g.has(o.Region) {
		return
	}
	st.answered(g, o.Region)
	if o.Filtered { // it releases most of those who leave the Region
		n := 0
		for _, profile := range o.Profiles {
			n += leaving(st.byProfile[profileKey{o.Group, profile}], o.Region)
		}
		st.room(n)
	}
	for i, profile := range o.Profiles {
		if slices.Contains(o.Profiles[:i], profile) {
			continue
		}
		for _, a := range st.byProfile[profileKey{o.Group, profile}] {
			st.notShown(a, g, o)
		}
	}
}

// leaving counts the agents with an open failover from a Region.
func leaving(agents []*Agent, region string) (n int) {
	for _, a := range agents {
		if a.Failover != nil && a.Failover.From == region {
			n++
		}
	}
	return n
}

// notShown concludes from a complete set of the agent's routing profile, if no page of it has shown the agent.
func (st *step) notShown(a *Agent, g *Group, o ChunkComplete) {
	list := a.list(g, o.Region)
	if !list.ReadAt.Before(o.StartedAt) {
		return
	}
	// An agent who was last seen with a contact may have changed profile meanwhile and show up in a later chunk:
	// the complete pass or a read by id decides about those.
	if slices.ContainsFunc(list.Contacts, func(c Contact) bool { return c.Blocking && !c.Desktop }) {
		return
	}
	if f := a.Failover; o.Filtered && f != nil && f.From == o.Region && !st.profileCertain(a, g, o.Region, o.StartedAt) {
		return
	}
	st.absent(a, g, o.Region, o.StartedAt, !o.Filtered, o.Filtered)
}

// profileCertain says whether a read of the agent's routing profile that began at the given time would have shown a contact of
// the agent (R6): a read of the Region has shown the agent, with that profile, not long before, and nobody has been seen to leave the
// profile since. A change of profile shows in no answer but one that holds the agent.
func (s *State) profileCertain(a *Agent, g *Group, region string, at time.Time) bool {
	list, limit := a.list(g, region), s.recent(g, region)
	left := s.left[profileKey{g.Name, a.RoutingProfile}]
	return list.Present && at.Sub(list.SeenAt) <= limit && at.Sub(left) > limit
}

// recent is how old what a Region showed may be to be concluded from (R6, R9): contactsMaxAge, or as long as two sweeps of it take.
func (s *State) recent(g *Group, region string) time.Duration {
	return max(s.set.ContactsMaxAge, 2*g.region(region).SweepDuration)
}

// passComplete finds who is in no routing profile's answer at all, and looks at presence (R1, R12).
func (st *step) passComplete(o PassComplete) {
	g := st.groups[o.Group]
	if g == nil || !g.has(o.Region) {
		return
	}
	st.answered(g, o.Region)
	for _, a := range st.byGroup[o.Group] {
		if a.list(g, o.Region).ReadAt.Before(o.StartedAt) {
			st.absent(a, g, o.Region, o.StartedAt, !o.Filtered, o.Filtered)
		}
	}
	if o.Filtered {
		return
	}
	rs := g.region(o.Region)
	rs.SweepStartedAt, rs.SweepDoneAt, rs.SweepDuration = o.StartedAt, o.FinishedAt, o.FinishedAt.Sub(o.StartedAt)
	st.touchGroup(g)
	if g.Routing == Global {
		return // presence says nothing (R20)
	}
	for _, a := range st.byGroup[o.Group] {
		st.stallByPresence(a, g)
	}
	st.pairSweeps(g)
}

// pairSweeps counts in which single Region each agent of a split group is, once both Regions have been swept (R1).
func (st *step) pairSweeps(g *Group) {
	for _, i := range g.Instances {
		if !g.region(i.Region).SweepDoneAt.After(g.PairedAt) {
			return
		}
	}
	g.PairedAt = st.now
	for _, a := range st.byGroup[g.Name] {
		t := st.tdgs[a.TDG]
		if t == nil || t.SplitAt.IsZero() {
			continue
		}
		only, n := "", 0
		for _, i := range g.Instances {
			rs := g.region(i.Region)
			if rs.SweepStartedAt.Before(t.SplitAt) {
				n = 0
				break
			}
			if l := a.list(g, i.Region); l.Present && !l.Offline && !l.SeenAt.Before(rs.SweepStartedAt) {
				only = i.Region
				n++
			}
		}
		was, count := a.PresenceRegion, a.PresenceCount
		switch {
		case n != 1:
			a.PresenceRegion, a.PresenceCount = "", 0
		case only != a.PresenceRegion:
			a.PresenceRegion, a.PresenceCount = only, 1
		default:
			a.PresenceCount = min(a.PresenceCount+1, 2)
		}
		if a.PresenceRegion != was || a.PresenceCount != count {
			st.touch(a)
		}
		if a.PresenceCount >= 2 {
			st.decide(a)
		}
	}
}

// answered notes that a Region answered a contacts read (R9).
func (st *step) answered(g *Group, region string) {
	rs := g.region(region)
	// Stored at most every few seconds: it only has to be roughly right after a restart.
	if st.now.Sub(rs.AnsweredAt) >= st.set.RegionDownAfter/6 {
		st.touchGroup(g)
	}
	rs.AnsweredAt = st.now
}

// contactsUnavailable notes that a Region did not answer one (R9); tick draws the conclusion.
func (st *step) contactsUnavailable(o ContactsUnavailable) {
	g := st.groups[o.Group]
	if g == nil || !g.has(o.Region) {
		return
	}
	g.region(o.Region).UnavailableAt = st.now
	st.touchGroup(g)
}

// contactLocated takes the answer to a look-up (R20).
func (st *step) contactLocated(o ContactLocated) {
	a := st.agents[o.AgentID]
	if a == nil {
		return
	}
	for i := range a.Lists {
		for j := range a.Lists[i].Contacts {
			c := &a.Lists[i].Contacts[j]
			if c.ID != o.ContactID || c.Lookup != LookupWanted {
				continue
			}
			c.Lookup = LookupFailed
			if o.Region != "" {
				c.Lookup, c.LookupTo, c.Region = LookupTold, o.Region, o.Region
			}
			st.touch(a)
			if a.Failover != nil {
				st.hold(a, false)
			}
			st.surface(a)
			return
		}
	}
}

// surface decides which contacts the agent is shown (R16): those of the active region, which all that hold an open failover
// are, of a Region that is not told, those that the agent is connected to, and until the confirmation those of the Region
// just left.
func (st *step) surface(a *Agent) {
	for i := range a.Lists {
		for j := range a.Lists[i].Contacts {
			c := &a.Lists[i].Contacts[j]
			shown := c.Region == "" || a.ActiveRegion == "" || c.Region == a.ActiveRegion ||
				c.State == "CONNECTED" || c.State == "CONNECTED_ONHOLD" ||
				a.Last != nil && a.Last.ConfirmedAt.IsZero() && c.Region == a.Last.From
			if c.Surfaced != shown {
				c.Surfaced = shown
				st.touch(a)
			}
		}
	}
}
