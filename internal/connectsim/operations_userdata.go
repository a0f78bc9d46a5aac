package connectsim

import (
	"fmt"
	"slices"
	"sort"
)

type reference struct {
	ID  string `json:"Id"`
	Arn string
}

type contactOut struct {
	ContactID                 string `json:"ContactId"`
	Channel                   string
	InitiationMethod          string
	AgentContactState         string
	StateStartTimestamp       epoch
	ConnectedToAgentTimestamp *epoch `json:",omitempty"`
	Queue                     reference
}

type userDataOut struct {
	User           reference
	RoutingProfile reference
	HierarchyPath  struct{ LevelOne reference }
	Status         struct {
		StatusStartTimestamp epoch
		StatusArn            string
		StatusName           string
	}
	AvailableSlotsByChannel map[string]int
	MaxSlotsByChannel       map[string]int
	ActiveSlotsByChannel    map[string]int
	Contacts                []contactOut
}

// sees says whether a Region shows a contact: its own, or with a global view those of every Region whose contacts
// can be had. The administrator guide says that contact details may be unavailable while their Region is impaired.
func (s *Sim) sees(region int, c *contact) bool {
	if s.cfg.View == Regional {
		return c.region == region
	}
	return s.down[c.region] == Up
}

// statusIn is the status of an agent as the Region shows it, and whether it shows the agent at all.
func (s *Sim) statusIn(region int, a *agent) (status string, shown bool) {
	status = a.status
	if s.cfg.View == Regional && a.region != region {
		status = StatusOffline
	}
	if status != StatusOffline || s.cfg.ShowOffline {
		return status, true
	}
	return status, slices.ContainsFunc(a.contacts, func(c *contact) bool { return s.sees(region, c) })
}

// scan visits the agents of the sources from a place on, until visit says false.
func scan(sources [][]*agent, rank, after int, visit func(rank int, a *agent) bool) {
	for ; rank < len(sources); rank++ {
		list := sources[rank]
		for _, a := range list[sort.Search(len(list), func(i int) bool { return list[i].seq > after }):] {
			if !visit(rank, a) {
				return
			}
		}
		after = -1
	}
}

func getCurrentUserData(s *Sim, r *request, emptyPages bool) (any, error) {
	var in struct {
		Filters *struct {
			Queues, RoutingProfiles, Agents, UserHierarchyGroups []string
			ContactFilter                                        *struct{ ContactStates []string }
		}
		NextToken  string
		MaxResults *int
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if err := s.instance(r.label["InstanceId"]); err != nil {
		return nil, err
	}
	limit, err := bodyLimit(in.MaxResults, 100)
	if err != nil {
		return nil, err
	}
	if in.Filters == nil {
		return nil, invalidRequest("Filters is required.")
	}
	f := in.Filters
	given, kind, ids := 0, "", []string(nil)
	for _, o := range []struct {
		kind string
		ids  []string
		max  int
	}{{"Queues", f.Queues, 100}, {"RoutingProfiles", f.RoutingProfiles, 100}, {"Agents", f.Agents, 100}, {"UserHierarchyGroups", f.UserHierarchyGroups, 1}} {
		if o.ids == nil {
			continue
		}
		if len(o.ids) < 1 || len(o.ids) > o.max {
			return nil, invalidParameter(fmt.Sprintf("%s: expected 1 to %d values, got %d.", o.kind, o.max, len(o.ids)))
		}
		given++
		kind, ids = o.kind, o.ids
	}
	// "A maximum of one filter"; what none gives is not documented, and the simulator refuses to guess.
	if given != 1 {
		return nil, invalidParameter(fmt.Sprintf("Exactly one of Queues, RoutingProfiles, Agents and UserHierarchyGroups is expected, got %d.", given))
	}
	var states []string
	if f.ContactFilter != nil {
		states = f.ContactFilter.ContactStates
		for _, st := range states {
			if !slices.Contains(contactStates, st) {
				return nil, invalidParameter(fmt.Sprintf("ContactStates: %q is not a contact state.", st))
			}
		}
		if len(states) > 9 {
			return nil, invalidParameter("ContactStates: expected up to 9.")
		}
	}
	tok, err := readToken(in.NextToken, question(append(append([]string{r.op.name, kind}, ids...), append([]string{"/"}, states...)...)...), invalidParameter)
	if err != nil {
		return nil, err
	}

	wanted := func(a *agent) bool {
		if _, shown := s.statusIn(r.region, a); !shown {
			return false
		}
		return len(states) == 0 || slices.ContainsFunc(a.contacts, func(c *contact) bool {
			return s.sees(r.region, c) && slices.Contains(states, c.state)
		})
	}
	sources := s.sources(r.region, kind, ids)
	if in.NextToken == "" {
		scan(sources, 0, -1, func(_ int, a *agent) bool {
			if wanted(a) {
				tok.Total++
			}
			return true
		})
	}
	out := struct {
		NextToken             *string `json:",omitempty"`
		ApproximateTotalCount int64
		UserDataList          []userDataOut
	}{ApproximateTotalCount: tok.Total, UserDataList: make([]userDataOut, 0, limit)}
	if emptyPages && !tok.Empty {
		tok.Empty = true
		text := tok.String()
		out.NextToken = &text
		return out, nil
	}
	tok.Empty = false
	last := tok
	scan(sources, tok.Rank, tok.After, func(rank int, a *agent) bool {
		if !wanted(a) {
			return true
		}
		if len(out.UserDataList) == limit {
			text := last.String()
			out.NextToken = &text
			return false
		}
		u := s.userData(r.region, a)
		if len(u.Contacts) > 0 {
			r.busy = append(r.busy, a.ids[r.region])
		}
		out.UserDataList = append(out.UserDataList, u)
		last.Rank, last.After = rank, a.seq
		return true
	})
	return out, nil
}

// sources are the agents that a filter names. What is not known, or has the ARN of the other Region, names nobody;
// whether Amazon Connect refuses it is not documented.
func (s *Sim) sources(region int, kind string, ids []string) [][]*agent {
	var out [][]*agent
	seen := make(map[string]bool, len(ids))
	var agents []*agent
	for _, id := range ids {
		switch kind {
		case "Queues":
			id = bareID(s.resourceARN(region, "queue", ""), id)
			if p := s.queueIDs[id]; p != nil && !seen[id] {
				out = append(out, p.agents)
			}
		case "RoutingProfiles":
			id = bareID(s.resourceARN(region, "routing-profile", ""), id)
			if p := s.profileIDs[id]; p != nil && !seen[id] {
				out = append(out, p.agents)
			}
		case "Agents":
			a := s.userOf(region, id)
			if a != nil && !seen[a.ids[region]] {
				id = a.ids[region]
				agents = append(agents, a)
			}
		case "UserHierarchyGroups":
			id = bareID(s.resourceARN(region, "agent-group", ""), id)
			if g, ok := s.groupIDs[id]; ok {
				for _, a := range s.agents {
					if a.group == g {
						agents = append(agents, a)
					}
				}
			}
		}
		seen[id] = true
	}
	if agents != nil {
		sort.Slice(agents, func(i, j int) bool { return agents[i].seq < agents[j].seq })
		out = append(out, agents)
	}
	return out
}

func (s *Sim) userData(region int, a *agent) userDataOut {
	status, _ := s.statusIn(region, a)
	u := userDataOut{
		User:                    reference{a.ids[region], s.resourceARN(region, "agent", a.ids[region])},
		RoutingProfile:          reference{a.profile.id, s.resourceARN(region, "routing-profile", a.profile.id)},
		MaxSlotsByChannel:       slots,
		ActiveSlotsByChannel:    map[string]int{},
		AvailableSlotsByChannel: map[string]int{},
		Contacts:                []contactOut{},
	}
	g := s.groupNames[a.group]
	u.HierarchyPath.LevelOne = reference{g, s.resourceARN(region, "agent-group", g)}
	u.Status.StatusName = status
	u.Status.StatusStartTimestamp = epoch(s.time(a.statusSince))
	u.Status.StatusArn = s.resourceARN(region, "agent-state", s.statusID(status))
	for _, c := range a.contacts {
		if !s.sees(region, c) {
			continue
		}
		u.ActiveSlotsByChannel[c.channel]++
		u.Contacts = append(u.Contacts, contactOut{
			ContactID: c.id, Channel: c.channel, InitiationMethod: c.method, AgentContactState: c.state,
			StateStartTimestamp: epoch(s.time(c.stateSince)), ConnectedToAgentTimestamp: s.epochOf(c.connectedAt),
			Queue: reference{a.profile.queueID, s.resourceARN(region, "queue", a.profile.queueID)},
		})
	}
	for ch, n := range slots {
		if status == StatusAvailable {
			n = max(n-u.ActiveSlotsByChannel[ch], 0)
		} else {
			n = 0
		}
		u.AvailableSlotsByChannel[ch] = n
	}
	return u
}
