package ctl

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"changeover/clients/go/rest"
)

// page gathers what a person is shown: lines and tables.
type page struct {
	bytes.Buffer
	now time.Time
}

// line adds a line. What it holds may have been written by anybody, so nothing in it reaches a terminal as a command to it.
func (p *page) line(format string, args ...any) {
	p.WriteString(clean(fmt.Sprintf(format, args...)))
	p.WriteByte('\n')
}

// clean replaces what a terminal would act on.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// table adds a table, or says that there is nothing. Columns in which no row says anything are left out.
func (p *page) table(columns []string, rows [][]string) {
	if len(rows) == 0 {
		p.line("(none)")
		return
	}
	var used []int
	for i := range columns {
		for _, row := range rows {
			if row[i] != "" {
				used = append(used, i)
				break
			}
		}
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{columns}, rows...) {
		for _, i := range used {
			fmt.Fprint(w, cmp.Or(clean(row[i]), "-"), "\t")
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into a buffer
	for line := range strings.Lines(text.String()) {
		p.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// list is a table of items with the way to the next page.
func list[T any](p *page, items []T, next *string, columns []string, row func(T) []string) {
	rows := make([][]string, len(items))
	for i, item := range items {
		rows[i] = row(item)
	}
	p.table(columns, rows)
	if next != nil {
		p.line("There is more: --cursor %s", *next)
	}
}

// facts is a table of names and values; those without a value are left out.
func (p *page) facts(pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, len(pairs[i]))
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			p.line("%-*s  %s", width, pairs[i], pairs[i+1])
		}
	}
}

// at is a time, in UTC as in everything that the service writes.
func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// maybe is what is there, or nothing.
func maybe[T any](v *T, text func(T) string) string {
	if v == nil {
		return ""
	}
	return text(*v)
}

func text[T ~string](v T) string { return string(v) }

func yes(v bool) string {
	if v {
		return "yes"
	}
	return ""
}

func yesNo(v bool) string { return cmp.Or(yes(v), "no") }

func unlessZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// since is how long something has been so, and ago how long it is past.
func (p *page) since(t time.Time) string { return p.now.Sub(t).Round(time.Second).String() }
func (p *page) ago(t time.Time) string   { return p.since(t) + " ago" }

func seconds(v float64) string {
	return time.Duration(v * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func shares(all []rest.Share) string {
	var parts []string
	for _, s := range all {
		if s.Percent > 0 {
			parts = append(parts, fmt.Sprintf("%s %d %%", s.Region, s.Percent))
		}
	}
	return strings.Join(parts, ", ")
}

func codes(all []rest.ConfigureError) string {
	var parts []string
	for _, e := range all {
		parts = append(parts, string(e.Code))
	}
	return strings.Join(parts, ", ")
}

func pauseText(x rest.Pause) string {
	return fmt.Sprintf("until %s by %s: %s", at(x.Until), x.By, x.Reason)
}

func showGroup(p *page, g rest.FailoverGroup) {
	p.facts("failover group", g.Name, "routing", string(g.Routing), "paused", maybe(g.Pause, pauseText))
	for _, e := range g.ConfigureErrors {
		p.line("%s: %s", e.Code, e.Message)
	}
	p.line("")
	rows := make([][]string, len(g.Health))
	for i, h := range g.Health {
		rows[i] = []string{h.Region, string(h.State), maybe(h.Since, at), maybe(h.LastSuccess, p.ago), maybe(h.ObservedAt, p.ago), maybe(h.LastError, text)}
	}
	p.table([]string{"REGION", "STATE", "SINCE", "LAST ANSWER", "AS OF", "LAST ERROR"}, rows)
}

func showGroups(p *page, l rest.FailoverGroupList) {
	for i, g := range l.Items {
		if i > 0 {
			p.line("")
		}
		showGroup(p, g)
	}
	if l.NextCursor != nil {
		p.line("There is more: --cursor %s", *l.NextCursor)
	}
}

func showSummary(p *page, s rest.Summary) {
	for i, g := range s.Items {
		if i > 0 {
			p.line("")
		}
		p.facts(
			"failover group", g.FailoverGroup, "agents", strconv.Itoa(g.Agents),
			"detected", strconv.Itoa(g.Detected), "pending", strconv.Itoa(g.Pending), "of those stale", unlessZero(g.Stale),
			"oldest pending", maybe(g.OldestPendingAt, p.since), "paused", maybe(g.Pause, pauseText), "held by the pause", unlessZero(g.Held),
		)
		p.line("")
		list(p, g.ByActiveRegion, nil, []string{"REGION", "STATE", "AGENTS"}, func(c rest.RegionCount) []string {
			return []string{maybe(c.ActiveRegion, text), string(c.State), strconv.Itoa(c.Count)}
		})
		if len(g.Shifts) > 0 {
			p.line("")
			list(p, g.Shifts, nil, []string{"SHIFT", "OF", "STARTED", "TO", "FAILOVERS", "DETECTED", "PENDING", "COMPLETED", "CANCELLED", "FORCED", "STALLED"}, func(x rest.Shift) []string {
				return append([]string{maybe(x.ShiftID, text), x.TdgID, at(x.StartedAt), shares(x.Agent)}, numbers(x.Failovers, x.Detected, x.Pending, x.Completed, x.Cancelled, x.Forced, x.Stalled)...)
			})
		}
	}
}

func numbers(all ...int) []string {
	out := make([]string, len(all))
	for i, n := range all {
		out[i] = strconv.Itoa(n)
	}
	return out
}

func showAgents(p *page, l rest.AgentList) {
	list(p, l.Items, l.NextCursor, []string{"AGENT", "USERNAME", "STATE", "WORKS IN", "GOES TO", "CONTACTS", "STREAMS", "STANDBY", "ERRORS"}, func(a rest.Agent) []string {
		return []string{
			a.AgentID, maybe(a.Username, text), string(a.State), maybe(a.ActiveRegion, text), maybe(a.NextActiveRegion, text),
			maybe(a.OpenContacts, strconv.Itoa), strconv.Itoa(a.Connections), maybe(a.Standby, standby), codes(a.ConfigureErrors),
		}
	})
}

func standby(s rest.Standby) string {
	switch {
	case s.Ready == nil:
		return ""
	case *s.Ready:
		return "ready"
	}
	return "not ready"
}

func showAgent(p *page, a rest.Agent) {
	p.facts(
		"agent", a.AgentID, "user name", maybe(a.Username, text), "failover group", a.FailoverGroup, "traffic distribution group", maybe(a.TdgID, text),
		"state", string(a.State), "works in", maybe(a.ActiveRegion, text), "known by", maybe(a.RegionSource, text[rest.RegionSource]), "observed", maybe(a.ObservedAt, at),
		"goes to", maybe(a.NextActiveRegion, text), "failover", maybe(a.FailoverID, text), "open contacts", maybe(a.OpenContacts, strconv.Itoa),
		"streams", strconv.Itoa(a.Connections), "standby", maybe(a.Standby, func(s rest.Standby) string {
			return strings.TrimSpace(s.Region + " " + cmp.Or(standby(s), "not told") + " " + maybe(s.Reason, text))
		}),
		"partial", yes(a.Partial != nil && *a.Partial),
	)
	for _, e := range a.ConfigureErrors {
		p.line("%s: %s", e.Code, e.Message)
	}
}

func showContacts(p *page, l rest.ContactList) {
	list(p, l.Items, l.NextCursor, []string{"CONTACT", "CHANNEL", "STATE", "FOR", "REGION", "HOLDS", "STALE", "SEEN"}, func(c rest.Contact) []string {
		return []string{c.ContactID, c.Channel, c.State, maybe(c.StateSince, p.since), maybe(c.Region, text), yesNo(c.Blocking), yes(c.Stale), at(c.ObservedAt)}
	})
}

func showFailovers(p *page, l rest.FailoverList) {
	list(p, l.Items, l.NextCursor, []string{"FAILOVER", "AGENT", "STATUS", "FROM", "TO", "DETECTED", "ENDED", "HELD BY", "STALE", "FORCED BY"}, func(f rest.Failover) []string {
		ended := f.CompletedAt
		if ended == nil {
			ended = f.CancelledAt
		}
		return []string{
			f.FailoverID, f.AgentID, string(f.Status), f.FromRegion, f.ToRegion, at(f.DetectedAt), maybe(ended, at),
			unlessZero(len(f.ContactIds)), yes(f.StaleSince != nil), maybe(f.ForcedBy, text),
		}
	})
}

func showPending(p *page, l rest.OpenFailoverList) {
	t := l.Totals
	p.facts("open failovers", strconv.Itoa(t.Failovers), "of those pending", strconv.Itoa(t.Pending), "live contacts", strconv.Itoa(t.Live), "contacts in after-contact work", strconv.Itoa(t.AfterContactWork))
	p.line("")
	list(p, l.Items, l.NextCursor, []string{"FAILOVER", "USERNAME", "STATUS", "FROM", "TO", "WAITS", "FOR", "STALE"}, func(f rest.OpenFailover) []string {
		since := f.DetectedAt
		if f.PendingAt != nil {
			since = *f.PendingAt
		}
		var contacts []string
		for _, c := range f.Contacts {
			contacts = append(contacts, c.Channel+" "+c.State)
		}
		return []string{f.FailoverID, cmp.Or(maybe(f.Username, text), f.AgentID), string(f.Status), f.FromRegion, f.ToRegion, p.since(since), strings.Join(contacts, ", "), yes(f.StaleSince != nil)}
	})
}

func showSession(p *page, s rest.Session) {
	roles := make([]string, len(s.Roles))
	for i, r := range s.Roles {
		roles[i] = string(r)
	}
	p.facts("subject", s.Subject, "name", maybe(s.Name, text), "roles", strings.Join(roles, ", "), "agent", maybe(s.AgentID, text), "until", maybe(s.ExpiresAt, at))
}

func showFailover(p *page, f rest.Failover) {
	p.facts(
		"failover", f.FailoverID, "agent", f.AgentID, "status", string(f.Status), "from", f.FromRegion, "to", f.ToRegion, "cause", string(f.Cause),
		"detected", at(f.DetectedAt), "pending", maybe(f.PendingAt, at), "completed", maybe(f.CompletedAt, at), "cancelled", maybe(f.CancelledAt, at),
		"confirmed", maybe(f.ConfirmedAt, at), "stalled", maybe(f.StalledAt, at), "stale since", maybe(f.StaleSince, at),
		"evidence", maybe(f.Evidence, text[rest.Evidence]), "held by", strings.Join(f.ContactIds, ", "), "held by at first", strings.Join(f.InitialContactIds, ", "),
		"forced by", maybe(f.ForcedBy, text), "forced because", maybe(f.ForcedReason, text),
	)
}

func showForced(p *page, b rest.BulkForceAccepted) {
	if b.Matched == nil || b.Forced == nil {
		p.line("It is accepted. The leader has not answered yet; `server ctl summary` shows what comes of it.")
		return
	}
	p.facts("match", strconv.Itoa(*b.Matched), "forced so far", strconv.Itoa(*b.Forced))
}

func showConnections(p *page, l rest.ConnectionList) {
	list(p, l.Items, l.NextCursor, []string{"CONNECTION", "AGENT", "REPLICA", "OPEN FOR", "FROM"}, func(c rest.Connection) []string {
		return []string{c.ConnectionID, cmp.Or(maybe(c.AgentID, text), "all"), c.Replica, p.since(c.Since), c.RemoteAddress}
	})
}

func showAudit(p *page, l rest.AuditList) {
	list(p, l.Items, l.NextCursor, []string{"ID", "TIME", "WHO", "ACTION", "TARGET", "OUTCOME", "REASON"}, func(e rest.AuditEntry) []string {
		return []string{e.AuditID, at(e.Time), e.Subject, e.Action, e.Target, e.Outcome, maybe(e.Reason, text)}
	})
}

func showPlan(p *page, x rest.Plan) {
	p.line("If the agents of %s were sent to %s (as of %s):", x.FailoverGroup, x.ToRegion, at(x.At))
	p.facts("would go at once", strconv.Itoa(x.Counts.AtOnce), "would wait", strconv.Itoa(x.Counts.Waits), "unknown", strconv.Itoa(x.Counts.Unknown), "there already", strconv.Itoa(x.Counts.There))
	p.line("")
	list(p, x.Items, x.NextCursor, []string{"AGENT", "USERNAME", "OUTCOME", "FROM", "WAITS FOR", "READ", "STALE", "STREAM"}, func(a rest.PlannedAgent) []string {
		var contacts []string
		for _, c := range a.Contacts {
			contacts = append(contacts, c.Channel+" "+c.State)
		}
		return []string{a.AgentID, maybe(a.Username, text), string(a.Outcome), maybe(a.FromRegion, text), strings.Join(contacts, ", "), maybe(a.ReadAt, p.ago), yes(a.Stale), yesNo(a.Streaming)}
	})
}

func showShifts(p *page, l rest.ShiftList) {
	list(p, l.Items, l.NextCursor, []string{"SHIFT", "GROUP", "STARTED", "FROM", "TO", "FAILOVERS", "OPEN", "COMPLETED", "CANCELLED", "FORCED", "STALLED"}, func(s rest.PastShift) []string {
		return append([]string{s.ShiftID, s.FailoverGroup, at(s.StartedAt), shares(s.Before), shares(s.After)},
			numbers(s.Failovers, s.Detected+s.Pending, s.Completed, s.Cancelled, s.Forced, s.Stalled)...)
	})
}

func showShift(p *page, r rest.ShiftReport) {
	s := r.Shift
	p.facts(
		"shift", s.ShiftID, "failover group", s.FailoverGroup, "traffic distribution group", s.TdgID, "from", shares(s.Before), "to", shares(s.After),
		"started", at(s.StartedAt), "ended by the next", maybe(s.EndedAt, at), "observed by", s.ObservedBy, "after a disagreement", yes(s.Conflict),
		"failovers", strconv.Itoa(s.Failovers), "detected", unlessZero(s.Detected), "pending", unlessZero(s.Pending), "completed", strconv.Itoa(s.Completed),
		"cancelled", unlessZero(s.Cancelled), "forced", unlessZero(s.Forced), "stalled", unlessZero(s.Stalled),
	)
	p.line("")
	var rows [][]string
	for _, phase := range []struct {
		name string
		rest.Phase
	}{{"detection", r.Phases.Detection}, {"release", r.Phases.Release}, {"pending", r.Phases.Pending}, {"total", r.Phases.Total}, {"confirmation", r.Phases.Confirmation}} {
		rows = append(rows, []string{phase.name, strconv.Itoa(phase.Count), maybe(phase.P50Seconds, seconds), maybe(phase.P95Seconds, seconds), maybe(phase.MaxSeconds, seconds)})
	}
	p.table([]string{"PHASE", "FAILOVERS", "MEDIAN", "95 %", "LONGEST"}, rows)
	if len(r.ByEvidence) > 0 {
		p.line("")
		list(p, r.ByEvidence, nil, []string{"EVIDENCE", "COMPLETED"}, func(e rest.EvidenceCount) []string { return []string{string(e.Evidence), strconv.Itoa(e.Count)} })
	}
	if len(r.ForcedBy) > 0 {
		p.line("")
		list(p, r.ForcedBy, nil, []string{"FORCED BY", "FAILOVERS"}, func(f rest.ForcedByCount) []string { return []string{f.By, strconv.Itoa(f.Count)} })
	}
}

func showDrills(p *page, l rest.DrillList) {
	list(p, l.Items, l.NextCursor, []string{"DRILL", "GROUP", "STARTED", "ENDED", "AGENTS", "COMPLETED", "PENDING", "BY", "REASON"}, func(d rest.Drill) []string {
		return []string{d.DrillID, d.FailoverGroup, maybe(d.StartedAt, at), maybe(d.EndedAt, at), strconv.Itoa(len(d.Agents)), strconv.Itoa(d.Counts.Completed), strconv.Itoa(d.Counts.Pending), d.By, d.Reason}
	})
}

func showDrill(p *page, d rest.Drill) {
	p.facts(
		"drill", d.DrillID, "failover group", d.FailoverGroup, "by", d.By, "reason", d.Reason,
		"started", maybe(d.StartedAt, at), "ends at the latest", maybe(d.Until, at), "ended", maybe(d.EndedAt, at),
		"had no stream", unlessZero(d.Counts.NotStreaming), "standby not ready", unlessZero(d.Counts.StandbyNotReady),
	)
	p.line("")
	list(p, d.Agents, nil, []string{"AGENT", "USERNAME", "FROM", "TO", "OUTCOME", "STREAM", "STANDBY", "CONTACTS", "DETAIL"}, func(a rest.DrillAgent) []string {
		return []string{
			a.AgentID, maybe(a.Username, text), maybe(a.FromRegion, text), maybe(a.ToRegion, text), string(a.Outcome), yesNo(a.Streaming),
			maybe(a.StandbyReady, func(ready bool) string { return standby(rest.Standby{Ready: &ready}) }), unlessZero(len(a.ContactIds)), maybe(a.Detail, text),
		}
	})
}

func showWebhooks(p *page, l rest.WebhookList) {
	list(p, l.Items, nil, []string{"WEBHOOK", "TO", "EVENTS", "BEHIND", "PENDING", "DEAD", "LAST SUCCESS", "LAST ERROR"}, func(w rest.Webhook) []string {
		return []string{w.Name, w.Origin, strings.Join(w.Events, ","), strconv.Itoa(w.Behind), strconv.Itoa(w.Pending), strconv.Itoa(w.Dead), maybe(w.LastSuccessAt, at), maybe(w.LastError, text)}
	})
}

func showDeliveries(p *page, l rest.DeliveryList) {
	list(p, l.Items, l.NextCursor, []string{"DELIVERY", "STATUS", "EVENTS", "ATTEMPTS", "CREATED", "NEXT", "DELIVERED", "LAST ERROR"}, func(d rest.Delivery) []string {
		return []string{d.DeliveryID, string(d.Status), strconv.Itoa(d.Events), strconv.Itoa(d.Attempts), at(d.CreatedAt), maybe(d.NextAttemptAt, at), maybe(d.DeliveredAt, at), maybe(d.LastError, text)}
	})
}

func showDelivery(p *page, d rest.Delivery) {
	showDeliveries(p, rest.DeliveryList{Items: []rest.Delivery{d}})
}
