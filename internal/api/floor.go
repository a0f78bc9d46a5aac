package api

import (
	"context"
	"slices"
	"strconv"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// GetSummary implements GET /v1/summary. Groups that are configured are there without agents too.
func (s *Server) GetSummary(ctx context.Context, _ contract.GetSummaryRequestObject) (contract.GetSummaryResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stored, err := s.store.Summary(ctx)
	if err != nil {
		return nil, err
	}
	items := make([]contract.GroupSummary, len(s.names))
	for i, name := range s.names {
		g := store.GroupSummary{Group: name}
		if j := slices.IndexFunc(stored, func(g store.GroupSummary) bool { return g.Group == name }); j >= 0 {
			g = stored[j]
		}
		items[i] = groupSummary(&g)
	}
	return contract.GetSummary200JSONResponse{Items: items}, nil
}

func groupSummary(g *store.GroupSummary) contract.GroupSummary {
	out := contract.GroupSummary{
		FailoverGroup: g.Group, Stale: g.Stale, Pause: pause(g.Pause), Held: g.Held, OldestPendingAt: moment(g.OldestPending), ByActiveRegion: []contract.RegionCount{},
		Shifts: each(g.Shifts, func(s *store.Shift) contract.Shift {
			return contract.Shift{
				ShiftID: shiftID(s.ID), TdgID: s.TDG, Agent: shares(s.Agents), StartedAt: utc(s.Since), Failovers: s.Failovers, Detected: s.Detected,
				Pending: s.Pending, Completed: s.Completed, Cancelled: s.Cancelled, Forced: s.Forced, Stalled: s.Stalled,
			}
		}),
	}
	for _, c := range g.Agents {
		out.Agents += c.Agents
		switch c.State {
		case failover.AgentUnknown:
			out.ByState.Unknown += c.Agents
		case failover.AgentActive:
			out.ByState.Active += c.Agents
		case failover.AgentDetected:
			out.ByState.Detected += c.Agents
		case failover.AgentPending:
			out.ByState.Pending += c.Agents
		}
		out.ByActiveRegion = append(out.ByActiveRegion, contract.RegionCount{
			ActiveRegion: text(c.Region), State: contract.AgentState(c.State), Count: c.Agents,
		})
	}
	out.Detected, out.Pending = out.ByState.Detected, out.ByState.Pending
	return out
}

func shiftID(id int64) *string {
	if id == 0 {
		return nil
	}
	s := strconv.FormatInt(id, 10)
	return &s
}

// ListConnections implements GET /v1/connections.
func (s *Server) ListConnections(ctx context.Context, r contract.ListConnectionsRequestObject) (contract.ListConnectionsResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	connections, next, err := s.store.Connections(ctx, value(r.Params.AgentID), page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListConnections200JSONResponse{
		Items: each(connections, func(c *store.Connection) contract.Connection {
			return contract.Connection{
				ConnectionID: c.ID, AgentID: text(c.AgentID), Replica: c.Replica, Since: utc(c.Since),
				LastEventID: text(c.LastEventID), RemoteAddress: c.RemoteAddr,
			}
		}),
		NextCursor: text(next),
	}, nil
}
