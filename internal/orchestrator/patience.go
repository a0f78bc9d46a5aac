package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
)

const (
	// leastPatience is how long one call of the store may take a leader before it leaves the lease to another replica, which may have
	// a shorter way to PostgreSQL. With what a takeover takes it keeps the time without decisions under 15 s.
	leastPatience = 7 * time.Second
	// standAside is for how long it then does not ask for the lease.
	standAside = 5 * time.Second
)

// errSlow ends a term whose holder takes too long for what it asks of PostgreSQL.
var errSlow = errors.New("PostgreSQL takes too long to answer this replica")

// patient is a store whose calls end when they take too long. Where all replicas are as slow, each takes the lease in turn; so that one of
// them gets something done, a replica's patience doubles each time that it stands aside.
type patient struct {
	Store
	d atomic.Int64 // patience, a time.Duration
}

func newPatient(s Store) *patient {
	p := &patient{Store: s}
	p.reset()
	return p
}

func (p *patient) limit() time.Duration { return time.Duration(p.d.Load()) }

func (p *patient) reset() { p.d.Store(int64(leastPatience)) }

// grow is called when the replica stands aside. Calls have deadlines of their own in the store, all under a few minutes.
func (p *patient) grow() { p.d.Store(min(2*p.d.Load(), int64(10*time.Minute))) }

func (p *patient) Load(ctx context.Context) (failover.Snapshot, error) {
	return within(ctx, p, func(ctx context.Context) (failover.Snapshot, error) { return p.Store.Load(ctx) })
}

func (p *patient) Commit(ctx context.Context, epoch int64, e failover.Effects) (store.Committed, error) {
	return within(ctx, p, func(ctx context.Context) (store.Committed, error) { return p.Store.Commit(ctx, epoch, e) })
}

func within[T any](ctx context.Context, p *patient, call func(context.Context) (T, error)) (T, error) {
	limit := p.limit()
	limited, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	v, err := call(limited)
	if err != nil && errors.Is(context.Cause(limited), errSlow) && ctx.Err() == nil {
		err = fmt.Errorf("%w: not within %v: %w", errSlow, limit, err)
	}
	return v, err
}
