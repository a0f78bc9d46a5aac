package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"changeover/internal/store/internal/db"
)

const (
	// IdempotencyAge is how long the answer to a request with an Idempotency-Key is kept.
	IdempotencyAge = 24 * time.Hour
	// abandonedAfter is when a request that has claimed a key and not answered counts as dead.
	abandonedAfter = time.Minute
)

// Errors of idempotency keys.
var (
	// ErrKeyReused says that the key was used with another body.
	ErrKeyReused = errors.New("the idempotency key was used with another body")
	// ErrKeyInUse says that the first request with the key is still at work.
	ErrKeyInUse = errors.New("a request with this idempotency key is at work")
)

// Answer is what a request was answered with.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// BeginIdempotent claims an Idempotency-Key within a scope (the caller and the operation). Nil means: do it, then call
// FinishIdempotent, or ReleaseIdempotent when nothing was done. Else it is the answer to give again. bodyHash tells bodies
// apart: another one is ErrKeyReused. While the first request is at work: ErrKeyInUse.
func (s *Store) BeginIdempotent(ctx context.Context, scope, key string, bodyHash []byte) (_ *Answer, err error) {
	var failed error // the two errors above are answers, no failures
	ctx, done := s.call(ctx, "begin_idempotent", callTimeout, &failed)
	defer done()
	_, err = s.q.BeginIdempotent(ctx, s.pool, db.BeginIdempotentParams{
		Scope: text(scope), Key: text(key), BodyHash: bodyHash, Abandoned: abandonedAfter, Expired: IdempotencyAge,
	})
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		failed = fmt.Errorf("claim an idempotency key: %w", err)
		return nil, failed
	}
	row, err := s.q.IdempotentAnswer(ctx, s.pool, db.IdempotentAnswerParams{Scope: text(scope), Key: text(key)})
	if errors.Is(err, pgx.ErrNoRows) { // released or removed this very moment
		return nil, ErrKeyInUse
	}
	if err != nil {
		failed = fmt.Errorf("read the answer to an idempotency key: %w", err)
		return nil, failed
	}
	if !bytes.Equal(row.BodyHash, bodyHash) {
		return nil, ErrKeyReused
	}
	if !row.Status.Valid {
		return nil, ErrKeyInUse
	}
	return &Answer{Status: int(row.Status.Int32), ContentType: row.ContentType, Body: row.Body}, nil
}

// FinishIdempotent keeps the answer to a request that has claimed a key.
func (s *Store) FinishIdempotent(ctx context.Context, scope, key string, a Answer) (err error) {
	ctx, done := s.call(ctx, "finish_idempotent", callTimeout, &err)
	defer done()
	err = s.q.FinishIdempotent(ctx, s.pool, db.FinishIdempotentParams{
		Scope: text(scope), Key: text(key), Status: pgtype.Int4{Int32: int32(a.Status), Valid: true}, ContentType: a.ContentType, Body: a.Body,
	})
	return wrap(err, "keep the answer to an idempotency key")
}

// ReleaseIdempotent gives a claimed key back, for a request that did nothing and may be sent again.
func (s *Store) ReleaseIdempotent(ctx context.Context, scope, key string) (err error) {
	ctx, done := s.call(ctx, "release_idempotent", callTimeout, &err)
	defer done()
	err = s.q.ReleaseIdempotent(ctx, s.pool, db.ReleaseIdempotentParams{Scope: text(scope), Key: text(key)})
	return wrap(err, "release an idempotency key")
}

// Prune removes what nobody asks for any more: answers to idempotency keys and commands that were done a day ago, and replicas
// that have been silent for a day, with their connections. The leader calls it now and then.
func (s *Store) Prune(ctx context.Context) (err error) {
	ctx, done := s.call(ctx, "prune", callTimeout, &err)
	defer done()
	if _, err = s.q.PruneIdempotency(ctx, s.leader, IdempotencyAge); err != nil {
		return fmt.Errorf("remove old idempotency keys: %w", err)
	}
	if _, err = s.q.PruneCommands(ctx, s.leader, IdempotencyAge); err != nil {
		return fmt.Errorf("remove old commands: %w", err)
	}
	if _, err = s.q.PruneReplicas(ctx, s.leader, IdempotencyAge); err != nil {
		return fmt.Errorf("remove silent replicas: %w", err)
	}
	return nil
}
