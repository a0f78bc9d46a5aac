package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/store"
)

const outcomeAccepted = "accepted"

// entry is the audit entry of the call; details are what was asked for beyond target and reason, nil: nothing.
func (c *call) entry(target, reason string, details any, outcome string) (store.AuditEntry, error) {
	e := store.AuditEntry{
		Subject: c.identity.Subject, Action: c.op.id, Target: target, Reason: reason, RequestID: c.requestID, Outcome: outcome,
		Roles: make([]string, len(c.identity.Roles)),
	}
	for i, r := range c.identity.Roles {
		e.Roles[i] = string(r)
	}
	if details != nil {
		b, err := json.Marshal(details)
		if err != nil {
			return e, fmt.Errorf("encode the details of %s for the audit: %w", c.op.id, err)
		}
		e.Details = b
	}
	return e, nil
}

// submit hands a command to the leader, and to the audit in the same transaction.
func (s *Server) submit(ctx context.Context, kind string, payload any, target, reason string, details any) (int64, error) {
	e, err := callOf(ctx).entry(target, reason, details, outcomeAccepted)
	if err != nil {
		return 0, err
	}
	return s.store.Submit(ctx, kind, payload, e)
}

// refuse records that a mutation was refused, and why, and returns the problem. Where it cannot be recorded, the log has
// it: the refusal itself needs no database.
func (s *Server) refuse(ctx context.Context, target, reason string, details any, p *problem) error {
	c := callOf(ctx)
	e, err := c.entry(target, reason, details, p.kind.slug)
	if err == nil {
		err = s.store.AppendAudit(ctx, e)
	}
	if err != nil {
		s.log.WarnContext(ctx, "refusal not written to the audit trail", "request_id", c.requestID, "operation", c.op.id,
			"subject", c.identity.Subject, "target", target, "outcome", p.kind.slug, "error", err)
	}
	return p
}

// refusalWait bounds the recording of a request that was refused before its handler.
const refusalWait = 2 * time.Second

// recordForbidden puts a mutation that the caller's role does not allow into the audit trail.
func (s *Server) recordForbidden(ctx context.Context, path string, p *problem) {
	ctx, cancel := context.WithTimeout(ctx, refusalWait)
	defer cancel()
	_ = s.refuse(ctx, path, "", nil, p) // p itself
}

// ListAudit implements GET /v1/audit.
func (s *Server) ListAudit(ctx context.Context, r contract.ListAuditRequestObject) (contract.ListAuditResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	entries, next, err := s.store.Audit(ctx, page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListAudit200JSONResponse{
		Items: each(entries, func(e *store.AuditEntry) contract.AuditEntry {
			return contract.AuditEntry{
				AuditID: strconv.FormatInt(e.ID, 10), Time: utc(e.At), Subject: e.Subject, Roles: orEmpty(e.Roles), Action: e.Action,
				Target: e.Target, Reason: text(e.Reason), RequestID: e.RequestID, Outcome: e.Outcome, Details: e.Details,
			}
		}),
		NextCursor: text(next),
	}, nil
}
