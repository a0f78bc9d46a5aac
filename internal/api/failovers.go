package api

import (
	"context"
	"errors"
	"time"

	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// ListFailovers implements GET /v1/failovers.
func (s *Server) ListFailovers(ctx context.Context, r contract.ListFailoversRequestObject) (contract.ListFailoversResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	p := r.Params
	failovers, next, err := s.store.Failovers(ctx, store.FailoverFilter{
		Group: value(p.FailoverGroup), TDG: value(p.TdgID), AgentID: value(p.AgentID), Status: failover.Status(value(p.Status)),
		FromRegion: value(p.FromRegion), ToRegion: value(p.ToRegion), Since: value(p.Since),
	}, page(p.Limit, p.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListFailovers200JSONResponse{Items: each(failovers, pointed(failoverOf)), NextCursor: text(next)}, nil
}

// pointed lets each take a list of pointers.
func pointed[A, B any](f func(*A) B) func(**A) B { return func(p **A) B { return f(*p) } }

// readFailover reads a failover that the caller may see.
func (s *Server) readFailover(ctx context.Context, id string) (*failover.Failover, error) {
	f, err := s.store.Failover(ctx, id)
	if isNotFound(err) || (err == nil && !callOf(ctx).own(f.AgentID)) {
		return nil, notFound("failover", id)
	}
	return f, err
}

// GetFailover implements GET /v1/failovers/{failoverId}.
func (s *Server) GetFailover(ctx context.Context, r contract.GetFailoverRequestObject) (contract.GetFailoverResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	f, err := s.readFailover(ctx, r.FailoverID)
	if err != nil {
		return nil, err
	}
	return contract.GetFailover200JSONResponse(failoverOf(f)), nil
}

// ForceFailover implements POST /v1/failovers/{failoverId}/force.
func (s *Server) ForceFailover(ctx context.Context, r contract.ForceFailoverRequestObject) (contract.ForceFailoverResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	target, reason := "failovers/"+clip(r.FailoverID), r.Body.Reason
	f, err := s.readFailover(ctx, r.FailoverID)
	if missing := (*problem)(nil); errors.As(err, &missing) {
		return nil, s.refuse(ctx, target, reason, nil, missing)
	}
	if err != nil {
		return nil, err
	}
	if !f.Open() {
		return nil, s.refuse(ctx, target, reason, nil, notOpen(f))
	}
	before := failoverOf(f)
	id, err := s.submit(ctx, store.CommandForce, failover.Force{FailoverID: f.ID, By: callOf(ctx).identity.Subject, Reason: reason}, target, reason, nil, before)
	if err != nil {
		return nil, err
	}
	result, answered := s.await(ctx, id)
	// How it stands now. Without an answer of the database, as it stood: the command is taken, so this is no error.
	if now, err := s.store.Failover(ctx, f.ID); err == nil {
		f = now
	} else {
		s.log.WarnContext(ctx, "failover not read again after a force, it is shown as it was", "failover_id", f.ID, "error", err)
	}
	if answered {
		switch result.Outcome {
		case failover.OutcomeConflict:
			return nil, s.refuse(ctx, target, reason, nil, notOpen(f))
		case failover.OutcomeNotFound:
			return nil, s.refuse(ctx, target, reason, nil, notFound("failover", f.ID))
		case failover.OutcomeRefused:
			return nil, s.refuse(ctx, target, reason, nil, problemf(kindRefused, "%s", result.Detail))
		case failover.OutcomeDone:
			s.record(ctx, target, reason, before, failoverOf(f))
		}
	}
	return contract.ForceFailover202JSONResponse(failoverOf(f)), nil
}

// ListOpenFailovers implements GET /v1/open-failovers.
func (s *Server) ListOpenFailovers(ctx context.Context, r contract.ListOpenFailoversRequestObject) (contract.ListOpenFailoversResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	p := r.Params
	open, totals, next, err := s.store.OpenFailovers(ctx, store.OpenFilter{
		Group: value(p.FailoverGroup), TDG: value(p.TdgID), FromRegion: value(p.FromRegion), Status: failover.Status(value(p.Status)),
		Channel: value(p.Channel), Phase: string(value(p.Phase)), Stale: p.Stale, Order: string(value(p.Order)),
	}, page(p.Limit, p.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListOpenFailovers200JSONResponse{
		Totals: contract.OpenFailoverTotals{Failovers: totals.Failovers, Pending: totals.Pending, Live: totals.Live, AfterContactWork: totals.AfterContactWork},
		Items: each(open, func(f *store.OpenFailover) contract.OpenFailover {
			return contract.OpenFailover{
				FailoverID: f.ID, AgentID: f.AgentID, Username: text(f.Username), FailoverGroup: f.Group, TdgID: text(f.TDG), FromRegion: f.From, ToRegion: f.To,
				Status: contract.OpenFailoverStatus(f.Status), DetectedAt: utc(f.DetectedAt), PendingAt: moment(f.PendingAt), StaleSince: moment(f.StaleSince),
				Contacts: each(f.Contacts, func(c *store.HoldingContact) contract.PlannedContact {
					return contract.PlannedContact{ContactID: c.ID, Channel: c.Channel, State: c.State, StateSince: moment(c.Since)}
				}),
			}
		}),
		NextCursor: text(next),
	}, nil
}

func notOpen(f *failover.Failover) *problem {
	return problemf(kindNotOpen, "The failover is %s; only a detected or pending one can be forced.", f.Status)
}

// operatorsFraction of a failover group's agents is what operators may force in bulk within ten minutes, as the document has it.
const operatorsFraction = 0.2

// ForceFailovers implements POST /v1/failovers/force.
func (s *Server) ForceFailovers(ctx context.Context, r contract.ForceFailoversRequestObject) (contract.ForceFailoversResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	b, details := r.Body, callOf(ctx).body
	target := "failover-groups/" + b.FailoverGroup
	if s.groups[b.FailoverGroup] == nil {
		return nil, s.refuse(ctx, target, b.Reason, details, notFound("failover group", b.FailoverGroup))
	}
	fraction := defaulted(b.MaxFraction, operatorsFraction)
	if fraction > operatorsFraction && !callOf(ctx).identity.Has(auth.Admin) {
		return nil, s.refuse(ctx, target, b.Reason, details,
			problemf(kindForbidden, "More than a maxFraction of %g takes the role admin.", operatorsFraction))
	}
	o := failover.BulkForce{
		Group: b.FailoverGroup, TDG: value(b.TdgID), From: value(b.FromRegion), OnlyStale: value(b.OnlyStale), OnlyFresh: value(b.OnlyFresh),
		Status: failover.Status(value(b.Status)), Channel: value(b.Channel), Phase: failover.Phase(value(b.Phase)),
		By: callOf(ctx).identity.Subject, Reason: b.Reason, MaxPerSecond: value(b.MaxPerSecond), MaxFraction: fraction, FailoverIDs: b.FailoverIds,
	}
	id, err := s.submit(ctx, store.ForceKind(&o), o, target, b.Reason, details, nil)
	if err != nil {
		return nil, err
	}
	result, answered := s.await(ctx, id)
	if !answered {
		return contract.ForceFailovers202JSONResponse{}, nil
	}
	switch result.Outcome {
	case failover.OutcomeRefused, failover.OutcomeConflict:
		return nil, s.refuse(ctx, target, b.Reason, details, problemf(kindRefused, "%s", result.Detail))
	case failover.OutcomeNotFound:
		return nil, s.refuse(ctx, target, b.Reason, details, notFound("failover group", b.FailoverGroup))
	case failover.OutcomeDone:
	}
	done := contract.ForceFailovers202JSONResponse{Matched: &result.Matched, Forced: &result.Forced}
	s.record(ctx, target, b.Reason, nil, done)
	return done, nil
}

const (
	answerWait = 2 * time.Second        // for the leader's answer to a command
	answerPoll = 250 * time.Millisecond // looks for it that often without a doorbell
)

// await waits for the leader's answer to a command. False: there is none yet, or the database cannot tell it; the command
// stands in both cases, and what follows from it is told by events.
func (s *Server) await(ctx context.Context, command int64) (failover.Result, bool) {
	deadline, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	poll := time.NewTicker(answerPoll)
	defer poll.Stop()
	for {
		changed := s.hub.Changed() // before the look, so that nothing falls in between
		result, done, err := s.store.CommandResult(deadline, command)
		if done {
			return result, true
		}
		if err != nil && deadline.Err() == nil {
			s.log.WarnContext(ctx, "answer to a command not read, looking again", "command_id", command, "error", err)
			changed = nil // a database that fails at once must not be asked at once
		}
		select {
		case <-deadline.Done():
			return failover.Result{}, false
		case <-changed:
		case <-poll.C:
		}
	}
}
