package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	s.leader.answer()
	path := "/v1/failovers/" + s.leader.openFailover(jane) + "/force"
	key := []string{"Idempotency-Key", "8e03978e-40d5-43e8-bc93-6894a57f9324"}

	first := s.post(path, reason("once"), key...)
	require.Equal(t, http.StatusAccepted, first.status)
	again := s.post(path, reason("once"), key...)
	require.Equal(t, first.status, again.status, again.body)
	require.Equal(t, first.body, again.body)
	require.Equal(t, first.header.Get("Content-Type"), again.header.Get("Content-Type"))
	require.Equal(t, http.StatusConflict, s.post(path, reason("once")).status, "without the key it is another request")
	require.Len(t, accepted(t, s), 1, "nothing is done twice")

	for name, other := range map[string]answer{
		"another body":    s.post(path, reason("twice"), key...),
		"another address": s.post("/v1/failovers/force", bodies["forceFailovers"], key...),
	} {
		p := read[contract.Problem](t, other, http.StatusUnprocessableEntity)
		require.Equal(t, "urn:changeover:problem:idempotency-key-reused", p.Type, name)
	}

	// A refusal by the state is an answer too, and stays the same.
	late := []string{"Idempotency-Key", "late"}
	conflict := s.post(path, reason("late"), late...)
	require.Equal(t, http.StatusConflict, conflict.status)
	require.Equal(t, conflict.body, s.post(path, reason("late"), late...).body)

	for _, bad := range []string{"", " ", "a b", strings.Repeat("k", 256), "ü"} {
		a := s.post(path, reason("once"), "Idempotency-Key", bad)
		require.Equal(t, "Idempotency-Key", read[contract.Problem](t, a, http.StatusBadRequest).Errors[0].Field, "%q", bad)
	}
	require.Equal(t, http.StatusBadRequest, s.post(path, reason("once"), "Idempotency-Key", "a", "Idempotency-Key", "b").status)
}

func accepted(t *testing.T, s *service) (list []contract.AuditEntry) {
	t.Helper()
	for _, e := range read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items {
		if e.Outcome == "accepted" {
			list = append(list, e)
		}
	}
	return list
}

// A double click, or a proxy that repeats a request: twenty at once are one.
func TestIdempotencyKeyAtOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	s.leader.answer()
	path := "/v1/failovers/" + s.leader.openFailover(jane) + "/force"
	var wg sync.WaitGroup
	answers := make([]answer, 20)
	for i := range answers {
		wg.Go(func() { answers[i] = s.post(path, reason("clicked"), "Idempotency-Key", "k") })
	}
	wg.Wait()
	done := ""
	for _, a := range answers {
		if a.status == http.StatusConflict {
			p := read[contract.Problem](t, a, http.StatusConflict)
			require.Equal(t, "urn:changeover:problem:request-in-progress", p.Type)
			require.NotEmpty(t, a.header.Get("Retry-After"))
			continue
		}
		require.Equal(t, http.StatusAccepted, a.status, a.body)
		if done == "" {
			done = a.body
		}
		require.Equal(t, done, a.body)
	}
	require.NotEmpty(t, done)
	require.Len(t, accepted(t, s), 1)
}

// Reading somebody else's answer by guessing the key: keys belong to their callers.
func TestIdempotencyKeysBelongToCallers(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	path, body := "/v1/agents/"+jane+"/reports", map[string]any{"activeRegion": east}
	require.Equal(t, http.StatusAccepted, s.post(path, body, "X-Test-As", "agent:"+jane, "Idempotency-Key", "k").status)
	other := s.post("/v1/agents/"+joe+"/reports", body, "X-Test-As", "agent:"+joe, "Idempotency-Key", "k")
	require.Equal(t, http.StatusAccepted, other.status, "the same key of another caller is another key")
	require.Equal(t, http.StatusNotFound, s.post(path, body, "X-Test-As", "agent:"+joe, "Idempotency-Key", "k").status)
}

// Somebody's role is taken away, or their token now names another agent: the answer from the time before is not had by its key.
func TestIdempotencyKeysDoNotOutliveRights(t *testing.T) {
	t.Parallel()
	var now auth.Identity
	s := newService(t, func(o *api.Options) {
		o.Auth = authenticator(func(*http.Request) (auth.Identity, error) { return now, nil })
	})
	s.leader.floor()
	s.leader.shift()
	s.leader.answer()
	path := "/v1/failovers/" + s.leader.openFailover(jane) + "/force"
	force := func(agent string, roles ...auth.Role) answer {
		now = auth.Identity{Subject: "olga", AgentID: agent, Roles: roles, Expires: time.Now().Add(time.Hour)}
		return s.post(path, reason("x"), "Idempotency-Key", "k")
	}
	first := force("", auth.Operator)
	require.Equal(t, http.StatusAccepted, first.status, first.body)
	require.Equal(t, first.body, force("", auth.Operator, auth.Viewer).body)
	for _, a := range []answer{force(joe, auth.Agent), force(jane, auth.Agent)} {
		p := read[contract.Problem](t, a, http.StatusUnprocessableEntity)
		require.Equal(t, "urn:changeover:problem:idempotency-key-reused", p.Type)
		require.NotContains(t, a.body, jane)
	}
	require.Equal(t, http.StatusForbidden, force("", auth.Viewer).status)
}

// authenticator is a function that says who calls.
type authenticator func(r *http.Request) (auth.Identity, error)

func (f authenticator) Authenticate(r *http.Request) (auth.Identity, error) { return f(r) }

// A key whose request could not be done is free for the retry.
func TestIdempotencyKeyAfterAFault(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	path, body := "/v1/agents/"+jane+"/reports", map[string]any{"activeRegion": east}
	s.db.cut()
	require.Equal(t, http.StatusServiceUnavailable, s.post(path, body, "Idempotency-Key", "k").status)
	s.db.mend()
	require.Eventually(t, func() bool { // the pool may need a moment to notice; until then it is 503 again
		return s.post(path, body, "Idempotency-Key", "k").status == http.StatusAccepted
	}, 10*time.Second, 50*time.Millisecond)
	require.Equal(t, http.StatusNotImplemented, s.post("/v1/session", nil, "Idempotency-Key", "n").status)
	require.Equal(t, http.StatusNotImplemented, s.post("/v1/session", nil, "Idempotency-Key", "n").status)
}

// Who loses the connection in the middle asks again with the same key, and gets the answer to what was done.
func TestIdempotencyKeyAfterALostConnection(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	path := "/v1/failovers/" + s.leader.openFailover(jane) + "/force"
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, strings.NewReader(`{"reason":"lost"}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", "k")
	lost := make(chan error)
	go func() {
		_, err := s.client.Do(r)
		lost <- err
	}()
	require.Eventually(t, func() bool {
		commands, err := s.leader.store.PendingCommands(t.Context(), 0, 10)
		return err == nil && len(commands) == 1
	}, 5*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-lost, context.Canceled)
	require.Equal(t, 1, s.leader.answerOnce(t.Context()))
	var again answer
	require.Eventually(t, func() bool {
		again = s.post(path, `{"reason":"lost"}`, "Idempotency-Key", "k")
		return again.status != http.StatusConflict
	}, 5*time.Second, 10*time.Millisecond)
	f := read[contract.Failover](t, again, http.StatusAccepted)
	require.True(t, f.Forced)
	require.Len(t, accepted(t, s), 1)
}

// Bad luck: the connection is lost at the very moment at which the key is claimed. What nobody waits for any more is done all the same, and whoever asks
// again gets its answer, and is not told to wait for a request that is none.
func TestIdempotencyKeyAfterAConnectionLostAtOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	body := `{"activeRegion":"` + east + `"}`
	path := "/v1/agents/" + jane + "/reports"
	address := strings.TrimPrefix(s.url, "http://")
	const times = 60
	for n := range times {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nIdempotency-Key: k%d\r\nContent-Length: %d\r\n\r\n%s", path, address, n, len(body), body)
		require.NoError(t, err)
		time.Sleep(time.Duration(n) * 50 * time.Microsecond) // somewhere between before it is read and after it is answered
		require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
		require.NoError(t, conn.Close())
	}
	for n := range times {
		require.Eventually(t, func() bool {
			return s.post(path, body, "Idempotency-Key", fmt.Sprintf("k%d", n)).status == http.StatusAccepted
		}, 10*time.Second, 10*time.Millisecond, "k%d", n)
	}
	require.Len(t, accepted(t, s), times, "each once")
}
