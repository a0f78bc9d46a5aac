package api

import (
	"context"
	"encoding/base64"
	"slices"
	"sync"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// PauseFailoverGroup implements POST /v1/failover-groups/{name}/pause.
func (s *Server) PauseFailoverGroup(ctx context.Context, r contract.PauseFailoverGroupRequestObject) (contract.PauseFailoverGroupResponseObject, error) {
	ttl := time.Duration(defaulted(r.Body.TTLSeconds, defaultPause)) * time.Second
	g, err := s.control(ctx, r.Name, r.Body.Reason, store.CommandPause, failover.PauseGroup{Group: r.Name, TTL: ttl, Reason: r.Body.Reason})
	if err != nil {
		return nil, err
	}
	return contract.PauseFailoverGroup202JSONResponse(*g), nil
}

// ResumeFailoverGroup implements DELETE /v1/failover-groups/{name}/pause.
func (s *Server) ResumeFailoverGroup(ctx context.Context, r contract.ResumeFailoverGroupRequestObject) (contract.ResumeFailoverGroupResponseObject, error) {
	g, err := s.control(ctx, r.Name, "", store.CommandResume, failover.ResumeGroup{Group: r.Name})
	if err != nil {
		return nil, err
	}
	return contract.ResumeFailoverGroup202JSONResponse(*g), nil
}

// defaultPause is how many seconds a pause lasts at most if it is not said, as the document has it.
const defaultPause = 1800

func defaulted[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}

// control hands the leader a command for a failover group, and returns how the group stands when it has been carried out, or after a while.
func (s *Server) control(ctx context.Context, name, reason, kind string, payload any) (*contract.FailoverGroup, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	target, details := "failover-groups/"+name, callOf(ctx).body
	if s.groups[name] == nil {
		return nil, s.refuse(ctx, target, reason, details, notFound("failover group", name))
	}
	before, err := s.pauseOf(ctx, name)
	if err != nil {
		return nil, err
	}
	id, err := s.submit(ctx, kind, payload, target, reason, details, nil)
	if err != nil {
		return nil, err
	}
	result, answered := s.await(ctx, id)
	if answered && result.Outcome != failover.OutcomeDone {
		return nil, s.refuse(ctx, target, reason, details, problemf(kindRefused, "%s", result.Detail))
	}
	after, err := s.pauseOf(ctx, name)
	if err != nil { // the command is taken, so this is no error
		s.log.WarnContext(ctx, "failover group not read again after a command, it is shown as it was", "failover_group", name, "error", err)
		after = before
	}
	if answered {
		s.record(ctx, target, reason, pauseDetails{pause(before)}, pauseDetails{pause(after)})
	}
	groups, err := s.failoverGroups(ctx, []string{name})
	if err != nil {
		return nil, err
	}
	groups[0].Pause = pause(after)
	return &groups[0], nil
}

// pauseDetails is what the audit has of a group before and after.
type pauseDetails struct {
	Pause *contract.Pause `json:"pause"`
}

// pauseOf reads a group's pause; nil: completions are not held.
func (s *Server) pauseOf(ctx context.Context, name string) (*failover.Pause, error) {
	groups, err := s.store.Groups(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if g.Name == name {
			return g.Pause, nil
		}
	}
	return nil, nil //nolint:nilnil // a group that the leader has not stored yet is not paused
}

func pause(p *failover.Pause) *contract.Pause {
	if p == nil {
		return nil
	}
	return &contract.Pause{By: p.By, Reason: p.Reason, Since: utc(p.Since), Until: utc(p.Until)}
}

// planAge is how long the pages of a plan rest on one look at the state. It also bounds how often everything is read.
const planAge = 10 * time.Second

// plans remembers the last look.
type plans struct {
	mu       sync.Mutex
	at       time.Time
	snapshot failover.Snapshot
}

// look reads the whole state, at most every planAge. Those who come meanwhile wait for it.
func (p *plans) look(ctx context.Context, s Store) (failover.Snapshot, time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && time.Since(p.at) < planAge {
		return p.snapshot, p.at, nil
	}
	p.snapshot = failover.Snapshot{} // not both at once
	at := time.Now()
	snapshot, err := s.Look(ctx)
	var since map[string]time.Time
	if err == nil {
		since, err = s.StreamingAgents(ctx)
	}
	if err != nil {
		p.at = time.Time{}
		return snapshot, at, err
	}
	snapshot.Streams(failover.Streaming{Since: since}, at)
	p.snapshot, p.at = snapshot, at
	time.AfterFunc(planAge, func() { p.forget(at) })
	return snapshot, at, nil
}

// forget lets go of a look that nobody may use any more.
func (p *plans) forget(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at.Equal(at) {
		p.at, p.snapshot = time.Time{}, failover.Snapshot{}
	}
}

const (
	planCursor = "plan." // begins the cursors of a plan
)

// PlanFailoverGroup implements POST /v1/failover-groups/{name}/plan.
func (s *Server) PlanFailoverGroup(ctx context.Context, r contract.PlanFailoverGroupRequestObject) (contract.PlanFailoverGroupResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	g := s.groups[r.Name]
	if g == nil {
		return nil, notFound("failover group", r.Name)
	}
	to := r.Body.ToRegion
	if !slices.ContainsFunc(g.Instances, func(i Instance) bool { return i.Region == to }) {
		return nil, invalid(contract.FieldError{
			Field: "toRegion", In: contract.FieldErrorInBody, Message: "is not a Region of the failover group " + r.Name,
		})
	}
	after, err := keyAfter(planCursor, value(r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	snapshot, at, err := s.plans.look(ctx, s.store)
	if err != nil {
		return nil, err
	}
	stored := &failover.Group{GroupConfig: failover.GroupConfig{Name: r.Name}}
	for _, have := range snapshot.Groups {
		if have.Name == r.Name {
			copied := *have // others plan with it at the same time
			stored = &copied
		}
	}
	stored.Routing = g.Routing
	out := contract.Plan{FailoverGroup: r.Name, ToRegion: to, At: utc(at), Items: []contract.PlannedAgent{}}
	limit := defaulted(r.Params.Limit, defaultLimit)
	for _, p := range failover.Plan(s.settings, stored, snapshot.Agents, value(r.Body.TdgID), to, at) {
		switch p.Outcome {
		case failover.PlanThere:
			out.Counts.There++
		case failover.PlanAtOnce:
			out.Counts.AtOnce++
		case failover.PlanWaits:
			out.Counts.Waits++
		case failover.PlanUnknown:
			out.Counts.Unknown++
		}
		if p.AgentID <= after || r.Params.Outcome != nil && string(*r.Params.Outcome) != string(p.Outcome) {
			continue
		}
		if len(out.Items) < limit {
			out.Items = append(out.Items, planned(&p))
		} else if out.NextCursor == nil {
			cursor := planCursor + base64.RawURLEncoding.EncodeToString([]byte(out.Items[limit-1].AgentID))
			out.NextCursor = &cursor
		}
	}
	return contract.PlanFailoverGroup200JSONResponse(out), nil
}

func planned(p *failover.Planned) contract.PlannedAgent {
	out := contract.PlannedAgent{
		AgentID: p.AgentID, Username: text(p.Username), TdgID: text(p.TDG), FromRegion: text(p.From), Outcome: contract.PlanOutcome(p.Outcome),
		ReadAt: moment(p.ReadAt), Stale: p.Stale, Streaming: p.Streaming, Reports: p.Reports,
		Contacts: each(p.Contacts, func(c *failover.Contact) contract.PlannedContact {
			return contract.PlannedContact{ContactID: c.ID, Channel: c.Channel, State: c.State, StateSince: moment(c.StateSince)}
		}),
	}
	if p.Evidence != "" {
		evidence := contract.PlannedAgentEvidence(p.Evidence)
		out.Evidence = &evidence
	}
	return out
}
