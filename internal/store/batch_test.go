package store

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// double is what the batchers of these tests do, in 10 ms, and remember.
type double struct {
	batches [][]int
	began   []time.Time
	err     func(in []int) error // nil: none
}

func (d *double) run(_ context.Context, in []int) ([]int, error) {
	d.batches, d.began = append(d.batches, in), append(d.began, time.Now())
	time.Sleep(10 * time.Millisecond) // of a bubble
	if d.err != nil {
		if err := d.err(in); err != nil {
			return nil, err
		}
	}
	out := make([]int, len(in))
	for i, n := range in {
		out[i] = 2 * n
	}
	return out, nil
}

type answered struct {
	n, got int
	err    error
}

// ask calls for each number at once, in order.
func ask(ctx context.Context, b *batcher[int, int], numbers ...int) <-chan answered {
	answers := make(chan answered, len(numbers))
	for _, n := range numbers {
		go func() {
			got, err := b.do(ctx, n)
			answers <- answered{n, got, err}
		}()
		synctest.Wait()
	}
	return answers
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestBatcherAnswersEachCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, 4, 100*time.Millisecond)
		answers := ask(t.Context(), b, upTo(11)...)
		for range 11 {
			a := <-answers
			require.NoError(t, a.err)
			require.Equal(t, 2*a.n, a.got)
		}
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10}}, d.batches, "the first has no delay, the next are full, in order")
		require.Equal(t, 100*time.Millisecond, d.began[3].Sub(d.began[2]), "what does not fill a batch gathers")
		synctest.Wait()
		require.False(t, b.working, "without calls there is no goroutine")
	})
}

func TestBatcherDoesNotDelayWhatComesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, 4, 100*time.Millisecond)
		began := time.Now()
		for i := range 5 {
			got, err := b.do(t.Context(), i)
			require.NoError(t, err)
			require.Equal(t, 2*i, got)
		}
		require.Equal(t, 50*time.Millisecond, time.Since(began))
	})
}

// A full batch does not wait for the time to gather to be over.
func TestBatcherBeginsWhenABatchIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, 3, time.Hour)
		one := ask(t.Context(), b, 0, 1, 2)
		for range 3 {
			<-one
		}
		synctest.Wait()
		require.False(t, b.working, "nobody waits, nothing gathers")
		two := ask(t.Context(), b, 3, 4) // gather since the batch of 1 and 2
		time.Sleep(time.Minute)
		require.Len(t, d.batches, 2)
		three := ask(t.Context(), b, 5)
		require.NoError(t, (<-two).err)
		require.NoError(t, (<-two).err)
		require.NoError(t, (<-three).err)
		require.Equal(t, [][]int{{0}, {1, 2}, {3, 4, 5}}, d.batches)
		require.Equal(t, time.Minute+10*time.Millisecond, d.began[2].Sub(d.began[1]))
	})
}

// Few calls gather briefly, many for long: a herd costs few statements, and a handful of callers does not notice.
func TestBatcherGathersInProportion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, 100, 500*time.Millisecond)
		b.each = 20 * time.Millisecond
		few := ask(t.Context(), b, upTo(5)...) // one at once, then four
		time.Sleep(15 * time.Millisecond)
		many := ask(t.Context(), b, upTo(40)...)
		time.Sleep(90 * time.Millisecond)
		last := ask(t.Context(), b, 1)
		for range 5 {
			require.NoError(t, (<-few).err)
		}
		for range 40 {
			require.NoError(t, (<-many).err)
		}
		require.NoError(t, (<-last).err)
		require.Len(t, d.began, 4)
		require.Equal(t, 80*time.Millisecond, d.began[2].Sub(d.began[1]), "after four calls")
		require.Equal(t, 500*time.Millisecond, d.began[3].Sub(d.began[2]), "after forty, and no longer than that")
	})
}

func TestBatcherIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, 2, 0)
		b.queue = 3
		answers := ask(t.Context(), b, upTo(6)...) // one is at work, three wait
		refused := 0
		for range 6 {
			if a := <-answers; a.err != nil {
				require.ErrorIs(t, a.err, ErrBusy)
				require.True(t, IsUnavailable(a.err))
				refused++
			}
		}
		require.Equal(t, 2, refused)
	})
}

// Whoever gives up waits no longer, and what it asked for is left out if nobody has begun with it.
func TestBatcherLeavesOutWhoGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, 4, 0)
		ctx, cancel := context.WithCancel(t.Context())
		first := ask(ctx, b, 0)
		given := ask(ctx, b, 1, 2)
		kept := ask(t.Context(), b, 3)
		cancel()
		for range 2 {
			require.ErrorIs(t, (<-given).err, context.Canceled)
		}
		require.ErrorIs(t, (<-first).err, context.Canceled)
		require.Equal(t, answered{3, 6, nil}, <-kept)
		require.Equal(t, [][]int{{0}, {3}}, d.batches)
	})
}

// What PostgreSQL refuses for its content is refused alone; a database that is away is everybody's trouble, and is asked once.
func TestBatcherOneBadCallDoesNotSpoilTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := double{err: func(in []int) error {
			if slices.Contains(in, 2) {
				return &pgconn.PgError{Code: "22P02"}
			}
			return nil
		}}
		b := newBatcher(d.run, 4, 0)
		answers := ask(t.Context(), b, upTo(4)...)
		for range 4 {
			a := <-answers
			if a.n == 2 {
				require.Error(t, a.err)
			} else {
				require.Equal(t, answered{a.n, 2 * a.n, nil}, a)
			}
		}
		require.Equal(t, [][]int{{0}, {1, 2, 3}, {1}, {2}, {3}}, d.batches)

		away := &pgconn.PgError{Code: "57P01"}
		d = double{err: func([]int) error { return away }}
		answers = ask(t.Context(), b, upTo(4)...)
		for range 4 {
			require.ErrorIs(t, (<-answers).err, away)
		}
		require.Len(t, d.batches, 2)
	})
}

func TestBatcherClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, 2, time.Hour)
		answers := ask(t.Context(), b, upTo(4)...)
		began := time.Now()
		b.close()
		require.Equal(t, 30*time.Millisecond, time.Since(began), "nothing gathers any more")
		require.False(t, b.working)
		for range 4 {
			require.NoError(t, (<-answers).err, "what waited was answered")
		}
		_, err := b.do(t.Context(), 1)
		require.ErrorIs(t, err, errClosed)
		b.close()
	})
}

// 20,000 desktops that redeem their tickets within two seconds are a few dozen statements, and none waits for long.
func TestAHerdIsAFewDozenBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d double
		b := newBatcher(d.run, ticketBatch, ticketGather)
		const herd = 20_000
		waited := make(chan time.Duration, herd)
		for i := range herd {
			time.Sleep(2 * time.Second / herd)
			began := time.Now()
			go func() {
				got, err := b.do(t.Context(), i)
				if err != nil || got != 2*i {
					t.Errorf("%d: %d, %v", i, got, err)
				}
				waited <- time.Since(began)
			}()
		}
		longest := time.Duration(0)
		for range herd {
			longest = max(longest, <-waited)
		}
		t.Logf("%d batches, at most %v", len(d.batches), longest)
		require.Less(t, len(d.batches), 60)
		require.LessOrEqual(t, longest, ticketGather+20*time.Millisecond, "the gathering, the batch before and its own")
	})
}
