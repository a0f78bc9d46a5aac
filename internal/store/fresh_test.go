package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/store/internal/db"
)

func TestFresh(t *testing.T) {
	t.Parallel()
	rows := func(epoch, first, last int64) (rows []db.InsertEventsParams) {
		for seq := first; seq <= last; seq++ {
			rows = append(rows, db.InsertEventsParams{Seq: seq, Epoch: epoch})
		}
		return rows
	}
	var f fresh
	seqs := func(after int64, limit int) (seqs []int64) {
		for _, e := range f.after(after, limit) {
			seqs = append(seqs, e.Seq)
		}
		return seqs
	}
	require.Nil(t, seqs(0, 10))
	f.add(rows(1, 5, 7))
	require.Nil(t, seqs(3, 10), "4 is not known")
	require.Equal(t, []int64{5, 6, 7}, seqs(4, 10))
	require.Equal(t, []int64{6}, seqs(5, 1))
	require.Equal(t, []int64{7}, seqs(6, 10))
	require.Nil(t, seqs(7, 10), "the database may have more: another leader's")
	f.add(rows(1, 8, 9))
	require.Equal(t, []int64{7, 8, 9}, seqs(6, 10))
	f.add(rows(2, 10, 10))
	require.Equal(t, []int64{10}, seqs(9, 10))
	require.Nil(t, seqs(8, 10), "another term's")
	f.add(rows(2, 12, 12))
	require.Nil(t, seqs(9, 10), "numbers have no gaps")
	f.forget()
	require.Nil(t, seqs(11, 10))

	f.add(rows(2, 1, 3*freshEvents))
	f.add(rows(2, 3*freshEvents+1, 3*freshEvents+10))
	require.Len(t, seqs(2*freshEvents+10, 1<<20), freshEvents)
	require.Nil(t, seqs(2*freshEvents+9, 10))
	f.at = f.at.Add(-freshFor - time.Second)
	require.Nil(t, seqs(2*freshEvents+10, 10), "long ago")
	require.Nil(t, f.commits)
}
