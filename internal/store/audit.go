package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"changeover/internal/store/internal/db"
)

// AuditEntry is one mutation: who, with which roles, did what to what, why and when. Entries are never changed.
type AuditEntry struct {
	ID        int64     // set by the store
	At        time.Time // the database's clock; set by the store
	Subject   string
	Roles     []string
	Action    string
	Target    string // what it was done to
	Reason    string
	RequestID string
	Outcome   string
	Details   json.RawMessage // nil: none
}

// AppendAudit adds an entry.
func (s *Store) AppendAudit(ctx context.Context, e AuditEntry) (err error) {
	ctx, done := s.call(ctx, "append_audit", callTimeout, &err)
	defer done()
	_, err = s.q.AppendAudit(ctx, s.pool, auditParams(e))
	return wrap(err, "append "+e.Action+" to the audit")
}

func auditParams(e AuditEntry) db.AppendAuditParams {
	roles := make([]string, len(e.Roles))
	for i, r := range e.Roles {
		roles[i] = text(r)
	}
	return db.AppendAuditParams{
		Subject: text(e.Subject), Roles: roles, Action: text(e.Action), Target: text(e.Target), Reason: text(e.Reason),
		RequestID: text(e.RequestID), Outcome: text(e.Outcome), Details: e.Details,
	}
}

// Audit lists the entries, the latest first.
func (s *Store) Audit(ctx context.Context, p Page) (entries []AuditEntry, next string, err error) {
	ctx, done := s.call(ctx, "audit", callTimeout, &err)
	defer done()
	before, err := p.before("audit")
	if err != nil {
		return nil, "", err
	}
	rows, err := s.q.Audit(ctx, s.pool, db.AuditParams{BeforeID: before, MaxRows: rowLimit(p.limit() + 1)})
	if err != nil {
		return nil, "", fmt.Errorf("read the audit: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.Audit) string { return cursor("audit", strconv.FormatInt(r.AuditID, 10)) })
	entries = make([]AuditEntry, len(rows))
	for i, r := range rows {
		entries[i] = AuditEntry{
			ID: r.AuditID, At: r.At.Time, Subject: r.Subject, Roles: r.Roles, Action: r.Action, Target: r.Target, Reason: r.Reason,
			RequestID: r.RequestID, Outcome: r.Outcome, Details: r.Details,
		}
	}
	return entries, next, nil
}
