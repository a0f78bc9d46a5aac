package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// The kinds of commands.
const (
	CommandReport    = "report"    // a desktop's own observation
	CommandForce     = "force"     // one failover
	CommandBulkForce = "bulkForce" // those that match
)

// Command is something that a replica asks of the leader.
type Command struct {
	ID        int64
	Kind      string
	Payload   json.RawMessage
	By        string // who asked
	RequestID string
	CreatedAt time.Time // the database's clock
}

// Submit puts a command into the inbox and an entry into the audit, in one transaction, and rings the leader's doorbell: what
// somebody asked for is in both, or in neither. payload becomes JSON; the entry's subject and request id are the command's too.
// It returns the command's id.
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

// PendingCommands reads commands without a result whose ids are greater than afterID, in order, at most limit. afterID is for
// paging within one look: begin each look with 0, for ids become visible in the order of commits, not of their numbers.
func (s *Store) PendingCommands(ctx context.Context, afterID int64, limit int) (commands []Command, err error) {
	ctx, done := s.call(ctx, "pending_commands", callTimeout, &err)
	defer done()
	rows, err := s.q.PendingCommands(ctx, s.leader, db.PendingCommandsParams{AfterID: afterID, MaxRows: rowLimit(limit)})
	if err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	commands = make([]Command, len(rows))
	for i, r := range rows {
		commands[i] = Command{ID: r.CommandID, Kind: r.Kind, Payload: r.Payload, By: r.SentBy, RequestID: r.RequestID, CreatedAt: r.CreatedAt.Time}
	}
	return commands, nil
}

// CommandResult returns the result of a command and whether there is one yet. The log's doorbell rings when there is.
func (s *Store) CommandResult(ctx context.Context, id int64) (result failover.Result, done bool, err error) {
	ctx, finish := s.call(ctx, "command_result", callTimeout, &err)
	defer finish()
	row, err := s.q.CommandResult(ctx, s.pool, id)
	if err != nil {
		return failover.Result{}, false, notFound(err, "command", fmt.Sprint(id))
	}
	if !row.DoneAt.Valid {
		return failover.Result{}, false, nil
	}
	var stored storedResult
	if err := decode(row.Result, &stored, "command", fmt.Sprint(id)); err != nil {
		return failover.Result{}, false, err
	}
	return failover.Result{
		CommandID: id, Outcome: stored.Outcome, Detail: stored.Detail, Matched: stored.Matched, Forced: stored.Forced,
	}, true, nil
}
