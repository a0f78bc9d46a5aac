package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// defaultDrill is how many seconds a drill lasts at most if it is not said, as the document has it.
const defaultDrill = 600

// StartDrill implements POST /v1/failover-groups/{name}/drills.
func (s *Server) StartDrill(ctx context.Context, r contract.StartDrillRequestObject) (contract.StartDrillResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	b, details, target := r.Body, callOf(ctx).body, "failover-groups/"+r.Name
	if s.groups[r.Name] == nil {
		return nil, s.refuse(ctx, target, b.Reason, details, notFound("failover group", r.Name))
	}
	// The leader could not write it down on the schema of the version before.
	if _, _, err := s.store.Drills(ctx, r.Name, store.Page{Limit: 1}); err != nil {
		return nil, err
	}
	o := failover.StartDrill{
		DrillID: uuid.Must(uuid.NewV7()).String(), Group: r.Name, TTL: time.Duration(defaulted(b.TTLSeconds, defaultDrill)) * time.Second,
		By: callOf(ctx).identity.Subject, Reason: b.Reason,
	}
	for _, id := range b.AgentIds {
		o.AgentIDs = append(o.AgentIDs, s.canonical(ctx, id, ""))
	}
	id, err := s.submit(ctx, store.CommandDrill, o, target, b.Reason, details, nil)
	if err != nil {
		return nil, err
	}
	asked := &failover.Drill{ID: o.DrillID, Group: o.Group, By: o.By, Reason: o.Reason}
	result, answered := s.await(ctx, id)
	if !answered {
		return contract.StartDrill202JSONResponse(drillOf(asked)), nil
	}
	if result.Outcome != failover.OutcomeDone {
		return nil, s.refuse(ctx, target, b.Reason, details, problemf(kindRefused, "%s", result.Detail))
	}
	asked.ID = result.Detail
	d, err := s.store.Drill(ctx, asked.ID)
	if err != nil { // it has begun, so this is no error
		s.log.WarnContext(ctx, "drill not read after it has begun, it is shown as it was asked for", "drill_id", asked.ID, "error", err)
		d = asked
	}
	out := drillOf(d)
	s.record(ctx, target, b.Reason, nil, map[string]string{"drillId": d.ID})
	return contract.StartDrill202JSONResponse(out), nil
}

// ListDrills implements GET /v1/drills.
func (s *Server) ListDrills(ctx context.Context, r contract.ListDrillsRequestObject) (contract.ListDrillsResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	drills, next, err := s.store.Drills(ctx, value(r.Params.FailoverGroup), page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListDrills200JSONResponse{Items: each(drills, pointed(drillOf)), NextCursor: text(next)}, nil
}

// GetDrill implements GET /v1/drills/{drillId}.
func (s *Server) GetDrill(ctx context.Context, r contract.GetDrillRequestObject) (contract.GetDrillResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	d, err := s.store.Drill(ctx, r.DrillID)
	if isNotFound(err) {
		return nil, notFound("drill", r.DrillID)
	}
	if err != nil {
		return nil, err
	}
	return contract.GetDrill200JSONResponse(drillOf(d)), nil
}

func drillOf(d *failover.Drill) contract.Drill {
	out := contract.Drill{
		DrillID: d.ID, FailoverGroup: d.Group, By: d.By, Reason: d.Reason, StartedAt: moment(d.StartedAt), Until: moment(d.Until), EndedAt: moment(d.EndedAt),
		Agents: each(d.Agents, func(p *failover.DrillAgent) contract.DrillAgent {
			return contract.DrillAgent{
				AgentID: p.AgentID, Username: text(p.Username), FromRegion: text(p.From), ToRegion: text(p.To), Outcome: contract.DrillOutcome(p.Outcome), Detail: text(p.Detail),
				Streaming: p.Streaming, StandbyReady: p.Standby, ContactIds: orEmpty(p.ContactIDs), PendingAt: moment(p.PendingAt),
				CompletedAt: moment(p.CompletedAt), CancelledAt: moment(p.CancelledAt),
			}
		}),
	}
	for i := range d.Agents {
		p := &d.Agents[i]
		switch p.Outcome {
		case failover.DrillDetected:
			out.Counts.Detected++
		case failover.DrillPending:
			out.Counts.Pending++
		case failover.DrillCompleted:
			out.Counts.Completed++
		case failover.DrillCancelled:
			out.Counts.Cancelled++
		case failover.DrillSkipped:
			out.Counts.Skipped++
			continue
		}
		if !p.Streaming {
			out.Counts.NotStreaming++
		}
		if p.Standby != nil && !*p.Standby {
			out.Counts.StandbyNotReady++
		}
	}
	return out
}
