package api_test

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
)

// Exhaustion by long polls: each holds memory as a stream does, and one HTTP/2 connection carries many. Beyond the limit of an agent, of
// a caller who waits for everybody's events, and of the replica they are refused at once, and told when to come again; others are served.
func TestTooManyLongPolls(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles, func(o *api.Options) { o.MaxPolls, o.MaxPollsPerAgent = 5, 2 })
	s.leader.floor()
	s.caughtUp()
	end := func(as, path string) string { // the cursor after which nothing has happened
		return read[contract.EventList](t, s.get(path, "X-Test-As", as), http.StatusOK).NextCursor
	}
	var wg sync.WaitGroup
	waiting := 0
	poll := func(as, path string) {
		path += "?wait=25&after=" + end(as, path)
		waiting++
		wg.Go(func() {
			if a := s.get(path, "X-Test-As", as); a.status != http.StatusOK {
				t.Errorf("%s as %s: %d", path, as, a.status)
			}
		})
		require.Eventually(t, func() bool { return s.server.Polls() == waiting }, 10*time.Second, time.Millisecond)
	}
	refused := func(status int, as, path string) {
		t.Helper()
		a := s.get(path+"?wait=25&after="+end(as, path), "X-Test-As", as)
		require.Equal(t, status, a.status, a.body)
		after, err := strconv.Atoi(a.header.Get("Retry-After"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, after, 5)
		require.LessOrEqual(t, after, 15)
	}
	janes, joes := "/v1/agents/"+jane+"/events", "/v1/agents/"+joe+"/events"
	poll("agent:"+jane, janes)
	poll("viewer", janes)
	refused(http.StatusTooManyRequests, "agent:"+jane, janes)
	refused(http.StatusTooManyRequests, "admin", janes)
	poll("agent:"+joe, joes)
	poll("viewer", "/v1/events")
	poll("viewer", "/v1/events")
	refused(http.StatusTooManyRequests, "viewer", "/v1/events")
	refused(http.StatusServiceUnavailable, "operator", "/v1/events")
	refused(http.StatusServiceUnavailable, "agent:"+joe, joes)
	require.Equal(t, http.StatusOK, s.get(joes, "X-Test-As", "agent:"+joe).status, "what does not wait is not counted")

	s.leader.shift()
	wg.Wait()
	require.Eventually(t, func() bool { return s.server.Polls() == 0 }, 10*time.Second, time.Millisecond)
	s.caughtUp()
	waiting = 0

	// Who hangs up is counted no more.
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+joes+"?wait=25&after="+end("viewer", joes), nil)
	require.NoError(t, err)
	r.Header.Set("X-Test-As", "viewer")
	wg.Go(func() {
		if resp, err := s.client.Do(r); err == nil {
			resp.Body.Close()
		}
	})
	require.Eventually(t, func() bool { return s.server.Polls() == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	wg.Wait()
	require.Eventually(t, func() bool { return s.server.Polls() == 0 }, 10*time.Second, time.Millisecond)
}

// expiring is an agent whose token ends soon.
type expiring struct{ in time.Duration }

func (e expiring) Authenticate(*http.Request) (auth.Identity, error) {
	return auth.Identity{Subject: "joe", AgentID: joe, Roles: []auth.Role{auth.Agent}, Expires: time.Now().Add(e.in)}, nil
}

// A long poll that outlives its token: it would tell what happens after the token's end.
func TestLongPollsEndWithTheToken(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *api.Options) { o.Auth = expiring{200 * time.Millisecond} })
	s.leader.floor()
	s.caughtUp()
	path := "/v1/agents/" + joe + "/events"
	list := read[contract.EventList](t, s.get(path), http.StatusOK)
	began := time.Now()
	list = read[contract.EventList](t, s.get(path+"?wait=25&after="+list.NextCursor), http.StatusOK)
	require.Empty(t, list.Items)
	require.Less(t, time.Since(began), 20*time.Second)
}
