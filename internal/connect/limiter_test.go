package connect

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// tolerance is how precisely the tests look at the clock: waits are rounded up by microseconds.
const tolerance = 100 * time.Microsecond

// requireIdle fails unless the limiter has forgotten everybody who ever waited.
func requireIdle(t *testing.T, l *limiter) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Nil(t, l.timer, "a timer is armed although nobody waits")
	require.Nil(t, l.first())
}

// take waits for a token and returns how long it took.
func take(t *testing.T, l *limiter, p Priority) time.Duration {
	t.Helper()
	d := elapsed(t.Context(), l, p)
	require.GreaterOrEqual(t, d, time.Duration(0), "no token")
	return d
}

// elapsed is take for other goroutines than the test's; negative: no token.
func elapsed(ctx context.Context, l *limiter, p Priority) time.Duration {
	start := time.Now()
	if err := l.wait(ctx, p); err != nil {
		return -1
	}
	return time.Since(start)
}

func TestLimiterBurstThenRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2, 5)
		for range 5 {
			require.Zero(t, take(t, l, Sweep))
		}
		for range 20 {
			require.InDelta(t, 500*time.Millisecond, take(t, l, Sweep), float64(tolerance))
		}
		time.Sleep(time.Hour) // does not save up more than the burst
		start := time.Now()
		for range 15 {
			take(t, l, Sweep)
		}
		require.InDelta(t, 5*time.Second, time.Since(start), float64(10*tolerance))
	})
}

// A hundred waiters of each priority arrive mixed: all of a higher priority go first, in the order of their arrival.
func TestLimiterPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(10, 1)
		take(t, l, Drain)
		var mu sync.Mutex
		var order []string
		arrive := func(p Priority, name string) {
			go func() {
				if err := l.wait(t.Context(), p); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
			}()
			synctest.Wait()
		}
		var want [priorities][]string
		for i := range 300 {
			p := Priority((i * 7) % 3)
			name := fmt.Sprintf("%d/%03d", p, i)
			want[p] = append(want[p], name)
			arrive(p, name)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		require.Equal(t, slices.Concat(want[:]...), order)
	})
}

// A drain read that comes while sweep reads wait is next, not last.
func TestLimiterNewcomerOfHigherPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		take(t, l, Sweep)
		for range 50 {
			go func() { _ = l.wait(t.Context(), Roster) }()
		}
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		require.InDelta(t, 500*time.Millisecond, take(t, l, Drain), float64(tolerance))
		require.InDelta(t, time.Second, take(t, l, Sweep), float64(tolerance))
		time.Sleep(time.Minute) // the fifty end
	})
}

// A waiter that gives up leaves its place and its token to the others, and no timer behind.
func TestLimiterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		take(t, l, Sweep)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() { gaveUp <- l.wait(ctx, Drain) }()
		synctest.Wait()
		second := make(chan time.Duration)
		go func() { second <- elapsed(t.Context(), l, Sweep) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gaveUp, context.Canceled)
		require.InDelta(t, time.Second, <-second, float64(tolerance))
		require.ErrorIs(t, l.wait(ctx, Drain), context.Canceled, "a context that has ended takes no token")
		requireIdle(t, l)

		deadline, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, l.wait(deadline, Drain), context.DeadlineExceeded)
		requireIdle(t, l)
		require.InDelta(t, 900*time.Millisecond, take(t, l, Sweep), float64(tolerance), "the token was not used up by who gave up")
	})
}

// Many waiters come and give up at random moments: the rate is kept to the token, nobody is lost.
func TestLimiterUnderChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, burst, seconds = 50, 10, 20
		l := newLimiter(perSecond, burst)
		start := time.Now()
		var mu sync.Mutex
		granted, gaveUp := 0, 0
		var group sync.WaitGroup
		for i := range 3000 {
			group.Go(func() {
				time.Sleep(time.Duration(i*7919%10_000) * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i*104729%15_000)*time.Millisecond)
				defer cancel()
				err := l.wait(ctx, Priority(i%3))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					granted++
					if allowed := burst + perSecond*time.Since(start).Seconds() + 1e-3; float64(granted) > allowed {
						t.Errorf("%d tokens after %s", granted, time.Since(start))
					}
				} else {
					gaveUp++
				}
			})
		}
		group.Wait()
		require.Equal(t, 3000, granted+gaveUp)
		require.Greater(t, granted, perSecond*seconds/2, "tokens were lost")
		requireIdle(t, l)
	})
}

func TestLimiterBacksOffAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2, 5)
		l.throttled(time.Now())
		require.InDelta(t, time.Second, take(t, l, Sweep), 0.05*float64(time.Second), "half the rate, and the burst is gone too")

		// Half the rate is back after half of the recovery time, in small steps.
		previous, start := time.Second, time.Now()
		for previous > 500*time.Millisecond+tolerance {
			now := take(t, l, Sweep)
			require.LessOrEqual(t, now, previous+tolerance, "the rate recovers without a step back")
			require.Greater(t, now, previous-50*time.Millisecond, "and without a leap")
			previous = now
		}
		require.InDelta(t, recoveryTime/2, time.Since(start), float64(2*time.Second))

		time.Sleep(time.Hour)
		for range 5 {
			require.Zero(t, take(t, l, Sweep))
		}
		for range 10 {
			require.InDelta(t, 500*time.Millisecond, take(t, l, Sweep), float64(tolerance), "the configured rate and never more")
		}
	})
}

// However often Amazon throttles, because somebody else uses up the account's quota, some requests are still sent.
func TestLimiterKeepsALeastRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2, 5)
		for range 20 {
			time.Sleep(time.Millisecond)
			l.throttled(time.Now())
		}
		// 4 s at an eighth of the rate; somewhat less because the rate recovers meanwhile.
		require.InDelta(t, 3400*time.Millisecond, take(t, l, Sweep), float64(200*time.Millisecond))
	})
}

// Requests that were on their way together are throttled together: that is one overrun, not five.
func TestLimiterCutsOncePerOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2, 5)
		sent := time.Now()
		time.Sleep(50 * time.Millisecond)
		for range 5 {
			l.throttled(sent)
			time.Sleep(time.Millisecond)
		}
		require.InDelta(t, time.Second, take(t, l, Sweep), 0.05*float64(time.Second))
	})
}

// A waiter that computed its wait before a 429 is held back too, and one that waits at a low rate profits from recovery.
func TestLimiterThrottledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		take(t, l, Sweep)
		waited := make(chan time.Duration)
		go func() { waited <- elapsed(t.Context(), l, Sweep) }()
		synctest.Wait()
		time.Sleep(900 * time.Millisecond)
		l.throttled(time.Now())
		got := <-waited
		require.Greater(t, got, time.Second)
		require.Less(t, got, 1500*time.Millisecond, "0.9 of the token were there, the rest comes at half the rate")
	})
}

func BenchmarkLimiterWait(b *testing.B) {
	l := newLimiter(1e12, 1<<30)
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := l.wait(b.Context(), Sweep); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("contended", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := l.wait(b.Context(), Sweep); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
