package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
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
	// ErrKeyLost says that the request was taken for dead, and that another one with the same key has taken its place.
	ErrKeyLost = errors.New("another request has taken the idempotency key over")
)

// Answer is what a request was answered with.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// claim is a key that a request of this program works under.
type claim struct {
	scope, key string
	bodyHash   []byte
	at         pgtype.Timestamptz // tells it from the claims before and after it
	command    int64              // that a request before it, which is dead, has submitted; 0: none
}

// claims are those of this program. A request that is slow is not taken for dead by the very program that runs it.
type claims struct {
	mu sync.Mutex
	at map[[2]string]*claim // by scope and key
}

func (c *claims) get(scope, key string) *claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[[2]string{scope, key}]
}

func (c *claims) put(claimed *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = make(map[[2]string]*claim)
	}
	c.at[[2]string{claimed.scope, claimed.key}] = claimed
}

// take removes a claim, and returns it, or nil.
func (c *claims) take(scope, key string) *claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := [2]string{scope, key}
	claimed := c.at[at]
	delete(c.at, at)
	return claimed
}

type claimContext struct{}

// WithIdempotencyKey says that what is submitted with the context belongs to a request that has claimed a key: see [Store.Submit].
// Such a request submits one command at most.
func WithIdempotencyKey(ctx context.Context, scope, key string) context.Context {
	return context.WithValue(ctx, claimContext{}, [2]string{text(scope), text(key)})
}

// of returns the claim that the context names, or nil.
func (c *claims) of(ctx context.Context) *claim {
	named, ok := ctx.Value(claimContext{}).([2]string)
	if !ok {
		return nil
	}
	return c.get(named[0], named[1])
}

// BeginIdempotent claims an Idempotency-Key within a scope (the caller and the operation). Nil means: do it, then call
// FinishIdempotent, or ReleaseIdempotent when nothing was done. Else it is the answer to give again. bodyHash tells bodies
// apart: another one is ErrKeyReused. While the first request is at work: ErrKeyInUse, for a minute at most should its program
// have died.
func (s *Store) BeginIdempotent(ctx context.Context, scope, key string, bodyHash []byte) (_ *Answer, err error) {
	var failed error // ErrKeyReused and ErrKeyInUse are answers, no failures
	ctx, done := s.call(ctx, "begin_idempotent", callTimeout, &failed)
	defer done()
	scope, key = text(scope), text(key)
	if c := s.claims.get(scope, key); c != nil {
		if !bytes.Equal(c.bodyHash, bodyHash) {
			return nil, ErrKeyReused
		}
		return nil, ErrKeyInUse
	}
	c, err := s.claimKey(ctx, scope, key, bodyHash)
	if err == nil {
		s.claims.put(c)
		return nil, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		failed = fmt.Errorf("claim an idempotency key: %w", err)
		return nil, failed
	}
	row, err := s.q.IdempotentAnswer(ctx, s.pool, db.IdempotentAnswerParams{Scope: scope, Key: key})
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

// claimKey returns pgx.ErrNoRows where the key is another request's.
func (s *Store) claimKey(ctx context.Context, scope, key string, bodyHash []byte) (*claim, error) {
	c := &claim{scope: scope, key: key, bodyHash: bytes.Clone(bodyHash)}
	row, err := s.q.BeginIdempotent(ctx, s.pool, db.BeginIdempotentParams{
		Scope: scope, Key: key, BodyHash: bodyHash, Abandoned: abandonedAfter, Expired: IdempotencyAge,
	})
	c.at, c.command = row.CreatedAt, row.CommandID.Int64
	return c, err
}

// FinishIdempotent keeps the answer to a request that has claimed a key. ErrKeyLost: it is another request's by now, and so is the
// answer.
func (s *Store) FinishIdempotent(ctx context.Context, scope, key string, a Answer) (err error) {
	var failed error // to have lost the key is none
	ctx, done := s.call(ctx, "finish_idempotent", callTimeout, &failed)
	defer done()
	c := s.claims.take(text(scope), text(key))
	if c == nil {
		return fmt.Errorf("keep the answer to an idempotency key that nobody has claimed: %w", ErrKeyLost)
	}
	n, err := s.q.FinishIdempotent(ctx, s.pool, db.FinishIdempotentParams{
		Scope: c.scope, Key: c.key, ClaimedAt: c.at, Status: pgtype.Int4{Int32: int32(a.Status), Valid: true}, ContentType: text(a.ContentType),
		Body: a.Body,
	})
	if err != nil {
		failed = fmt.Errorf("keep the answer to an idempotency key: %w", err)
		return failed
	}
	if n == 0 {
		return ErrKeyLost
	}
	return nil
}

// ReleaseIdempotent gives a claimed key back, for a request that may be sent again. If it has submitted a command all the same,
// its answer having been lost, the next request with the key and body gets that one. A key that is not claimed is no error.
func (s *Store) ReleaseIdempotent(ctx context.Context, scope, key string) (err error) {
	ctx, done := s.call(ctx, "release_idempotent", callTimeout, &err)
	defer done()
	c := s.claims.take(text(scope), text(key))
	if c == nil {
		return nil
	}
	err = s.q.ReleaseIdempotent(ctx, s.pool, db.ReleaseIdempotentParams{
		Scope: c.scope, Key: c.key, ClaimedAt: c.at, Abandoned: abandonedAfter,
	})
	return wrap(err, "release an idempotency key")
}

// checkClaims keeps the keys of commands from being taken over until the end of the transaction. A command whose key is another
// request's by now gets ErrKeyLost, one whose key has a command already gets that one.
func (s *Store) checkClaims(ctx context.Context, tx pgx.Tx, in []submission, out []submitted) error {
	var p db.LockClaimsParams
	for i, sub := range in {
		if c := sub.claim; c != nil {
			p.Ns = append(p.Ns, int32(i))
			p.Scopes = append(p.Scopes, c.scope)
			p.Keys = append(p.Keys, c.key)
			p.ClaimedAts = append(p.ClaimedAts, c.at)
			out[i].err = ErrKeyLost
		}
	}
	if len(p.Ns) == 0 {
		return nil
	}
	rows, err := s.q.LockClaims(ctx, tx, p)
	for _, r := range rows {
		out[r.N] = submitted{id: r.CommandID.Int64}
	}
	return err
}
