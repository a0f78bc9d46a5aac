package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

func TestALeaseIsTakenOverOnlyWhenItIsFreeOrExpired(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	before := time.Now()
	first, ok, err := s.AcquireLease(t.Context(), "one", 10*time.Second)
	require.NoError(t, err)
	require.True(t, ok)
	require.WithinDuration(t, before.Add(9*time.Second), first.TrustedUntil, time.Second)
	require.GreaterOrEqual(t, first.Epoch, before.UnixMilli()-1000, "epochs follow the clock")

	for _, holder := range []string{"one", "two"} { // also a holder of the same name: it may be a second program
		_, ok, err = s.AcquireLease(t.Context(), holder, 10*time.Second)
		require.NoError(t, err)
		require.False(t, ok)
	}
	_, ok, err = s.RenewLease(t.Context(), first, "two", 10*time.Second)
	require.NoError(t, err)
	require.False(t, ok, "somebody else's term")
	renewed, ok, err := s.RenewLease(t.Context(), first, "one", 20*time.Second)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, first.Epoch, renewed.Epoch)
	require.Greater(t, renewed.TrustedUntil, first.TrustedUntil)

	depose(t, conn)
	second, ok, err := s.AcquireLease(t.Context(), "two", 10*time.Second)
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, second.Epoch, first.Epoch)
	_, ok, err = s.RenewLease(t.Context(), first, "one", 10*time.Second)
	require.NoError(t, err)
	require.False(t, ok, "the term is over")
	require.NoError(t, s.ReleaseLease(t.Context(), first, "one")) // late: it must not end the second term
	_, ok, err = s.AcquireLease(t.Context(), "three", 10*time.Second)
	require.NoError(t, err)
	require.False(t, ok)

	require.NoError(t, s.ReleaseLease(t.Context(), second, "two"))
	third, ok, err := s.AcquireLease(t.Context(), "three", 10*time.Second)
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, third.Epoch, second.Epoch)
}

// A holder can begin the next term at once, expired or not, but never one after somebody else's.
func TestATermSucceedsTheSameHoldersOnly(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	first, ok, err := s.AcquireLease(t.Context(), "one", 10*time.Second)
	require.NoError(t, err)
	require.True(t, ok)
	depose(t, conn)
	second, ok, err := s.SucceedLease(t.Context(), first, "one", 10*time.Second)
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, second.Epoch, first.Epoch)
	_, err = s.Commit(t.Context(), first.Epoch, failover.Effects{})
	require.ErrorIs(t, err, store.ErrFenced, "the term before is over")
	_, ok, err = s.AcquireLease(t.Context(), "two", 10*time.Second)
	require.NoError(t, err)
	require.False(t, ok, "the new term has not expired")

	for holder, lease := range map[string]store.Lease{"one": first, "two": second} {
		_, ok, err = s.SucceedLease(t.Context(), lease, holder, 10*time.Second)
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestALeaseExpiresByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	_, ok, err := s.AcquireLease(t.Context(), "one", 50*time.Millisecond)
	require.NoError(t, err)
	require.True(t, ok)
	require.Eventually(t, func() bool {
		_, ok, err := s.AcquireLease(t.Context(), "two", time.Minute)
		return err == nil && ok
	}, 5*time.Second, 10*time.Millisecond)
}

func TestOneOfManyGetsTheLease(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	var wg sync.WaitGroup
	var won atomic.Int64
	for range 16 {
		wg.Go(func() {
			_, ok, err := s.AcquireLease(t.Context(), "somebody", time.Minute)
			if err != nil {
				t.Error(err)
			}
			if ok {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, won.Load())
}

// A commit keeps takeovers out, not the renewals of its own leader: else a long one would cost the lease.
func TestARenewalDoesNotWaitForACommit(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	lease := lead(t, s)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })                                   // it is committed, unless the test fails
	_, err = tx.Exec(t.Context(), "SELECT epoch FROM leases WHERE name = 'leader' FOR KEY SHARE") // as Commit does
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, ok, err := s.RenewLease(ctx, lease, "test", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)

	_, err = tx.Exec(t.Context(), "UPDATE leases SET expires_at = '-infinity'")
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
}

// A leader that was frozen in a transaction (SIGSTOP, a virtual machine that is moved, a network that swallows everything) holds the
// lease's row. The next leader has it at most a few seconds after the lease's end, wherever the old one stopped.
func TestAFrozenLeaderDoesNotHoldUpTheNext(t *testing.T) {
	t.Parallel()
	effects := shifted(2000, failover.Pending)
	const parse, bind, copyData = 'P', 'B', 'd'
	large := 0
	for name, freeze := range map[string]func(kind byte, size int) bool{
		"between two statements": func(kind byte, size int) bool {
			return kind == parse && size > 1000
		},
		"within the message that writes agents": func(kind byte, size int) bool {
			return kind == bind && size > 100_000
		},
		"within the message that writes failovers": func(kind byte, size int) bool {
			if kind == bind && size > 100_000 {
				large++
			}
			return large == 4 // after agents and twice the contacts
		},
		"within the COPY of the events": func(kind byte, _ int) bool {
			return kind == copyData
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := postgrestest.NewDatabase(t)
			w := newWire(t, url)
			old, next := open(t, w.url), open(t, url)
			conn := connect(t, url)
			lease := lead(t, old)
			require.NoError(t, old.Ping(t.Context()))

			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			w.freeze.Store(&freeze)
			go func() {
				_, err := old.Commit(ctx, lease.Epoch, effects)
				failed <- err
			}()
			select {
			case <-w.frozen:
			case err := <-failed:
				t.Fatalf("the commit was over before it was frozen: %v", err)
			}
			depose(t, conn)
			began := time.Now()
			var won store.Lease
			require.Eventually(t, func() bool {
				lease, ok, err := next.AcquireLease(t.Context(), "next", time.Minute)
				won = lease
				return err == nil && ok
			}, 8*time.Second, 100*time.Millisecond)
			require.Less(t, time.Since(began), 6*time.Second)
			t.Logf("had the lease after %v", time.Since(began).Round(10*time.Millisecond))
			commit(t, next, won.Epoch, detected(1))
			require.Equal(t, 1, query[int](t, conn, "SELECT count(*) FROM events"))
			require.Equal(t, 0, query[int](t, conn, "SELECT count(*) FROM agents"))
			cancel()
			require.Error(t, <-failed)
		})
	}
}

// Somebody has deleted the row: the next who asks makes it again, with an epoch above all in the log, and who led before is fenced.
func TestTheLeasesRowIsDeleted(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	old := lead(t, s)
	commit(t, s, old.Epoch, detected(1))
	exec(t, conn, "UPDATE event_log SET epoch = epoch + 1000000000") // the database's clock was ahead then
	exec(t, conn, "DELETE FROM leases")
	_, err := s.Commit(t.Context(), old.Epoch, detected(1))
	require.ErrorIs(t, err, store.ErrFenced)
	_, ok, err := s.RenewLease(t.Context(), old, "test", time.Minute)
	require.NoError(t, err)
	require.False(t, ok)

	next, ok, err := s.AcquireLease(t.Context(), "next", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, old.Epoch+1000000001, next.Epoch)
	_, err = s.Commit(t.Context(), old.Epoch, detected(1))
	require.ErrorIs(t, err, store.ErrFenced)
	commit(t, s, next.Epoch, detected(1))
}

// The database's clock is set back by an hour and the leader dies: its lease, which ends in an hour by that clock, is taken when nobody has
// renewed it for as long as it lasts by the clock of who wants it. One that is renewed is not taken.
func TestALeaseOfAClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	lease := lead(t, s)
	const ttl = 300 * time.Millisecond
	ask := func() (store.Lease, bool) {
		won, ok, err := s.AcquireLease(t.Context(), "next", ttl)
		require.NoError(t, err)
		return won, ok
	}
	for range 5 {
		exec(t, conn, "UPDATE leases SET expires_at = clock_timestamp() + interval '1 hour'") // renewed
		_, ok := ask()
		require.False(t, ok)
		time.Sleep(ttl / 3)
	}
	began := time.Now()
	var next store.Lease
	require.Eventually(t, func() bool {
		won, ok := ask()
		next = won
		return ok
	}, 10*time.Second, 20*time.Millisecond)
	require.Greater(t, time.Since(began), ttl/2)
	_, err := s.Commit(t.Context(), lease.Epoch, detected(1))
	require.ErrorIs(t, err, store.ErrFenced)
	commit(t, s, next.Epoch, detected(1))
}

// A renewal that PostgreSQL carries out late counts from when it was asked for, and never ends before its holder believes.
func TestALeaseCountsFromWhenItWasAskedFor(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	way := postgrestest.NewProxy(t, url)
	s, conn := open(t, way.URL()), connect(t, url)
	const ttl, delay = time.Minute, time.Second
	lease, ok, err := s.AcquireLease(t.Context(), "one", ttl)
	require.NoError(t, err)
	require.True(t, ok)
	expiry := func() (now, expires time.Time) {
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT clock_timestamp(), expires_at FROM leases").Scan(&now, &expires))
		return now, expires
	}
	for name, ask := range map[string]func(context.Context, store.Lease, string, time.Duration) (store.Lease, bool, error){
		"renewed": s.RenewLease, "succeeded": s.SucceedLease,
	} {
		way.Delay(0)
		lease, ok, err = s.RenewLease(t.Context(), lease, "one", ttl)
		require.NoError(t, err)
		require.True(t, ok)
		way.Delay(delay)
		before, _ := expiry()
		asked := time.Now()
		lease, ok, err = ask(t.Context(), lease, "one", ttl)
		require.NoError(t, err)
		require.True(t, ok)
		require.Less(t, time.Since(asked), 3*delay, "%s: one round trip", name)
		_, expires := expiry()
		require.GreaterOrEqual(t, expires.Sub(before), ttl-ttl/10, name)
		require.Less(t, expires.Sub(before), ttl+delay*9/10, name)
		require.WithinDuration(t, asked.Add(ttl-ttl/10), lease.TrustedUntil, delay/2, name)
	}
}

// What a term is succeeded for may be a slow way: the lease is not prolonged before a renewal is answered.
func TestASuccessionProlongsNothing(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	lease := lead(t, s)
	expires := query[time.Time](t, conn, "SELECT expires_at FROM leases")
	time.Sleep(500 * time.Millisecond)
	for range 2 {
		next, ok, err := s.SucceedLease(t.Context(), lease, "test", time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		require.WithinDuration(t, lease.TrustedUntil, next.TrustedUntil, time.Microsecond)
		require.WithinDuration(t, expires, query[time.Time](t, conn, "SELECT expires_at FROM leases"), 200*time.Millisecond)
		lease = next
	}

	depose(t, conn)
	lease.TrustedUntil = time.Now()
	_, ok, err := s.SucceedLease(t.Context(), lease, "test", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, query[time.Time](t, conn, "SELECT expires_at FROM leases"), expires.Add(400*time.Millisecond), "one that ran out begins anew")
}

// A renewal that was asked for before the lease was released arrives after that.
func TestAReleasedLeaseIsNotRenewed(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	lease := lead(t, s)
	require.NoError(t, s.ReleaseLease(t.Context(), lease, "test"))
	_, ok, err := s.RenewLease(t.Context(), lease, "test", time.Minute)
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = s.AcquireLease(t.Context(), "next", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
}
