package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
)

func TestStepsRunLastFirstAndAllOfThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order []string
		l := &lifecycle{log: logtest.New(nil)}
		l.onStop("database", time.Second, func(context.Context) error { order = append(order, "database"); return nil })
		l.onStop("hanging", time.Second, func(ctx context.Context) error {
			order = append(order, "hanging")
			<-ctx.Done()
			return ctx.Err()
		})
		l.onStop("broken", time.Second, func(context.Context) error { order = append(order, "broken"); return errors.New("broke") })

		began := time.Now()
		err := l.stop(t.Context())
		require.Equal(t, []string{"broken", "hanging", "database"}, order)
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorContains(t, err, "stop broken: broke")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, err, l.stop(t.Context()), "the steps ran again")
		require.Len(t, order, 3)
	})
}

func TestStoppedByTwoAtOnceRunsOnceAndBothWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		l := &lifecycle{log: logtest.New(nil)}
		l.onStop("slow", time.Minute, func(ctx context.Context) error {
			runs++
			<-ctx.Done()
			return nil
		})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _ = l.stop(t.Context()) })
		}
		wg.Wait()
		require.Equal(t, 1, runs)
	})
}

func TestGoroutineIsWaitedForButNotForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lifecycle{log: logtest.New(nil)}
		release := make(chan struct{})
		l.goFunc("stubborn", time.Second, func(context.Context) error { <-release; return nil })
		ended := false
		l.goFunc("obedient", time.Second, func(ctx context.Context) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		})
		err := l.stop(t.Context())
		require.True(t, ended)
		require.EqualError(t, err, "stop stubborn: still running")
		close(release)
	})
}

// A long poll that waits does not hold up the end of the process, and is answered.
func TestLongPollAtTheEnd(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilWorksIn(t, floor.agent(0), east)
	path := "/v1/agents/" + floor.agent(0) + "/events"
	status := make(chan int, 1)
	go func() {
		answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+s.Addr()+path+"?type=failoverStalled&wait=25", nil))
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		answer.Body.Close()
		status <- answer.StatusCode
	}()
	require.Eventually(t, func() bool { return s.api.Polls() == 1 }, patience, time.Millisecond)
	began := time.Now()
	s.stop(t)
	require.Equal(t, http.StatusOK, <-status)
	require.Less(t, time.Since(began), 20*time.Second, "not the poll's time")
}
