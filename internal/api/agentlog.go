package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

const (
	logPage      = 1000  // events per read
	logMaxEvents = 20000 // of one log; an agent has a handful a day
)

// GetAgentLog implements GET /v1/agents/{agentId}/logs/{region}.
func (s *Server) GetAgentLog(ctx context.Context, r contract.GetAgentLogRequestObject) (contract.GetAgentLogResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	agent, err := s.store.Agent(ctx, r.AgentID)
	if isNotFound(err) {
		return nil, notFound("agent", r.AgentID)
	}
	if err != nil {
		return nil, err
	}
	// The Region goes into a file's name, so it is one of those that are configured, whatever its pattern lets through.
	group := s.groups[agent.Group]
	if group == nil || !slices.ContainsFunc(group.Instances, func(i Instance) bool { return i.Region == r.Region }) {
		return nil, problemf(kindNotFound, "The agent's failover group has no Region %q.", r.Region)
	}
	l := agentLog{region: r.Region, agent: agent, now: time.Now()}
	if l.contacts, err = s.store.Contacts(ctx, r.AgentID); err != nil {
		return nil, err
	}
	if l.failovers, _, err = s.store.Failovers(ctx, store.FailoverFilter{AgentID: r.AgentID}, store.Page{Limit: logPage}); err != nil {
		return nil, err
	}
	if l.events, l.cut, err = s.agentEvents(ctx, r.AgentID); err != nil {
		return nil, err
	}
	return contract.GetAgentLog200TextResponse{
		Body:    l.write(),
		Headers: contract.GetAgentLog200ResponseHeaders{ContentDisposition: `attachment; filename="` + r.Region + `-agent-log.txt"`},
	}, nil
}

// agentEvents reads what the event log has of an agent, oldest first; cut says that there is more.
func (s *Server) agentEvents(ctx context.Context, agentID string) (events []store.LogEvent, cut bool, err error) {
	for {
		state, err := s.store.LogState(ctx)
		if err != nil {
			return nil, false, err
		}
		events, cut, err = s.agentEventsFrom(ctx, agentID, state.OldestSeq-1)
		if !errors.Is(err, store.ErrPruned) { // else retention went by in between
			return events, cut, err
		}
	}
}

func (s *Server) agentEventsFrom(ctx context.Context, agentID string, after int64) (events []store.LogEvent, cut bool, err error) {
	for len(events) < logMaxEvents {
		page, err := s.store.AgentEventsAfter(ctx, []string{agentID}, after, math.MaxInt64, nil, logPage)
		if err != nil {
			return nil, false, err
		}
		events = append(events, page...)
		if len(page) < logPage {
			return events, false, nil
		}
		after = page[len(page)-1].Seq
	}
	return events, true, nil
}

// agentLog puts the log of one agent and one Region together.
//
// The rule by which records are attributed:
//
//   - A failover, and an event of one, is in the log of the Region that it leaves and in that of the Region that it goes to. The
//     contacts that hold it and the reason of a force are told in the log of the Region that it leaves alone: contacts
//     hold an agent where they are.
//   - An event without a failover is in the log of the Region that it names; one that names none is in both.
//   - A contact is in the log of its Region. While that is not known (global routing) it counts to the Region where the
//     agent is active.
//
// On top of that, whatever text a record holds (messages and reasons are written by people and desktops), ids of contacts
// that belong to the other Region are blotted out of it.
type agentLog struct {
	region    string
	agent     store.AgentRow
	contacts  []store.Contact
	failovers []*failover.Failover // the latest first
	events    []store.LogEvent     // the oldest first
	cut       bool                 // there are more events
	now       time.Time
}

// logData is what the records of a log tell of an event's data.
type logData struct {
	ActiveRegion     *string  `json:"activeRegion"`
	NextActiveRegion string   `json:"nextActiveRegion"`
	PreviousRegion   string   `json:"previousRegion"`
	CancelledRegion  string   `json:"cancelledRegion"`
	State            string   `json:"state"`
	ContactIDs       []string `json:"contactIds"`
	Forced           bool     `json:"forced"`
	Evidence         string   `json:"evidence"`
	Code             string   `json:"code"`
	Message          string   `json:"message"`
}

func (l *agentLog) write() string {
	byID := make(map[string]*failover.Failover, len(l.failovers))
	own, other := make(map[string]bool), make(map[string]bool) // contacts by the Region that they belong to
	for _, c := range l.contacts {
		if l.home(&c) == l.region {
			own[c.ID] = true
		} else {
			other[c.ID] = true
		}
	}
	hold := func(f *failover.Failover, ids []string) {
		for _, id := range ids {
			if f != nil && f.From == l.region && !other[id] {
				own[id] = true
			} else if !own[id] {
				other[id] = true
			}
		}
	}
	for _, f := range l.failovers {
		byID[f.ID] = f
		hold(f, f.InitialContactIDs)
		hold(f, f.ContactIDs)
	}
	data := make([]logData, len(l.events))
	for i := range l.events {
		if err := json.Unmarshal(l.events[i].Data, &data[i]); err == nil { // else it is told without its data
			hold(byID[l.events[i].FailoverID], data[i].ContactIDs)
		}
	}
	var pairs []string
	for id := range other {
		if !own[id] {
			pairs = append(pairs, id, "(contact of the other Region)")
		}
	}
	blot := strings.NewReplacer(pairs...)
	mine := func(ids []string) []string {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !own[id] })
	}

	var b strings.Builder
	fmt.Fprintf(&b, "# Changeover agent log\n# agent %s, Region %s, failover group %s, written %s\n",
		quote(l.agent.AgentID), l.region, quote(l.agent.Group), failover.FormatTime(l.now))
	fmt.Fprintf(&b, "# Records name contacts of this Region only.\n")

	b.WriteString("\n# Failovers from or to this Region, the oldest first\n")
	for _, f := range slices.Backward(l.failovers) {
		if f.From != l.region && f.To != l.region {
			continue
		}
		rec := newRecord(f.DetectedAt, "failover")
		rec.add("failoverId", f.ID).add("from", f.From).add("to", f.To).add("status", string(f.Status)).add("cause", string(f.Cause))
		rec.at("pendingAt", f.PendingAt).at("completedAt", f.CompletedAt).at("cancelledAt", f.CancelledAt).at("confirmedAt", f.ConfirmedAt).at("stalledAt", f.StalledAt)
		rec.add("evidence", string(f.Evidence))
		if f.Forced {
			rec.add("forced", "true").add("forcedBy", f.ForcedBy)
		}
		if f.From == l.region {
			rec.list("initialContactIds", mine(f.InitialContactIDs)).list("contactIds", mine(f.ContactIDs)).add("forcedReason", f.ForcedReason)
		}
		b.WriteString(rec.line(blot))
	}

	b.WriteString("\n# Events, the oldest first, as far back as they are kept\n")
	for i := range l.events {
		e, d := &l.events[i], &data[i]
		f := byID[e.FailoverID]
		if !l.concerns(e, d, f) {
			continue
		}
		rec := newRecord(e.Time, string(e.Type))
		rec.add("failoverId", e.FailoverID)
		if f != nil {
			rec.add("from", f.From).add("to", f.To)
		}
		rec.add("activeRegion", value(d.ActiveRegion)).add("nextActiveRegion", d.NextActiveRegion).add("previousRegion", d.PreviousRegion)
		rec.add("cancelledRegion", d.CancelledRegion).add("state", d.State).add("evidence", d.Evidence)
		if d.Forced {
			rec.add("forced", "true")
		}
		rec.list("contactIds", mine(d.ContactIDs)).add("code", d.Code).add("message", d.Message)
		b.WriteString(rec.line(blot))
	}
	if l.cut {
		fmt.Fprintf(&b, "# the log ends here after %d events; there are later ones\n", len(l.events))
	}

	b.WriteString("\n# Open contacts of this Region, as last seen\n")
	for i := range l.contacts {
		c := &l.contacts[i]
		if l.home(c) != l.region {
			continue
		}
		rec := newRecord(c.ObservedAt, "contact")
		rec.add("contactId", c.ID).add("channel", c.Channel).add("state", c.State).at("stateSince", c.StateSince)
		rec.add("blocking", strconv.FormatBool(c.Blocking)).add("surfaced", strconv.FormatBool(c.Surfaced)).at("staleSince", c.StaleSince)
		b.WriteString(rec.line(blot))
	}
	return b.String()
}

// home is the Region whose log a contact belongs to.
func (l *agentLog) home(c *store.Contact) string {
	switch {
	case c.Region != "":
		return c.Region
	case c.ListRegion != "":
		return c.ListRegion
	}
	return l.agent.ActiveRegion
}

// concerns says whether an event belongs into the Region's log.
func (l *agentLog) concerns(e *store.LogEvent, d *logData, f *failover.Failover) bool {
	named := []string{value(d.ActiveRegion), d.NextActiveRegion, d.PreviousRegion, d.CancelledRegion}
	if f != nil {
		named = []string{f.From, f.To}
	} else if e.FailoverID != "" {
		return true // of a failover that is not at hand: without its contacts it is nobody's secret
	}
	named = slices.DeleteFunc(named, func(region string) bool { return region == "" })
	return len(named) == 0 || slices.Contains(named, l.region)
}

// record is a line of the log: time, kind, key=value.
type record struct{ b strings.Builder }

func newRecord(at time.Time, kind string) *record {
	r := &record{}
	r.b.WriteString(failover.FormatTime(at) + " " + quote(kind))
	return r
}

// add adds a field that is not empty.
func (r *record) add(key, value string) *record {
	if value != "" {
		r.b.WriteString(" " + key + "=" + quote(value))
	}
	return r
}

func (r *record) at(key string, t time.Time) *record {
	if t.IsZero() {
		return r
	}
	return r.add(key, failover.FormatTime(t))
}

func (r *record) list(key string, values []string) *record {
	if len(values) == 0 {
		return r
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	r.b.WriteString(" " + key + "=" + strings.Join(quoted, ","))
	return r
}

func (r *record) line(blot *strings.Replacer) string { return blot.Replace(r.b.String()) + "\n" }

// quote keeps a value in its place: whatever somebody wrote cannot end the line, begin another field, or leave ASCII.
func quote(s string) string {
	plain := !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=' || c == ','
	})
	if plain {
		return s
	}
	return strconv.QuoteToASCII(s)
}
