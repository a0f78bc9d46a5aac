package store

import (
	"context"
	"fmt"
	"time"

	"changeover/internal/store/internal/db"
)

// pruneBatch is how many rows one statement removes, so that none takes long, however much has gathered.
const pruneBatch = 10_000

// Prune removes what nobody asks for any more: answers to idempotency keys and commands that were done a day ago, tickets that
// nobody redeemed, replicas that have been silent for a day, with their connections, entries of the audit that are older than
// [SetAuditRetention] said, and failovers, changes of distributions and drills that are older than [Options] says. Failovers that are open or wait for
// their confirmation stay, and so does the last change of each traffic distribution group, which is its current shift. Deliveries of webhooks
// that ended long ago go, too. The leader calls it now and then.
func (s *Store) Prune(ctx context.Context) error {
	for _, old := range []struct {
		what   string
		remove func(ctx context.Context) (int64, error)
	}{
		{"old idempotency keys", func(ctx context.Context) (int64, error) {
			return s.q.PruneIdempotency(ctx, s.leader, db.PruneIdempotencyParams{OlderThan: IdempotencyAge, MaxRows: pruneBatch})
		}},
		{"old commands", func(ctx context.Context) (int64, error) {
			return s.q.PruneCommands(ctx, s.leader, db.PruneCommandsParams{OlderThan: IdempotencyAge, MaxRows: pruneBatch})
		}},
		{"silent replicas", func(ctx context.Context) (int64, error) { return s.q.PruneReplicas(ctx, s.leader, IdempotencyAge) }},
		{"expired stream tickets", s.pruneTickets},
		{"old audit entries", s.pruneAudit},
		{"old failovers", s.pruneFailovers},
		{"old changes of distributions", s.pruneChanges},
		{"old drills", s.pruneDrills},
		{"old deliveries of webhooks", s.pruneDeliveries},
	} {
		for more := true; more; {
			n, err := s.prune(ctx, old.remove)
			if err != nil {
				return fmt.Errorf("remove %s: %w", old.what, err)
			}
			more = n >= pruneBatch
		}
	}
	return nil
}

func (s *Store) prune(ctx context.Context, remove func(ctx context.Context) (int64, error)) (n int64, err error) {
	ctx, done := s.call(ctx, "prune", callTimeout, &err)
	defer done()
	return remove(ctx)
}

func (s *Store) pruneFailovers(ctx context.Context) (int64, error) {
	if s.opts.History == 0 {
		return 0, nil
	}
	return s.q.PruneFailovers(ctx, s.leader, db.PruneFailoversParams{OlderThan: s.opts.History, MaxRows: pruneBatch})
}

func (s *Store) pruneDrills(ctx context.Context) (int64, error) {
	if ok, err := s.hasSchema(ctx, schemaRetention); s.opts.History == 0 || err != nil || !ok {
		return 0, err
	}
	return s.q.PruneDrills(ctx, s.leader, db.PruneDrillsParams{OlderThan: s.opts.History, MaxRows: pruneBatch})
}

func (s *Store) pruneChanges(ctx context.Context) (int64, error) {
	if s.opts.History == 0 {
		return 0, nil
	}
	return s.q.PruneChanges(ctx, s.leader, db.PruneChangesParams{OlderThan: s.opts.History, MaxRows: pruneBatch})
}

func (s *Store) pruneTickets(ctx context.Context) (int64, error) {
	return s.q.PruneTickets(ctx, s.leader, pruneBatch)
}

func (s *Store) pruneAudit(ctx context.Context) (int64, error) {
	if ok, err := s.hasSchema(ctx, schemaRetention); err != nil || !ok {
		return 0, err
	}
	return s.q.PruneAudit(ctx, s.leader, pruneBatch)
}

// SetAuditRetention says how long entries of the audit are kept; 0: for ever. url is that of the owner of the tables: the service's own
// role cannot shorten the time, nor remove an entry that is younger.
func SetAuditRetention(ctx context.Context, url string, retention time.Duration) error {
	conn, err := reach(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var wanted *time.Duration
	if retention > 0 {
		wanted = &retention
	}
	_, err = conn.Exec(ctx, "UPDATE audit_head SET retention = $1 WHERE retention IS DISTINCT FROM $1", wanted)
	return wrap(err, "set the retention of the audit")
}
