package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"changeover/internal/store/internal/db"
)

// AuditEntry is one mutation, or one that was refused: who, with which roles, did what to what, why and when, and what it changed.
// Entries are never changed. JSON is kept byte by byte; nil: none.
type AuditEntry struct {
	ID        int64     // its number in the chain, without gaps; set by the database
	At        time.Time // the database's clock; set by the database
	Subject   string
	Roles     []string
	Action    string
	Target    string // what it was done to
	Reason    string
	RequestID string
	Outcome   string
	Details   json.RawMessage
	Before    json.RawMessage // the target before the action
	After     json.RawMessage // and after it
	Hash      []byte          // of the entry and all before it; set by the database. Nil: from before the chain
}

// AppendAudit adds an entry. Entries of calls that come at once are added together.
func (s *Store) AppendAudit(ctx context.Context, e AuditEntry) error {
	e, err := e.storable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = s.audits.do(ctx, e)
	return wrap(err, "append "+e.Action+" to the audit")
}

func (s *Store) appendAudits(ctx context.Context, entries []AuditEntry) (_ []struct{}, err error) {
	ctx, done := s.call(ctx, "append_audit", callTimeout, &err)
	defer done()
	return make([]struct{}, len(entries)), s.writeAudits(ctx, s.pool, entries)
}

// writeAudits locks the head of the chain until the end of the transaction, so it is the last that a transaction does.
func (s *Store) writeAudits(ctx context.Context, tx db.DBTX, entries []AuditEntry) error {
	var p db.AppendAuditsParams
	roles := flatten(len(entries), func(i int) []string { return entries[i].Roles })
	p.Roles, p.FirstRoles, p.LastRoles = roles.all, roles.first, roles.last
	for _, e := range entries {
		p.Subjects = append(p.Subjects, e.Subject)
		p.Actions = append(p.Actions, e.Action)
		p.Targets = append(p.Targets, e.Target)
		p.Reasons = append(p.Reasons, e.Reason)
		p.RequestIds = append(p.RequestIds, e.RequestID)
		p.Outcomes = append(p.Outcomes, e.Outcome)
		p.Details = append(p.Details, e.Details)
		p.Befores = append(p.Befores, e.Before)
		p.Afters = append(p.Afters, e.After)
	}
	return s.q.AppendAudits(ctx, tx, p)
}

// storable returns the entry as PostgreSQL takes it, or says which of its JSON is none, so that no entry spoils a batch.
func (e AuditEntry) storable() (AuditEntry, error) {
	for _, s := range []*string{&e.Subject, &e.Action, &e.Target, &e.Reason, &e.RequestID, &e.Outcome} {
		*s = text(*s)
	}
	e.Roles = texts(e.Roles)
	for name, j := range map[string]*json.RawMessage{"details": &e.Details, "before": &e.Before, "after": &e.After} {
		if *j == nil {
			continue
		}
		if !json.Valid(*j) {
			return e, fmt.Errorf("append %s to the audit: %s is not JSON", e.Action, name)
		}
		*j = bytes.ToValidUTF8(*j, []byte("\uFFFD"))
	}
	return e, nil
}

func texts(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = text(s)
	}
	return out
}

// flat are lists of texts as statements take them: all in one array, each from its first to its last, counted from 1.
type flat struct {
	all         []string
	first, last []int32
}

func flatten(n int, list func(i int) []string) flat {
	f := flat{all: []string{}} // not nil, which would be null
	for i := range n {
		f.first = append(f.first, int32(len(f.all)+1))
		f.all = append(f.all, list(i)...)
		f.last = append(f.last, int32(len(f.all)))
	}
	return f
}

// AuditFilter says which entries of the audit are wanted; what is left empty matches all.
type AuditFilter struct {
	Subject, Action, Target, Outcome string
	Since                            time.Time // then or later
}

// Audit lists the entries, the latest first.
func (s *Store) Audit(ctx context.Context, f AuditFilter, p Page) (entries []AuditEntry, next string, err error) {
	ctx, done := s.call(ctx, "audit", callTimeout, &err)
	defer done()
	before, err := p.before("audit")
	if err != nil {
		return nil, "", err
	}
	params := db.AuditParams{
		BeforeID: before, Subject: f.Subject, Action: f.Action, Target: f.Target, Outcome: f.Outcome, Since: timestamp(f.Since), MaxRows: rowLimit(p.limit() + 1),
	}
	if f.Since.IsZero() {
		params.Since = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	rows, err := s.q.Audit(ctx, s.pool, params)
	if err != nil {
		return nil, "", fmt.Errorf("read the audit: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.Audit) string { return cursor("audit", strconv.FormatInt(r.AuditID, 10)) })
	entries = make([]AuditEntry, len(rows))
	for i, r := range rows {
		entries[i] = AuditEntry{
			ID: r.AuditID, At: r.At.Time, Subject: r.Subject, Roles: r.Roles, Action: r.Action, Target: r.Target, Reason: r.Reason,
			RequestID: r.RequestID, Outcome: r.Outcome, Details: r.Details, Before: r.Before, After: r.After, Hash: r.Hash,
		}
	}
	return entries, next, nil
}
