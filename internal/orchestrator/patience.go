package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	// promptly is how soon PostgreSQL answers whose way is not slow: what failed before that was an outage, of which another replica knows no better.
	promptly = time.Second
)

// errSlow ends a term whose holder takes too long for what it asks of PostgreSQL.
var errSlow = errors.New("PostgreSQL takes too long to answer this replica")

// patient is a store whose calls end when they take too long. Where all replicas are as slow, each takes the lease in turn; so that one of
// them gets something done, a replica's patience doubles each time that it stands aside.
type patient struct {
	Store

	mu     sync.Mutex
	limit  time.Duration
	failed time.Time // when the first call began after which none has succeeded; zero: none has failed
}

func newPatient(s Store) *patient { return &patient{Store: s, limit: leastPatience} }

// reset is called when a term has lasted.
func (p *patient) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = leastPatience
}

// grow is called when the replica stands aside, and returns its patience. Calls have deadlines of their own in the store, all under a few minutes.
func (p *patient) grow() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = min(2*p.limit, 10*time.Minute)
	return p.limit
}

// forgive lets the next call begin with all patience, whatever has failed before it.
func (p *patient) forgive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = time.Time{}
}

// over says that what began to fail has not been made up for in time.
func (p *patient) over() bool {
	_, deadline := p.deadline(time.Now())
	return !time.Now().Before(deadline)
}

// deadline is that of a call: what has failed and is tried again has to be done in the time of the first call.
func (p *patient) deadline(began time.Time) (limit time.Duration, deadline time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.failed.IsZero() {
		began = p.failed
	}
	return p.limit, began.Add(p.limit)
}

// ended takes note of a call and returns its error, errSlow if it took too long.
func (p *patient) ended(ctx, limited context.Context, began time.Time, limit time.Duration, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.failed = time.Time{}
	case p.failed.IsZero():
		p.failed = began
	}
	if err != nil && errors.Is(context.Cause(limited), errSlow) && ctx.Err() == nil {
		return fmt.Errorf("%w: not within %v: %w", errSlow, limit, err)
	}
	return err
}

func (p *patient) Load(ctx context.Context) (failover.Snapshot, error) {
	began := time.Now()
	limit, deadline := p.deadline(began)
	limited, cancel := context.WithDeadlineCause(ctx, deadline, errSlow)
	defer cancel()
	snapshot, err := p.Store.Load(limited)
	return snapshot, p.ended(ctx, limited, began, limit, err)
}

// Begin counts from here: a commit that waits for another one has to be done in that time with it.
func (p *patient) Begin(ctx context.Context, epoch int64, e failover.Effects, after store.Wait) store.Wait {
	began := time.Now()
	limit, deadline := p.deadline(began)
	limited, cancel := context.WithDeadlineCause(ctx, deadline, errSlow)
	wait := p.Store.Begin(limited, epoch, e, after)
	return func() (store.Committed, error) {
		defer cancel()
		c, err := wait()
		return c, p.ended(ctx, limited, began, limit, err)
	}
}
