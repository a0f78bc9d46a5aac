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

// Begin counts from here: a commit that waits for another one has to be done in that time with it.
func (p *patient) Begin(ctx context.Context, epoch int64, e failover.Effects, after store.Wait) store.Wait {
	limit := p.limit()
	limited, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	wait := p.Store.Begin(limited, epoch, e, after)
	return func() (store.Committed, error) {
		defer cancel()
		c, err := wait()
		return c, slow(ctx, limited, limit, err)
	}
}

func within[T any](ctx context.Context, p *patient, call func(context.Context) (T, error)) (T, error) {
	limit := p.limit()
	limited, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	v, err := call(limited)
	return v, slow(ctx, limited, limit, err)
}

// slow is the error of a call, errSlow if it took too long.
func slow(ctx, limited context.Context, limit time.Duration, err error) error {
	if err != nil && errors.Is(context.Cause(limited), errSlow) && ctx.Err() == nil {
		return fmt.Errorf("%w: not within %v: %w", errSlow, limit, err)
	}
	return err
}
