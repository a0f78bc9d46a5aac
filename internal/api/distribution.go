package api

import (
	"context"
	"slices"
	"strings"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// ListFailoverGroups implements GET /v1/failover-groups. There are few, and they are configured: paging is by name, here.
func (s *Server) ListFailoverGroups(ctx context.Context, r contract.ListFailoverGroupsRequestObject) (contract.ListFailoverGroupsResponseObject, error) {
	names := s.names
	if cursor := value(r.Params.Cursor); cursor != "" {
		after, ok := strings.CutPrefix(cursor, groupsCursor)
		if !ok {
			return nil, errBadCursor
		}
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		names = names[i:]
	}
	var next *string
	if limit := value(r.Params.Limit); limit > 0 && len(names) > limit {
		names = names[:limit]
		cursor := groupsCursor + names[limit-1]
		next = &cursor
	}
	groups, err := s.failoverGroups(ctx, names)
	if err != nil {
		return nil, err
	}
	return contract.ListFailoverGroups200JSONResponse{Items: groups, NextCursor: next}, nil
}

const groupsCursor = "groups."

// GetFailoverGroup implements GET /v1/failover-groups/{name}.
func (s *Server) GetFailoverGroup(ctx context.Context, r contract.GetFailoverGroupRequestObject) (contract.GetFailoverGroupResponseObject, error) {
	if s.groups[r.Name] == nil {
		return nil, notFound("failover group", r.Name)
	}
	groups, err := s.failoverGroups(ctx, []string{r.Name})
	if err != nil {
		return nil, err
	}
	return contract.GetFailoverGroup200JSONResponse(groups[0]), nil
}

// failoverGroups shows configured groups with what the leader last said of them; while the database is away, with what it
// said when it was last read.
func (s *Server) failoverGroups(ctx context.Context, names []string) ([]contract.FailoverGroup, error) {
	seen, err := s.health.read(ctx, s.store)
	if err != nil && !unavailable(err) {
		return nil, err
	}
	out := make([]contract.FailoverGroup, len(names))
	for i, name := range names {
		g := s.groups[name]
		out[i] = contract.FailoverGroup{
			Name: name, Routing: contract.FailoverGroupRouting(g.Routing), ConfigureErrors: each(seen.setup[name], setupError),
			Pause: pause(seen.pauses[name]),
		}
		for j, in := range g.Instances {
			out[i].Instances = append(out[i].Instances, contract.Instance{
				Region: in.Region, InstanceID: in.InstanceID, CcpURL: text(in.CCPURL), Source: j == 0,
			})
			out[i].Health = append(out[i].Health, regionHealth(in.Region, seen.regions[regionKey{name, in.Region}]))
		}
	}
	return out, nil
}

func regionHealth(region string, h store.RegionHealth) contract.RegionHealth {
	return contract.RegionHealth{
		Region: region, State: healthState(h.State), Since: moment(h.Since), LastSuccess: moment(h.LastSuccess),
		LastError: text(h.LastError), LastErrorAt: moment(h.LastErrorAt), ObservedAt: moment(h.UpdatedAt),
	}
}

func healthState(state string) contract.HealthState {
	if s := contract.HealthState(state); s.Valid() {
		return s
	}
	return contract.HealthStateUnknown
}

// ListTrafficDistributionGroups implements GET /v1/traffic-distribution-groups.
func (s *Server) ListTrafficDistributionGroups(ctx context.Context, r contract.ListTrafficDistributionGroupsRequestObject) (contract.ListTrafficDistributionGroupsResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	tdgs, next, err := s.store.TDGs(ctx, s.configured(value(r.Params.FailoverGroup)), page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListTrafficDistributionGroups200JSONResponse{Items: each(tdgs, pointed(tdgOf)), NextCursor: text(next)}, nil
}

// configured are the failover groups whose agents and traffic distribution groups are shown: the one that was asked for, or all. What is
// stored of a group that is configured no more is nobody's present state; its failovers, events and audit stay, as history.
func (s *Server) configured(group string) []string {
	switch {
	case group == "":
		return s.names
	case s.groups[group] == nil:
		return []string{}
	}
	return []string{group}
}

func (s *Server) readTDG(ctx context.Context, id string) (*failover.TDG, error) {
	t, err := s.store.TDG(ctx, id)
	if isNotFound(err) {
		return nil, notFound("traffic distribution group", id)
	}
	return t, err
}

// GetTrafficDistributionGroup implements GET /v1/traffic-distribution-groups/{tdgId}.
func (s *Server) GetTrafficDistributionGroup(ctx context.Context, r contract.GetTrafficDistributionGroupRequestObject) (contract.GetTrafficDistributionGroupResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	t, err := s.readTDG(ctx, r.TdgID)
	if err != nil {
		return nil, err
	}
	return contract.GetTrafficDistributionGroup200JSONResponse(tdgOf(t)), nil
}

// ListDistributionChanges implements GET /v1/traffic-distribution-groups/{tdgId}/changes.
func (s *Server) ListDistributionChanges(ctx context.Context, r contract.ListDistributionChangesRequestObject) (contract.ListDistributionChangesResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	changes, next, err := s.store.Changes(ctx, r.TdgID, page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		if _, err := s.readTDG(ctx, r.TdgID); err != nil {
			return nil, err
		}
	}
	return contract.ListDistributionChanges200JSONResponse{
		Items: each(changes, func(c *store.Change) contract.Change {
			return contract.Change{
				TdgID: c.TDG, FailoverGroup: c.Group, Before: distributions(c.Before), After: distributions(c.After),
				ObservedAt: utc(c.ObservedAt), ObservedBy: c.ObservedBy, Conflict: c.Conflict,
			}
		}),
		NextCursor: text(next),
	}, nil
}
