package failover

import (
	"slices"
	"strings"
	"time"
)

// report takes a desktop's observation: evidence about the reporting agent only (R15).
func (st *step) report(o Report) {
	a := st.agents[o.AgentID]
	if a == nil {
		st.eff.Results = append(st.eff.Results, Result{
			CommandID: o.CommandID, Outcome: OutcomeNotFound, Detail: "agent " + o.AgentID + " is not known",
		})
		return
	}
	g, d := st.groups[a.Group], &a.Desktop
	st.touch(a)
	if a.Failover != nil {
		st.regionBack(a)
	}
	d.At = o.At
	if g.has(o.ActiveRegion) {
		d.ActiveRegion, d.ActiveAt = o.ActiveRegion, o.At
		if d.NextRegion == o.ActiveRegion {
			d.NextRegion = "" // it has arrived
		}
		if o.ActiveRegion == a.ActiveRegion && o.At.After(a.ObservedAt) {
			a.ObservedAt = o.At
		}
	}
	switch {
	case g.has(o.NextActiveRegion):
		d.NextRegion, d.NextAt = o.NextActiveRegion, o.At
	case o.ClearNext:
		d.NextRegion, d.NextAt = "", o.At
	}
	if o.HasContacts {
		st.reportContacts(a, g, o)
	}
	if f := a.Failover; f != nil && o.ActiveRegion == f.To {
		st.forgetReported(a, g, o)
		if !f.StaleSince.IsZero() && d.ActiveAt.Equal(o.At) {
			st.leftRegion(a)
		}
	}
	if o.Standby != nil && g.has(o.Standby.Region) {
		a.Standby = o.Standby
		if ready := o.Standby.Ready; ready != nil && *ready {
			st.clearError(a, CodeStandbyNotInitialized, desktopErrors)
		} else if ready != nil {
			st.setError(a, SetupError{Code: CodeStandbyNotInitialized, Message: o.Standby.Reason, Own: true, Desktop: true})
		}
	}
	if o.HasConfigError {
		st.desktopError(a, o.ConfigCode, o.ConfigMessage)
	}
	if a.ActiveRegion == "" && d.ActiveRegion != "" { // no distribution tells its target, or it would have one
		st.baseline(a, d.ActiveRegion, SourceDesktop, o.At)
	}
	st.confirmByReport(a, o)
	st.decide(a)
	st.eff.Results = append(st.eff.Results, Result{CommandID: o.CommandID, Outcome: OutcomeDone})
}

// reportContacts adds what the desktop shows. What it does not show is gone only if nobody but the desktop ever
// showed it, or where R9 applies. A report that names a Region is about that Region's contacts, any other about all.
func (st *step) reportContacts(a *Agent, g *Group, o Report) {
	region, all := o.ContactsRegion, false
	if !g.has(region) {
		region, all = o.ActiveRegion, true // where a CCP works is where its new contacts are
	}
	if !g.has(region) {
		region = a.ActiveRegion
	}
	if !g.has(region) {
		return
	}
	list := a.list(g, region)
	reported := make(map[string]bool, len(o.Contacts))
	for i := range a.Lists {
		l := &a.Lists[i]
		if !all && l != list {
			continue
		}
		l.Contacts = slices.DeleteFunc(l.Contacts, func(c Contact) bool { return c.Desktop && !st.reported(&c) })
		for j := range l.Contacts {
			c := &l.Contacts[j]
			c.ReportedAt = time.Time{}
			if k := slices.IndexFunc(o.Contacts, func(r ReportedContact) bool { return r.ContactID == c.ID }); k >= 0 {
				reported[c.ID] = true
				c.report(o.Contacts[k].State, o.At)
				c.wantLookup(l, a.Failover)
			}
		}
		l.Contacts = slices.DeleteFunc(l.Contacts, func(c Contact) bool { return c.Desktop && c.ReportedAt.IsZero() })
	}
	for _, r := range o.Contacts {
		if reported[r.ContactID] {
			continue
		}
		reported[r.ContactID] = true
		c := Contact{ID: r.ContactID, Channel: r.Channel, Region: list.Region, Blocking: blocking(r.Channel), Began: o.At, Desktop: true}
		c.report(r.State, o.At)
		c.wantLookup(list, a.Failover)
		list.Contacts = append(list.Contacts, c)
	}
	slices.SortFunc(list.Contacts, func(x, y Contact) int { return strings.Compare(x.ID, y.ID) })
	if f := a.Failover; f != nil && !f.StaleSince.IsZero() && (all || list.Region == "" || region == f.From) {
		st.dropUnreported(a, a.list(g, f.From))
		if ids, _ := st.holding(a, f.DetectedAt); len(ids) == 0 {
			f.Evidence = ByDesktop
			st.touchFailover(a, f)
		}
	}
}

// forgetReported takes back what earlier reports named in the Region that the CCP has left since: it leaves when its contacts are
// cleared, or by force, and then Amazon's list alone says what is open there (R15). With global routing there is one list, which
// the report is about already.
func (st *step) forgetReported(a *Agent, g *Group, o Report) {
	if g.Routing != Regional {
		return
	}
	list := a.list(g, a.Failover.From)
	for i := range list.Contacts {
		if c := &list.Contacts[i]; c.ReportedAt.Before(o.At) {
			c.ReportedAt = time.Time{}
		}
	}
	list.Contacts = slices.DeleteFunc(list.Contacts, func(c Contact) bool { return c.Desktop && c.ReportedAt.IsZero() })
}

// report notes that the agent's desktop listed the contact.
func (c *Contact) report(state string, at time.Time) {
	c.ReportedAt, c.StaleSince = at, time.Time{}
	if c.Desktop {
		c.State, c.ObservedAt = state, at
	}
}

func (st *step) dropUnreported(a *Agent, list *ContactList) {
	list.Contacts = slices.DeleteFunc(list.Contacts, func(c Contact) bool { return !st.reported(&c) })
	st.touch(a)
}

// confirmByReport confirms a completion, or tells once that it stalled (R12).
func (st *step) confirmByReport(a *Agent, o Report) {
	f := a.Last
	if f == nil || o.ActiveRegion == "" || o.At.Before(f.CompletedAt) {
		return
	}
	switch {
	case o.ActiveRegion == f.To:
		st.confirm(a, o.At)
	case st.groups[a.Group].has(o.ActiveRegion) && st.mayStall(a) && !o.At.Before(f.CompletedAt.Add(st.set.ConfirmWithin)):
		st.stall(a, o.ActiveRegion)
	}
}

// streaming notes who has an open event stream (R8, R12).
func (st *step) streaming(o Streaming) {
	for _, a := range st.agents {
		since, open := o.Since[a.ID]
		a.streams(since, open, st.now)
	}
}
