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
	d.At = o.At
	if g.has(o.ActiveRegion) {
		d.ActiveRegion, d.ActiveAt = o.ActiveRegion, o.At
		if d.NextRegion == o.ActiveRegion {
			d.NextRegion = "" // it has arrived
		}
		if o.ActiveRegion == a.ActiveRegion {
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
	if f := a.Failover; f != nil && !f.StaleSince.IsZero() && d.ActiveRegion == f.To && d.ActiveAt.Equal(o.At) {
		// The Region is down and the CCP has left it: what it did not report is gone (R9, R15).
		st.dropUnreported(a, a.list(g, f.From))
		f.Evidence = ByDesktop
		st.touchFailover(a, f)
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
	if a.ActiveRegion == "" {
		if target, _ := st.target(a); target == "" && d.ActiveRegion != "" {
			st.baseline(a, d.ActiveRegion, SourceDesktop)
		}
	}
	st.confirmByReport(a, o)
	st.decide(a)
	st.eff.Results = append(st.eff.Results, Result{CommandID: o.CommandID, Outcome: OutcomeDone})
}

// reportContacts adds what the desktop shows. What it does not show is gone only if nobody but the desktop ever
// showed it, or where R9 applies.
func (st *step) reportContacts(a *Agent, g *Group, o Report) {
	region := o.ContactsRegion
	if region == "" {
		region = a.ActiveRegion
	}
	if !g.has(region) {
		return
	}
	list := a.list(g, region)
	for i := range list.Contacts {
		list.Contacts[i].ReportedAt = time.Time{}
	}
	for _, r := range o.Contacts {
		i := slices.IndexFunc(list.Contacts, func(c Contact) bool { return c.ID == r.ContactID })
		if i < 0 {
			list.Contacts = append(list.Contacts, Contact{
				ID: r.ContactID, Channel: r.Channel, Region: list.Region, Blocking: blocking(r.Channel), Desktop: true,
			})
			i = len(list.Contacts) - 1
		}
		c := &list.Contacts[i]
		c.ReportedAt = o.At
		if c.Desktop {
			c.State, c.ObservedAt = r.State, o.At
		}
	}
	list.Contacts = slices.DeleteFunc(list.Contacts, func(c Contact) bool { return c.Desktop && c.ReportedAt.IsZero() })
	slices.SortFunc(list.Contacts, func(x, y Contact) int { return strings.Compare(x.ID, y.ID) })
	if f := a.Failover; f != nil && !f.StaleSince.IsZero() && region == f.From {
		st.dropUnreported(a, list)
		if ids, _ := st.holding(a); len(ids) == 0 {
			f.Evidence = ByDesktop
			st.touchFailover(a, f)
		}
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
		st.confirm(a)
	case st.groups[a.Group].has(o.ActiveRegion) && st.mayStall(a) && !o.At.Before(f.CompletedAt.Add(st.set.ConfirmWithin)):
		st.stall(a, o.ActiveRegion)
	}
}

// streaming notes who has an open event stream (R12).
func (st *step) streaming(o Streaming) {
	for _, a := range st.agents {
		a.Streaming = o.AgentIDs[a.ID]
	}
}
