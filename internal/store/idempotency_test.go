package store_test

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// begin claims a key, or returns the answer that there is.
func begin(t testing.TB, s *store.Store, key, body string) (*store.Answer, error) {
	t.Helper()
	return s.BeginIdempotent(t.Context(), "operator", key, []byte(body))
}

func claim(t testing.TB, s *store.Store, key, body string) {
	t.Helper()
	answer, err := begin(t, s, key, body)
	require.NoError(t, err)
	require.Nil(t, answer)
}

// pass lets time go by for the keys.
func pass(t testing.TB, conn *pgx.Conn, interval string) {
	t.Helper()
	exec(t, conn, "UPDATE idempotency_keys SET created_at = created_at - $1::text::interval", interval)
}

func submit(t testing.TB, s *store.Store, key string) (int64, error) {
	t.Helper()
	return s.Submit(store.WithIdempotencyKey(t.Context(), "operator", key), store.CommandBulkForce, failover.BulkForce{Group: "main"}, store.AuditEntry{Subject: "operator"})
}

func commands(t testing.TB, conn *pgx.Conn) int {
	t.Helper()
	n := query[int](t, conn, "SELECT count(*) FROM inbox")
	require.Equal(t, n, query[int](t, conn, "SELECT count(*) FROM audit"), "each is in the audit")
	return n
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	other := open(t, conn.Config().ConnString())
	ctx := t.Context()
	claim(t, s, "key", "body")
	for _, replica := range []*store.Store{s, other} {
		_, err := begin(t, replica, "key", "body")
		require.ErrorIs(t, err, store.ErrKeyInUse)
		_, err = begin(t, replica, "key", "other")
		require.ErrorIs(t, err, store.ErrKeyReused)
	}
	answer, err := s.BeginIdempotent(ctx, "somebody else", "key", []byte("other"))
	require.NoError(t, err)
	require.Nil(t, answer, "keys are each caller's own")

	want := store.Answer{Status: 202, ContentType: "application/json", Body: []byte("{\"a\": 1}\n\x00\xff")}
	require.NoError(t, s.FinishIdempotent(ctx, "operator", "key", want))
	for _, replica := range []*store.Store{s, other} {
		answer, err = begin(t, replica, "key", "body")
		require.NoError(t, err)
		require.Equal(t, &want, answer, "byte for byte")
		_, err = begin(t, replica, "key", "other")
		require.ErrorIs(t, err, store.ErrKeyReused)
	}
	require.NoError(t, s.ReleaseIdempotent(ctx, "operator", "key"), "too late: it was answered")
	require.ErrorIs(t, s.FinishIdempotent(ctx, "operator", "key", store.Answer{Status: 500}), store.ErrKeyLost)
	answer, err = begin(t, s, "key", "body")
	require.NoError(t, err)
	require.Equal(t, &want, answer, "the first answer stays")

	require.NoError(t, s.ReleaseIdempotent(ctx, "somebody else", "key"))
	answer, err = other.BeginIdempotent(ctx, "somebody else", "key", []byte("third"))
	require.NoError(t, err)
	require.Nil(t, answer, "nothing was done, so the key is new")
}

func TestIdempotencyKeysAreKeptForADay(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	claim(t, s, "key", "body")
	require.NoError(t, s.FinishIdempotent(t.Context(), "operator", "key", store.Answer{Status: 202}))
	pass(t, conn, "23 hours 59 minutes")
	require.NoError(t, s.Prune(t.Context()))
	answer, err := begin(t, s, "key", "body")
	require.NoError(t, err)
	require.Equal(t, 202, answer.Status)
	_, err = begin(t, s, "key", "a new body")
	require.ErrorIs(t, err, store.ErrKeyReused)

	pass(t, conn, "2 minutes")
	claim(t, s, "key", "a new body") // before anybody prunes
	_, err = begin(t, open(t, conn.Config().ConnString()), "key", "a new body")
	require.ErrorIs(t, err, store.ErrKeyInUse, "the old answer is gone")
	pass(t, conn, "25 hours")
	require.NoError(t, s.Prune(t.Context()))
	require.Zero(t, query[int](t, conn, "SELECT count(*) FROM idempotency_keys"))
}

// A double click, and a proxy that sends everything to two replicas: one request is done.
func TestAKeyIsClaimedOnce(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	replicas := []*store.Store{s, open(t, conn.Config().ConnString()), open(t, conn.Config().ConnString())}
	for range 10 {
		var claimed atomic.Int32
		var winner atomic.Pointer[store.Store]
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				answer, err := begin(t, replicas[i%3], "key", "body")
				switch {
				case err == nil && answer == nil:
					claimed.Add(1)
					winner.Store(replicas[i%3])
				case !errors.Is(err, store.ErrKeyInUse):
					t.Errorf("%v, %v", answer, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(1), claimed.Load())
		require.NoError(t, winner.Load().ReleaseIdempotent(t.Context(), "operator", "key"))
	}
}

// A replica dies in the middle of a request, before it has asked anything of the leader: the caller, who sends the request again, waits
// for a minute at most.
func TestAReplicaDiesBeforeItHasDoneAnything(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	dead := open(t, conn.Config().ConnString())
	claim(t, dead, "key", "body")
	dead.Close()
	pass(t, conn, "59 seconds")
	_, err := begin(t, s, "key", "body")
	require.ErrorIs(t, err, store.ErrKeyInUse)
	pass(t, conn, "2 seconds")
	_, err = begin(t, s, "key", "another body")
	require.ErrorIs(t, err, store.ErrKeyReused)
	claim(t, s, "key", "body")
	_, err = submit(t, s, "key")
	require.NoError(t, err)
	require.Equal(t, 1, commands(t, conn))
}

// It dies after that. A bulk force that is done again would drop calls that came since; the request that takes its place gets the
// result of the command that is there.
func TestAReplicaDiesBeforeItHasAnswered(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	dead := open(t, conn.Config().ConnString())
	claim(t, dead, "key", "body")
	first, err := submit(t, dead, "key")
	require.NoError(t, err)
	again, err := submit(t, dead, "key")
	require.NoError(t, err)
	require.Equal(t, first, again, "a request has one command")
	dead.Close()
	commit(t, s, lead(t, s).Epoch, failover.Effects{Results: []failover.Result{{CommandID: first, Outcome: failover.OutcomeDone, Forced: 7}}})

	for range 2 { // and the next one dies too
		pass(t, conn, "61 seconds")
		next := open(t, conn.Config().ConnString())
		claim(t, next, "key", "body")
		id, err := submit(t, next, "key")
		require.NoError(t, err)
		require.Equal(t, first, id)
	}
	require.Equal(t, 1, commands(t, conn))
	result, done, err := s.CommandResult(t.Context(), first)
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, 7, result.Forced)

	pass(t, conn, "25 hours") // another day, another request
	claim(t, s, "key", "body")
	id, err := submit(t, s, "key")
	require.NoError(t, err)
	require.NotEqual(t, first, id)
	require.Equal(t, 2, commands(t, conn))
}

// A replica is frozen for longer than a minute, and wakes up when another one has done its request: it can neither do it once more
// nor replace the answer.
func TestAReplicaWakesUpTooLate(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	frozen := open(t, conn.Config().ConnString())
	claim(t, frozen, "key", "body")
	pass(t, conn, "61 seconds")
	claim(t, s, "key", "body")
	_, err := submit(t, frozen, "key")
	require.ErrorIs(t, err, store.ErrKeyLost)
	require.Zero(t, commands(t, conn))
	_, err = submit(t, s, "key")
	require.NoError(t, err)
	require.ErrorIs(t, frozen.FinishIdempotent(t.Context(), "operator", "key", store.Answer{Status: 409}), store.ErrKeyLost)
	require.NoError(t, frozen.ReleaseIdempotent(t.Context(), "operator", "key"))
	require.NoError(t, s.FinishIdempotent(t.Context(), "operator", "key", store.Answer{Status: 202}))
	answer, err := begin(t, frozen, "key", "body")
	require.NoError(t, err)
	require.Equal(t, 202, answer.Status)
	require.Equal(t, 1, commands(t, conn))
}

// Within one program nobody has to guess: a request that takes long is not taken for dead.
func TestASlowRequestIsNotTakenForDead(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	claim(t, s, "key", "body")
	pass(t, conn, "1 hour")
	_, err := begin(t, s, "key", "body")
	require.ErrorIs(t, err, store.ErrKeyInUse)
	_, err = begin(t, s, "key", "another body")
	require.ErrorIs(t, err, store.ErrKeyReused)
}

// A command was submitted, but the caller was told of a fault: its retry gets that command, at once, and another body is still
// another body.
func TestAKeyIsReleasedAfterACommand(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	claim(t, s, "key", "body")
	first, err := submit(t, s, "key")
	require.NoError(t, err)
	require.NoError(t, s.ReleaseIdempotent(t.Context(), "operator", "key"))
	other := open(t, conn.Config().ConnString())
	_, err = begin(t, other, "key", "another body")
	require.ErrorIs(t, err, store.ErrKeyReused)
	claim(t, other, "key", "body")
	id, err := submit(t, other, "key")
	require.NoError(t, err)
	require.Equal(t, first, id)
	require.Equal(t, 1, commands(t, conn))
}

// Commands with and without keys, lost and answered ones, share a batch, and each gets its own answer.
func TestKeysInABatch(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	for _, key := range []string{"fresh", "lost", "done"} {
		claim(t, s, key, "body")
	}
	first, err := submit(t, s, "done")
	require.NoError(t, err)
	exec(t, conn, "UPDATE idempotency_keys SET created_at = created_at + interval '1 s' WHERE key = 'lost'")
	keys := append([]string{"fresh", "lost", "done"}, make([]string, 17)...) // the others have none
	ids := make([]int64, len(keys))
	var wg sync.WaitGroup
	for i, key := range keys {
		wg.Go(func() {
			id, err := submit(t, s, key)
			if (key == "lost") != errors.Is(err, store.ErrKeyLost) || (key != "lost" && err != nil) {
				t.Errorf("%q: %v", key, err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	require.Zero(t, ids[1])
	require.Equal(t, first, ids[2])
	require.Equal(t, 1+1+17, commands(t, conn))
	slices.Sort(ids)
	require.Len(t, slices.Compact(ids), 20, "each has its own")
}
