package store

import (
	"context"
	"fmt"

	"changeover/internal/store/internal/db"
)

// pruneBatch is how many rows one statement removes, so that none takes long, however much has gathered.
const pruneBatch = 10_000

// Prune removes what nobody asks for any more: answers to idempotency keys and commands that were done a day ago, tickets that
// nobody redeemed, and replicas that have been silent for a day, with their connections. The leader calls it now and then.
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

func (s *Store) pruneTickets(ctx context.Context) (int64, error) {
	if ok, err := s.hasSchema(ctx, schemaChain); err != nil || !ok {
		return 0, err
	}
	return s.q.PruneTickets(ctx, s.leader, pruneBatch)
}
