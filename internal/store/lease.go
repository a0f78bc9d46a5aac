package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"changeover/internal/store/internal/db"
)

const (
	// idleInCommit is how long a leader may be silent within a transaction before PostgreSQL ends it: what a frozen leader
	// holds is free again after that.
	idleInCommit = 3 * time.Second
	// statementInCommit bounds one statement of a commit.
	statementInCommit = 10 * time.Second
	// lockInCommit bounds the wait for a lock: nobody but another leader or the maintenance of partitions holds one.
	lockInCommit = 3 * time.Second
	// lockInSubmit lets a command wait for the head of the audit's chain longer than a replica that was frozen can hold it.
	lockInSubmit = 5 * time.Second
	// takeoverLock is how long a takeover waits for the last commit of the old leader, before it looks whether that one is stuck.
	takeoverLock = time.Second
)

// Lease is a term of leadership.
type Lease struct {
	Epoch int64
	// TrustedUntil is until when the holder may believe that it leads, on its own monotonic clock. It counts from the start of the
	// call, so a slow answer never lengthens it, and ends a tenth before the lease does in the database.
	TrustedUntil time.Time

	asked   time.Time // when the call began that the lease was last granted to, on the holder's monotonic clock
	granted time.Time // a time of that call on the database's clock
}

// newLease is a lease that counts from a time, not after asked.
func newLease(epoch int64, from, asked time.Time, granted pgtype.Timestamptz, ttl time.Duration) Lease {
	return Lease{Epoch: epoch, TrustedUntil: from.Add(ttl - ttl/10), asked: asked, granted: granted.Time}
}

// at is a time of the holder's clock on the database's, or later, by no more than the last call took. The lease expires that much after it was
// asked for again: a slow way to the database, which carries that out seconds later, does not lengthen the time without decisions.
func (l *Lease) at(t time.Time) pgtype.Timestamptz {
	if l.granted.IsZero() {
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	}
	return pgtype.Timestamptz{Time: l.granted.Add(t.Sub(l.asked)), Valid: true}
}

// AcquireLease begins a new term if the lease is free or has expired, and says whether it did. The epoch is greater than every
// one before, also than those that a restored database has forgotten, because it follows the database's clock in milliseconds.
//
// While the last commit of the leader before is under way the lease cannot be had. When that commit is stuck for more than three
// seconds (a leader that was frozen while it sent a message, which no time-out of PostgreSQL before 17 notices), its session is
// terminated, which needs no privilege as long as both have the same role.
func (s *Store) AcquireLease(ctx context.Context, holder string, ttl time.Duration) (_ Lease, ok bool, err error) {
	ctx, done := s.leaseCall(ctx, "acquire_lease", &err)
	defer done()
	// A look first: followers ask twice a second, and an UPDATE would wait for commits.
	lease, err := s.q.Lease(ctx, s.lease)
	if errors.Is(err, pgx.ErrNoRows) {
		s.log.WarnContext(ctx, "the row of the lease is gone, making it again")
		if err = s.q.RestoreLease(ctx, s.lease); err == nil {
			lease, err = s.q.Lease(ctx, s.lease)
		}
	}
	if err != nil {
		return Lease{}, false, fmt.Errorf("read the lease: %w", err)
	}
	if !lease.Expired && !s.seen.dead(&lease, ttl) {
		return Lease{}, false, nil
	}
	asked := time.Now()
	won, err := s.takeOver(ctx, holder, ttl, &lease)
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		s.count.begin(won.Epoch)
		s.fresh.forget()
		return newLease(won.Epoch, asked, asked, won.Granted, ttl), true, nil
	case errors.Is(err, pgx.ErrNoRows):
		return Lease{}, false, nil // another one was quicker
	case errors.As(err, &pgErr) && pgErr.Code == "55P03": // lock_not_available
		ended, err := s.q.EndStuckCommits(ctx, s.lease, idleInCommit)
		if err != nil {
			return Lease{}, false, fmt.Errorf("end the old leader's transaction: %w", err)
		}
		if ended > 0 {
			s.log.WarnContext(ctx, "ended a transaction that the old leader left open", "sessions", ended, "holder", lease.Holder, "epoch", lease.Epoch)
		}
		return Lease{}, false, nil
	}
	return Lease{}, false, fmt.Errorf("acquire the lease: %w", err)
}

// sighting remembers the lease as it was last seen, and since when. If the database's clock is set back, the lease of a leader that has died
// expires hours later; but a leader that is alive renews it all the time.
type sighting struct {
	mu    sync.Mutex
	lease db.LeaseRow
	since time.Time
}

// dead says whether a lease has been the same for longer than its holder may leave it so.
func (s *sighting) dead(lease *db.LeaseRow, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if same := s.lease.Epoch == lease.Epoch && s.lease.ExpiresAt == lease.ExpiresAt; !same {
		s.lease, s.since = *lease, time.Now()
	}
	return time.Since(s.since) > ttl
}

func (s *Store) takeOver(ctx context.Context, holder string, ttl time.Duration, old *db.LeaseRow) (won db.AcquireLeaseRow, err error) {
	err = pgx.BeginFunc(ctx, s.lease, func(tx pgx.Tx) error {
		if err := s.bound(ctx, tx, takeoverLock); err != nil {
			return err
		}
		won, err = s.q.AcquireLease(ctx, tx, db.AcquireLeaseParams{Holder: text(holder), Ttl: ttl, DeadEpoch: old.Epoch, DeadExpiresAt: old.ExpiresAt})
		return err
	})
	return won, err
}

// leaseCall is a call by the connections of the lease. They are left behind only when they are silent or broken themselves, not with all others
// ([Store.call]): a new one takes several round trips, and a leader whose way has become slow has to release the lease on one that it has.
func (s *Store) leaseCall(ctx context.Context, operation string, err *error) (context.Context, func()) {
	ctx, done := s.call(ctx, operation, quickTimeout, err)
	began := time.Now()
	return ctx, func() {
		switch {
		case *err == nil:
		case time.Since(began) >= quickTimeout:
			s.lease.renew()
		case ctx.Err() == nil:
			s.lease.now().Reset() // the other connection may be as broken
		}
		done()
	}
}

// bound limits what the transaction can hold up, should this program stop in its middle.
func (s *Store) bound(ctx context.Context, tx pgx.Tx, lock time.Duration) error {
	return s.q.CommitTimeouts(ctx, tx, db.CommitTimeoutsParams{
		Idle: milliseconds(idleInCommit), Statement: milliseconds(statementInCommit), Lock: milliseconds(lock),
	})
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// SucceedLease ends a term and begins the next one of the same holder, with an epoch of its own, and says whether it did: not if
// somebody else has begun one. A holder does so after a commit that failed, because it cannot know what the database kept of it. A lease that it still
// trusts is not prolonged by that: the answer may be as late as that of the commit, and the holder give it up.
func (s *Store) SucceedLease(ctx context.Context, lease Lease, holder string, ttl time.Duration) (_ Lease, ok bool, err error) {
	ctx, done := s.leaseCall(ctx, "succeed_lease", &err)
	defer done()
	asked := time.Now()
	from := asked
	if asked.Before(lease.TrustedUntil) {
		from = lease.TrustedUntil.Add(ttl/10 - ttl)
	}
	next, err := s.q.SucceedLease(ctx, s.lease, db.SucceedLeaseParams{Epoch: lease.Epoch, Holder: text(holder), Asked: lease.at(from), Ttl: ttl})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return lease, false, nil
	case err != nil:
		return lease, false, fmt.Errorf("begin the term after %d: %w", lease.Epoch, err)
	}
	s.count.begin(next.Epoch)
	s.fresh.forget()
	return newLease(next.Epoch, from, asked, next.Granted, ttl), true, nil
}

// RenewLease prolongs a term, and says whether it still stands. A term that has expired stands until another one begins, or until it is released. An
// error that is ErrLost tells that the term stands, in a database that has lost commits of it.
func (s *Store) RenewLease(ctx context.Context, lease Lease, holder string, ttl time.Duration) (_ Lease, ok bool, err error) {
	ctx, done := s.leaseCall(ctx, "renew_lease", &err)
	defer done()
	asked := time.Now()
	counted, err := s.hasSchema(ctx, schemaRetention)
	if err != nil {
		return lease, false, fmt.Errorf("renew the lease: %w", err)
	}
	left, known := s.count.left(lease.Epoch) // before the question, so that no commit of this moment makes a difference
	var r db.RenewCountedLeaseRow
	if counted {
		r, err = s.q.RenewCountedLease(ctx, s.lease, db.RenewCountedLeaseParams{Epoch: lease.Epoch, Holder: text(holder), Asked: lease.at(asked), Ttl: ttl})
	} else {
		r.Granted, err = s.q.RenewLease(ctx, s.lease, db.RenewLeaseParams{Epoch: lease.Epoch, Holder: text(holder), Asked: lease.at(asked), Ttl: ttl})
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		s.fresh.forget() // somebody else commits now
		return lease, false, nil
	case err != nil:
		return lease, false, fmt.Errorf("renew the lease: %w", err)
	case counted && known && r.Commits < left:
		return lease, false, fmt.Errorf("the log has %d commits, this leader left %d: %w", r.Commits, left, ErrLost)
	}
	return newLease(lease.Epoch, asked, asked, r.Granted, ttl), true, nil
}

// ReleaseLease ends a term, so that another replica need not wait for it to expire. A term that is over already is no error.
func (s *Store) ReleaseLease(ctx context.Context, lease Lease, holder string) (err error) {
	ctx, done := s.leaseCall(ctx, "release_lease", &err)
	defer done()
	err = s.q.ReleaseLease(ctx, s.lease, db.ReleaseLeaseParams{Epoch: lease.Epoch, Holder: text(holder)})
	return wrap(err, "release the lease")
}

// Clock asks for the database's clock, by which leaders decide. It was that time when the answer came, or later, at most by the time that the call took.
func (s *Store) Clock(ctx context.Context) (_ time.Time, err error) {
	ctx, done := s.call(ctx, "clock", quickTimeout, &err)
	defer done()
	now, err := s.q.Clock(ctx, s.leader)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	return now.Time.UTC(), nil
}

// fence locks the lease row for the transaction and refuses every epoch but the current one.
func (s *Store) fence(ctx context.Context, tx pgx.Tx, epoch int64) error {
	if err := s.bound(ctx, tx, lockInCommit); err != nil {
		return fmt.Errorf("set the transaction's time-outs: %w", err)
	}
	current, err := s.q.LockLease(ctx, tx)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("epoch %d, and there is no lease: %w", epoch, ErrFenced)
	}
	if err != nil {
		return fmt.Errorf("lock the lease: %w", err)
	}
	if current != epoch {
		return fmt.Errorf("epoch %d, the lease is at %d: %w", epoch, current, ErrFenced)
	}
	return nil
}
