package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

type ticketHash = [sha256.Size]byte

// hashOf is the hash of the n-th ticket.
func hashOf(n int) ticketHash { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))) }

func aTicket() store.Ticket {
	return store.Ticket{
		AgentID: "agent-1", Subject: "subject", Name: "Jane", Roles: []string{"agent", "viewer"},
		TokenExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond),
	}
}

func issue(t testing.TB, s *store.Store, hash ticketHash, ticket store.Ticket) time.Time {
	t.Helper()
	expiresAt, err := s.IssueTicket(t.Context(), hash, ticket)
	require.NoError(t, err)
	return expiresAt
}

func TestTickets(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	other := open(t, conn.Config().ConnString())
	want := aTicket()
	expiresAt := issue(t, s, hashOf(1), want)
	require.Equal(t, store.TicketLifetime, expiresAt.Sub(query[time.Time](t, conn, "SELECT created_at FROM stream_tickets")))
	require.WithinDuration(t, time.Now().Add(store.TicketLifetime), expiresAt, 10*time.Second)

	got, err := other.RedeemTicket(t.Context(), hashOf(1))
	require.NoError(t, err, "any replica redeems")
	require.Equal(t, want, got)
	for _, replica := range []*store.Store{s, other} {
		_, err = replica.RedeemTicket(t.Context(), hashOf(1))
		require.ErrorIs(t, err, store.ErrTicket, "once")
	}
	_, err = s.RedeemTicket(t.Context(), hashOf(2))
	require.ErrorIs(t, err, store.ErrTicket, "one that never was")
	require.False(t, store.IsUnavailable(err))
	require.Zero(t, query[int](t, conn, "SELECT count(*) FROM stream_tickets"))

	issue(t, s, hashOf(3), want)
	_, err = s.IssueTicket(t.Context(), hashOf(3), store.Ticket{AgentID: "another", TokenExpiresAt: want.TokenExpiresAt})
	require.Error(t, err, "what was made stays what it is")
	got, err = s.RedeemTicket(t.Context(), hashOf(3))
	require.NoError(t, err)
	require.Equal(t, want, got)

	for _, bad := range []store.Ticket{{AgentID: "agent"}, {TokenExpiresAt: time.Now()}} {
		_, err = s.IssueTicket(t.Context(), hashOf(4), bad)
		require.ErrorContains(t, err, "it needs")
	}
}

// A ticket is good for 30 seconds by the database's clock, and never longer than the token that it was bought with.
func TestTicketsExpire(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	issue(t, s, hashOf(1), aTicket())
	exec(t, conn, "UPDATE stream_tickets SET expires_at = expires_at - interval '30 s'")
	_, err := s.RedeemTicket(t.Context(), hashOf(1))
	require.ErrorIs(t, err, store.ErrTicket)

	short := aTicket()
	short.TokenExpiresAt = query[time.Time](t, conn, "SELECT now() + interval '20 s'").UTC()
	require.Equal(t, short.TokenExpiresAt, issue(t, s, hashOf(2), short).UTC())
	over := aTicket()
	over.TokenExpiresAt = query[time.Time](t, conn, "SELECT now()")
	issue(t, s, hashOf(3), over)
	_, err = s.RedeemTicket(t.Context(), hashOf(3))
	require.ErrorIs(t, err, store.ErrTicket)

	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, 1, query[int](t, conn, "SELECT count(*) FROM stream_tickets"), "the one that is good")
	_, err = s.RedeemTicket(t.Context(), hashOf(2))
	require.NoError(t, err)
}

func TestManyExpiredTicketsArePruned(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	exec(t, conn, `INSERT INTO stream_tickets (hash, agent_id, subject, name, roles, token_expires_at, created_at, expires_at)
		SELECT sha256(i::text::bytea), 'agent', '', '', '{}', now(), now(), now() - i * interval '1 ms' FROM generate_series(1, 25000) i`)
	issue(t, s, hashOf(1), aTicket())
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, 1, query[int](t, conn, "SELECT count(*) FROM stream_tickets"))
}

// A stolen ticket, shown by the thief to every replica while its owner does the same: it opens one stream.
func TestATicketIsRedeemedOnceWhoeverShowsIt(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	replicas := []*store.Store{s, open(t, conn.Config().ConnString()), open(t, conn.Config().ConnString())}
	const tickets, shown = 200, 4 // by each replica
	for i := range tickets {
		issue(t, s, hashOf(i), aTicket())
	}
	var redeemed [tickets]atomic.Int32
	var wg sync.WaitGroup
	for _, replica := range replicas {
		for range shown {
			for _, i := range rand.Perm(tickets) { // each in its own order: nobody may wait for the other in a circle
				wg.Go(func() {
					_, err := replica.RedeemTicket(t.Context(), hashOf(i))
					switch {
					case err == nil:
						redeemed[i].Add(1)
					case err != store.ErrTicket: //nolint:errorlint // it is not wrapped, so that nobody is told more
						t.Errorf("redeem: %v", err)
					}
				})
			}
		}
	}
	wg.Wait()
	for i := range redeemed {
		require.Equal(t, int32(1), redeemed[i].Load(), "ticket %d", i)
	}
}

// The floor reconnects: 20,000 desktops, two replicas. That must not be 20,000 statements.
func TestAHerdRedeemsInBatches(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	w := newWire(t, url)
	replicas := []*store.Store{open(t, w.url), open(t, w.url)}
	const herd = 20_000
	issued := herdOf(t, herd, func(i int) error {
		ticket := aTicket()
		ticket.Subject = time.Duration(i).String()
		_, err := replicas[i%2].IssueTicket(t.Context(), hashOf(i), ticket)
		return err
	}, w)
	redeemed := herdOf(t, herd, func(i int) error {
		got, err := replicas[i/2%2].RedeemTicket(t.Context(), hashOf(i)) // half of them at the other replica
		if err == nil && got.Subject != time.Duration(i).String() {
			t.Errorf("ticket %d is that of %s", i, got.Subject)
		}
		return err
	}, w)
	t.Logf("%d tickets: %d statements to issue, %d to redeem", herd, issued, redeemed)
	require.Less(t, issued, int64(100))
	require.Less(t, redeemed, int64(100))
}

// herdOf does something n times at once and returns how many statements that was.
func herdOf(t *testing.T, n int, do func(i int) error, w *wire) int64 {
	t.Helper()
	before := w.executed.Load()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := do(i); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	return w.executed.Load() - before
}

// Without its database a replica can neither accept nor refuse a ticket, and says so.
func TestTicketsWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres://nobody@127.0.0.1:1/nothing?sslmode=disable")
	_, err := s.RedeemTicket(t.Context(), hashOf(1))
	require.True(t, store.IsUnavailable(err), err)
	require.NotErrorIs(t, err, store.ErrTicket)
	_, err = s.IssueTicket(t.Context(), hashOf(1), aTicket())
	require.True(t, store.IsUnavailable(err), err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.RedeemTicket(ctx, hashOf(1))
	require.ErrorIs(t, err, context.Canceled)
}
