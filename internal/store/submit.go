package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"changeover/internal/store/internal/db"
)

// Submit is AppendCommand and AppendAudit in one transaction: what somebody asked for is in the inbox and in the audit, or in
// neither. The entry's subject and request id are the command's too.
func (s *Store) Submit(ctx context.Context, kind string, payload any, e AuditEntry) (id int64, err error) {
	ctx, done := s.call(ctx, "submit", callTimeout, &err)
	defer done()
	b, err := json.Marshal(payload)
	if err != nil {
		return 0, fmt.Errorf("encode a %s command: %w", kind, err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := s.q.AppendAudit(ctx, tx, auditParams(e)); err != nil {
			return err
		}
		id, err = s.q.AppendCommand(ctx, tx, db.AppendCommandParams{
			Kind: kind, Payload: b, SentBy: text(e.Subject), RequestID: text(e.RequestID),
		})
		if err != nil {
			return err
		}
		return s.q.Notify(ctx, tx, ChannelInbox)
	})
	return id, wrap(err, "submit a "+kind+" command")
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
