package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

// What a leader remembers of its own commits is what another replica reads of them, and no statement is needed for it.
func TestALeaderReadsItsOwnCommits(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	w := newWire(t, url)
	s, other := open(t, w.url), open(t, url)
	epoch := lead(t, s).Epoch
	e := shifted(20, failover.Completed)
	e.Events[3].FailoverID, e.Events[4].AgentID = "", "with\x00NUL"
	commit(t, s, epoch, e)
	commit(t, s, epoch, detected(5))
	executed := w.executed.Load()
	for _, after := range []int64{0, 1, 7, 42} {
		for _, limit := range []int{1, 10, 1000} {
			got, err := s.EventsAfter(t.Context(), after, limit)
			require.NoError(t, err)
			want, err := other.EventsAfter(t.Context(), after, limit)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NotEmpty(t, got)
		}
	}
	require.Equal(t, executed, w.executed.Load())

	_, err := s.EventsAfter(t.Context(), 44, 10) // whether the last one is still there is PostgreSQL's to say
	require.NoError(t, err)
	require.Greater(t, w.executed.Load(), executed)
	executed = w.executed.Load()
	_, err = s.Commit(t.Context(), epoch-1, detected(1))
	require.ErrorIs(t, err, store.ErrFenced)
	executed = w.executed.Load()
	events, err := s.EventsAfter(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, events, 10)
	require.Greater(t, w.executed.Load(), executed, "after a failed commit nothing is remembered")
}

// What another leader wrote in between is not left out.
func TestWhatIsRememberedHasNoGaps(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	s, other := open(t, url), open(t, url)
	epoch := lead(t, s).Epoch
	commit(t, s, epoch, detected(3))
	commit(t, other, epoch, detected(3))
	commit(t, s, epoch, detected(3))
	for after := range int64(9) {
		events, err := s.EventsAfter(t.Context(), after, 100)
		require.NoError(t, err)
		require.Len(t, events, int(9-after))
		require.Equal(t, after+1, events[0].Seq)
	}
}
