package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"changeover/internal/api/contract"
	"changeover/internal/store"
)

const (
	outcomeAccepted = "accepted" // it was asked for, and handed to the leader
	outcomeDone     = "done"     // and the leader has done it
)

// entry is the audit entry of the call. details is the JSON of what was asked for beyond target and reason; nil: nothing.
func (c *call) entry(target, reason string, details []byte, outcome string) store.AuditEntry {
	e := store.AuditEntry{
		Subject: c.identity.Subject, Action: c.op.id, Target: target, Reason: reason, RequestID: c.requestID, Outcome: outcome,
		Roles: make([]string, len(c.identity.Roles)), Details: details,
	}
	for i, r := range c.identity.Roles {
		e.Roles[i] = string(r)
	}
	return e
}

// submit hands a command to the leader, and to the audit in the same transaction, with its target as it is before; nil: that is not told.
func (s *Server) submit(ctx context.Context, kind string, payload any, target, reason string, details []byte, before any) (int64, error) {
	e := callOf(ctx).entry(target, reason, details, outcomeAccepted)
	e.Before = jsonOf(before)
	return s.store.Submit(ctx, kind, payload, e)
}

// record says what became of a mutation that the leader has done, with its target before and after; nil: it is not told. Where it
// cannot be recorded, the log has it: what was asked for is in the audit already.
func (s *Server) record(ctx context.Context, target, reason string, before, after any) {
	c := callOf(ctx)
	e := c.entry(target, reason, nil, outcomeDone)
	e.Before, e.After = jsonOf(before), jsonOf(after)
	if err := s.store.AppendAudit(ctx, e); err != nil {
		s.log.WarnContext(ctx, "outcome not written to the audit trail", "request_id", c.requestID, "operation", c.op.id,
			"subject", c.identity.Subject, "target", target, "error", err)
	}
}

// jsonOf is the JSON of a schema of the contract; nil stays nil.
func jsonOf(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil { // the contract's types always marshal
		panic(err)
	}
	return b
}

// refuse records that a mutation was refused, and why, and returns the problem. Where it cannot be recorded, the log has
// it: the refusal itself needs no database.
func (s *Server) refuse(ctx context.Context, target, reason string, details []byte, p *problem) error {
	c := callOf(ctx)
	if err := s.store.AppendAudit(ctx, c.entry(target, reason, details, p.kind.slug)); err != nil {
		s.log.WarnContext(ctx, "refusal not written to the audit trail", "request_id", c.requestID, "operation", c.op.id,
			"subject", c.identity.Subject, "target", target, "outcome", p.kind.slug, "error", err)
	}
	return p
}

// refuseEarly answers a caller who may not do the operation, before anything of the request is read. A refused mutation is
// recorded too, with the path as its target.
func (s *Server) refuseEarly(w http.ResponseWriter, r *http.Request, p *problem) {
	if callOf(r.Context()).op.idempotent {
		ctx, cancel := context.WithTimeout(r.Context(), memoryTimeout)
		defer cancel()
		_ = s.refuse(ctx, clip(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/")), "", nil, p) // p itself
	}
	s.fail(w, r, p)
}

// ListAudit implements GET /v1/audit.
func (s *Server) ListAudit(ctx context.Context, r contract.ListAuditRequestObject) (contract.ListAuditResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	f := store.AuditFilter{
		Subject: value(r.Params.Subject), Action: value(r.Params.Action), Target: value(r.Params.Target), Outcome: value(r.Params.Outcome), Since: value(r.Params.Since),
	}
	entries, next, err := s.store.Audit(ctx, f, page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListAudit200JSONResponse{
		Items: each(entries, func(e *store.AuditEntry) contract.AuditEntry {
			return contract.AuditEntry{
				AuditID: strconv.FormatInt(e.ID, 10), Time: utc(e.At), Subject: e.Subject, Roles: orEmpty(e.Roles), Action: e.Action,
				Target: e.Target, Reason: text(e.Reason), RequestID: e.RequestID, Outcome: e.Outcome, Details: e.Details,
				Before: e.Before, After: e.After,
			}
		}),
		NextCursor: text(next),
	}, nil
}
