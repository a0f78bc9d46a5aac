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
	// CommandForceSelected is a bulk force of named failovers. A kind of its own, for a leader of a version that does not know the names would force all that match otherwise.
	CommandForceSelected = "forceSelected"
	CommandForceNarrow   = "forceNarrow" // for the same reason, one with a filter that such a leader does not know; with names or without
	CommandPause         = "pause"       // a failover group's completions
	CommandResume        = "resume"
	CommandDrill         = "drill" // a shift that is only told
)

// ForceKind is the kind of the command for a bulk force.
func ForceKind(o *failover.BulkForce) string {
	switch {
	case o.Narrow():
		return CommandForceNarrow
	case len(o.FailoverIDs) > 0:
		return CommandForceSelected
	}
	return CommandBulkForce
}

// Command is something that a replica asks of the leader.
type Command struct {
	ID        int64
	Kind      string
	Payload   json.RawMessage
	By        string // who asked
	RequestID string
	Age       time.Duration // when it was read, by the database's clock
}

// Submit puts a command into the inbox and an entry into the audit, in one transaction, and rings the leader's doorbell: what
// somebody asked for is in both, or in neither. payload becomes JSON; the entry's subject and request id are the command's too.
// It returns the command's id. Calls that come at once share a transaction.
//
// With [WithIdempotencyKey] the command belongs to the key: should this program die before it has answered, the request that takes
// the key over gets the id of this very command. [ErrKeyLost]: that has happened already, and nothing was submitted.
func (s *Store) Submit(ctx context.Context, kind string, payload any, e AuditEntry) (int64, error) {
	b, err := json.Marshal(payload)
	if err != nil {
		return 0, fmt.Errorf("encode a %s command: %w", kind, err)
	}
	c := submission{kind: text(kind), payload: b, claim: s.claims.of(ctx)}
	if c.claim != nil && c.claim.command != 0 {
		return c.claim.command, nil
	}
	if c.entry, err = e.storable(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	done, err := s.submits.do(ctx, c)
	if err == nil {
		err = done.err
	}
	return done.id, wrap(err, "submit a "+kind+" command")
}

// submission is a command on its way into the inbox.
type submission struct {
	kind    string
	payload []byte
	entry   AuditEntry
	claim   *claim // of the request's idempotency key; nil: it has none
}

type submitted struct {
	id  int64
	err error // of this command alone
}

func (s *Store) submitAll(ctx context.Context, in []submission) (out []submitted, err error) {
	ctx, done := s.call(ctx, "submit", callTimeout, &err)
	defer done()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := s.bound(ctx, tx, lockInSubmit); err != nil {
			return err
		}
		out = make([]submitted, len(in))
		if err := s.checkClaims(ctx, tx, in, out); err != nil {
			return err
		}
		return s.writeCommands(ctx, tx, in, out)
	})
	return out, err
}

// writeCommands submits the commands that have neither an id nor an error yet.
func (s *Store) writeCommands(ctx context.Context, tx pgx.Tx, in []submission, out []submitted) error {
	var p db.AppendCommandsParams
	var links db.LinkCommandsParams
	var entries []AuditEntry
	for i, c := range in {
		if out[i] != (submitted{}) {
			continue
		}
		p.Ns = append(p.Ns, int32(i))
		p.Kinds = append(p.Kinds, c.kind)
		p.Payloads = append(p.Payloads, c.payload)
		p.SentBys = append(p.SentBys, c.entry.Subject)
		p.RequestIds = append(p.RequestIds, c.entry.RequestID)
		entries = append(entries, c.entry)
	}
	if len(entries) == 0 {
		return nil
	}
	ids, err := s.q.AppendCommands(ctx, tx, p)
	if err != nil {
		return err
	}
	for n, i := range p.Ns {
		out[i].id = ids[n]
		if c := in[i].claim; c != nil {
			links.Scopes = append(links.Scopes, c.scope)
			links.Keys = append(links.Keys, c.key)
			links.CommandIds = append(links.CommandIds, ids[n])
		}
	}
	if len(links.Keys) > 0 {
		if err := s.q.LinkCommands(ctx, tx, links); err != nil {
			return err
		}
	}
	if err := s.q.Notify(ctx, tx, db.NotifyParams{Channel: ChannelInbox}); err != nil {
		return err
	}
	return s.writeAudits(ctx, tx, entries)
}

// PendingCommands reads commands without a result whose ids are greater than afterID, in order, at most limit. afterID is for
// paging within one look: begin each look with 0, for ids become visible in the order of commits, not of their numbers.
func (s *Store) PendingCommands(ctx context.Context, afterID int64, limit int) (commands []Command, err error) {
	ctx, done := s.call(ctx, "pending_commands", quickTimeout, &err)
	defer done()
	rows, err := s.q.PendingCommands(ctx, s.leader, db.PendingCommandsParams{AfterID: afterID, MaxRows: rowLimit(limit)})
	if err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	commands = make([]Command, len(rows))
	for i, r := range rows {
		commands[i] = Command{ID: r.CommandID, Kind: r.Kind, Payload: r.Payload, By: r.SentBy, RequestID: r.RequestID, Age: max(r.ReadAt.Time.Sub(r.CreatedAt.Time), 0)}
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
