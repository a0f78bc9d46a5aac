package api

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// page is what a list was asked for.
func page(limit *contract.Limit, cursor *contract.Cursor) store.Page {
	return store.Page{Limit: value(limit), Cursor: value(cursor)}
}

// ccpURL is the CCP of a failover group in a Region; nil if there is none.
func (s *Server) ccpURL(group, region string) *string {
	if g := s.groups[group]; g != nil {
		for _, i := range g.Instances {
			if i.Region == region {
				return text(i.CCPURL)
			}
		}
	}
	return nil
}

// regionsOf are the Regions of a failover group, in the order of the configuration; empty, and not nil, if there is no such group.
func (s *Server) regionsOf(group string) []string {
	regions := []string{}
	if g := s.groups[group]; g != nil {
		for _, i := range g.Instances {
			regions = append(regions, i.Region)
		}
	}
	return regions
}

func (s *Server) agentOf(a *store.AgentRow) contract.Agent {
	out := contract.Agent{
		AgentID: a.AgentID, Username: text(a.Username), FailoverGroup: a.Group, Regions: s.regionsOf(a.Group), TdgID: text(a.TDG),
		ActiveRegion: text(a.ActiveRegion), ActiveCcpURL: s.ccpURL(a.Group, a.ActiveRegion),
		ObservedAt: moment(a.ObservedAt), State: contract.AgentState(a.State),
		NextActiveRegion: text(a.NextActiveRegion), FailoverID: text(a.FailoverID), OpenContacts: &a.OpenContacts,
		Standby: standby(a.Standby), ConfigureErrors: each(a.Errors, setupError), Connections: a.Connections,
	}
	if a.RegionSource != failover.SourceNone {
		source := contract.RegionSource(a.RegionSource)
		out.RegionSource = &source
	}
	return out
}

// ListAgents implements GET /v1/agents.
func (s *Server) ListAgents(ctx context.Context, r contract.ListAgentsRequestObject) (contract.ListAgentsResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	p := r.Params
	f := store.AgentFilter{
		Group: value(p.FailoverGroup), Groups: s.configured(value(p.FailoverGroup)), TDG: value(p.TdgID), ActiveRegion: value(p.ActiveRegion), State: failover.AgentState(value(p.State)), Search: value(p.Search),
		ByName: value(p.Order) == contract.ListAgentsParamsOrderUsername,
	}
	var agents []store.AgentRow
	var next string
	var err error
	if p.Username != nil {
		agents, err = s.agentsNamed(ctx, *p.Username, f)
	} else {
		agents, next, err = s.store.Agents(ctx, f, page(p.Limit, p.Cursor))
	}
	if err != nil {
		return nil, err
	}
	return contract.ListAgents200JSONResponse{Items: each(agents, s.agentOf), NextCursor: text(next)}, nil
}

// agentsNamed finds the agents of a user name: at most one in each failover group, so there is one page of them.
func (s *Server) agentsNamed(ctx context.Context, username string, f store.AgentFilter) ([]store.AgentRow, error) {
	var found []store.AgentRow
	for _, group := range s.names {
		if f.Group != "" && f.Group != group {
			continue
		}
		a, err := s.store.AgentByUsername(ctx, group, username)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if (f.TDG == "" || f.TDG == a.TDG) && (f.ActiveRegion == "" || f.ActiveRegion == a.ActiveRegion) && (f.State == "" || f.State == a.State) && a.Matches(f.Search) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b store.AgentRow) int { return strings.Compare(a.AgentID, b.AgentID) })
	return found, nil
}

// GetAgent implements GET /v1/agents/{agentId}. While the database is away the answer comes from memory.
func (s *Server) GetAgent(ctx context.Context, r contract.GetAgentRequestObject) (contract.GetAgentResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	a, err := s.store.Agent(ctx, r.AgentID)
	switch {
	case isNotFound(err):
		return nil, notFound("agent", r.AgentID)
	case unavailable(err):
		if v, ok := s.hub.View(r.AgentID); ok {
			return contract.GetAgent200JSONResponse(s.agentOfView(&v)), nil
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	return contract.GetAgent200JSONResponse(s.agentOf(&a)), nil
}

func (s *Server) agentOfView(v *store.AgentView) contract.Agent {
	partial := true
	return contract.Agent{
		AgentID: v.AgentID, Username: text(v.Username), FailoverGroup: v.Group, Regions: s.regionsOf(v.Group), TdgID: text(v.TDG),
		ActiveRegion: text(v.ActiveRegion), ActiveCcpURL: s.ccpURL(v.Group, v.ActiveRegion), State: contract.AgentState(v.State),
		NextActiveRegion: text(v.NextActiveRegion), FailoverID: text(v.FailoverID),
		ConfigureErrors: each(v.Errors, setupError), Connections: s.hub.Connections(v.AgentID), Partial: &partial,
	}
}

// known says whether an agent was ever seen, from memory if it can.
func (s *Server) known(ctx context.Context, agentID string) (group string, err error) {
	if v, ok := s.hub.View(agentID); ok {
		return v.Group, nil
	}
	a, err := s.store.Agent(ctx, agentID)
	if isNotFound(err) {
		return "", notFound("agent", agentID)
	}
	return a.Group, err
}

// ListAgentContacts implements GET /v1/agents/{agentId}/contacts. An agent has few contacts, so they are read at once and
// paged here, by contact id.
func (s *Server) ListAgentContacts(ctx context.Context, r contract.ListAgentContactsRequestObject) (contract.ListAgentContactsResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	after, err := keyAfter(contactsCursor, value(r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	contacts, err := s.store.Contacts(ctx, r.AgentID)
	if err != nil {
		return nil, err
	}
	if len(contacts) == 0 {
		if _, err := s.known(ctx, r.AgentID); err != nil {
			return nil, err
		}
	}
	contacts = slices.DeleteFunc(contacts, func(c store.Contact) bool { return contactKey(&c) <= after })
	var next *string
	if limit := value(r.Params.Limit); limit > 0 && len(contacts) > limit {
		contacts = contacts[:limit]
		cursor := contactsCursor + base64.RawURLEncoding.EncodeToString([]byte(contactKey(&contacts[limit-1])))
		next = &cursor
	}
	return contract.ListAgentContacts200JSONResponse{
		Items: each(contacts, func(c *store.Contact) contract.Contact { return contactOf(r.AgentID, c) }), NextCursor: next,
	}, nil
}

const contactsCursor = "contacts." // begins the cursors of this list; the store's contain no dot

// contactKey orders contacts as the store does: by id, then by the Region in whose list they are.
func contactKey(c *store.Contact) string { return c.ID + "\x00" + c.ListRegion }

// keyAfter is the key in the cursor of a list that is paged here, whose cursors begin with prefix.
func keyAfter(prefix, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	encoded, ok := strings.CutPrefix(cursor, prefix)
	key, err := base64.RawURLEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) == 0 {
		return "", errBadCursor
	}
	return string(key), nil
}

func contactOf(agentID string, c *store.Contact) contract.Contact {
	return contract.Contact{
		ContactID: c.ID, AgentID: agentID, Region: text(c.Region), Channel: c.Channel, State: c.State, StateSince: moment(c.StateSince),
		Blocking: c.Blocking, Surfaced: c.Surfaced, ObservedAt: utc(c.ObservedAt), Stale: !c.StaleSince.IsZero(),
	}
}

// ReportObservation implements POST /v1/agents/{agentId}/reports.
func (s *Server) ReportObservation(ctx context.Context, r contract.ReportObservationRequestObject) (contract.ReportObservationResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	group, err := s.known(ctx, r.AgentID)
	if err != nil {
		return nil, err
	}
	if err := s.checkRegions(group, r.Body); err != nil {
		return nil, err
	}
	now := time.Now()
	if _, err := s.submit(ctx, store.CommandReport, reportOf(r.AgentID, r.Body, now), "agents/"+r.AgentID, "", callOf(ctx).body, nil); err != nil {
		return nil, err
	}
	return contract.ReportObservation202JSONResponse{ReceivedAt: utc(now)}, nil
}

// checkRegions refuses a report that names a Region which the agent's failover group does not have: the core would have no
// use for it, and the desktop would never learn that it is set up wrongly.
func (s *Server) checkRegions(group string, b *contract.Report) error {
	g := s.groups[group]
	if g == nil {
		return nil // configured no more; the leader decides
	}
	var faults []contract.FieldError
	check := func(field string, region *string) {
		if region != nil && !slices.ContainsFunc(g.Instances, func(i Instance) bool { return i.Region == *region }) {
			faults = append(faults, contract.FieldError{
				Field: field, In: contract.FieldErrorInBody, Message: "is not a Region of the failover group " + group,
			})
		}
	}
	check("activeRegion", b.ActiveRegion)
	check("nextActiveRegion", b.NextActiveRegion.Value)
	check("contactsRegion", b.ContactsRegion)
	if b.Standby != nil {
		check("standby.region", &b.Standby.Region)
	}
	if faults != nil {
		return invalid(faults...)
	}
	return nil
}

// reportOf is the report as the core takes it; now counts as the time of what was seen, because desktops' clocks are not trusted.
func reportOf(agentID string, b *contract.Report, now time.Time) failover.Report {
	out := failover.Report{
		AgentID: agentID, At: now, ActiveRegion: value(b.ActiveRegion), NextActiveRegion: value(b.NextActiveRegion.Value),
		ClearNext:   b.NextActiveRegion.Set && b.NextActiveRegion.Value == nil,
		HasContacts: b.Contacts != nil, ContactsRegion: value(b.ContactsRegion), HasConfigError: b.ConfigureError.Set,
	}
	for _, c := range b.Contacts {
		out.Contacts = append(out.Contacts, failover.ReportedContact{ContactID: c.ContactID, Channel: c.Channel, State: c.State})
	}
	if s := b.Standby; s != nil {
		out.Standby = &failover.Standby{Region: s.Region, Ready: s.Ready, Reason: value(s.Reason), ReportedAt: now}
	}
	if e := b.ConfigureError.Value; e != nil {
		out.ConfigCode, out.ConfigMessage = string(e.Code), e.Message
	}
	return out
}
