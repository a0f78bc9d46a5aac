package app

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

// as sends a request with a token; the answer's body is read.
func (s *service) as(t *testing.T, token, method, path string, header ...string) (*http.Response, string) {
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, nil)
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	answer, err := s.client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer, string(body)
}

// A desktop and an operator work with their tokens, and nobody gets what is not theirs. TestMain looks for their credentials in the log.
func TestTokens(t *testing.T) {
	t.Parallel()
	idp := servertest.NewIssuer(t)
	f := newFloor(t, connectsim.Config{Agents: 3})
	c := configuration(f, postgrestest.NewDatabase(t))
	c.Auth.Mode, c.Auth.JWKSFile = "jwt", idp.File
	c.CORS.AllowedOrigins = []string{"https://desktop.example"}
	s := start(t, c)
	me, other := f.agent(0), f.agent(1)
	mine := idp.Token(t, me, time.Hour, "agent")
	operator := idp.Token(t, "", time.Hour, "operator")
	viewer := idp.Token(t, "", time.Hour, "viewer")

	require.Eventually(t, func() bool {
		answer, _ := s.as(t, operator, http.MethodGet, "/v1/agents/"+me)
		return answer.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond)

	t.Run("who may do what", func(t *testing.T) {
		for _, c := range []struct {
			name, token, method, path string
			want                      int
		}{
			{"without a token", "", "GET", "/v1/agents/" + me, 401},
			{"with one that nobody signed", strings.TrimSuffix(mine, mine[len(mine)-6:]) + "AAAAAA", "GET", "/v1/agents/" + me, 401},
			{"an expired one", idp.Token(t, me, -time.Minute, "agent"), "GET", "/v1/agents/" + me, 401},
			{"the agent", mine, "GET", "/v1/agents/" + me, 200},
			{"another agent, as if there were none", mine, "GET", "/v1/agents/" + other, 404},
			{"an agent who does not exist", mine, "GET", "/v1/agents/nobody", 404},
			{"another agent's history", mine, "GET", "/v1/agents/" + other + "/events", 404},
			{"another agent's log", mine, "GET", "/v1/agents/" + other + "/logs/us-east-1", 404},
			{"everybody's events", mine, "GET", "/v1/events", 403},
			{"the list", viewer, "GET", "/v1/agents", 200},
			{"a viewer who wants to listen", viewer, "POST", "/v1/agents/" + me + "/stream-tickets", 403},
			{"an operator who reads the audit", operator, "GET", "/v1/audit", 403},
			{"an admin", idp.Token(t, "", time.Hour, "admin"), "GET", "/v1/audit", 200},
			{"probes", "", "GET", "/livez", 200},
		} {
			answer, body := s.as(t, c.token, c.method, c.path)
			require.Equal(t, c.want, answer.StatusCode, "%s: %s", c.name, body)
		}
	})

	t.Run("another agent's stream", func(t *testing.T) {
		answer, _ := s.as(t, mine, http.MethodGet, "/v1/agents/"+other+"/events", "Accept", "text/event-stream")
		require.Equal(t, http.StatusNotFound, answer.StatusCode)
	})

	// Attack: a JWT in a URL, where every proxy logs it.
	t.Run("a token in the URL", func(t *testing.T) {
		answer, _ := s.as(t, "", http.MethodGet, "/v1/agents/"+me+"?access_token="+mine)
		require.Equal(t, http.StatusBadRequest, answer.StatusCode)
	})

	t.Run("a session", func(t *testing.T) {
		answer, body := s.as(t, mine, http.MethodPost, "/v1/session")
		require.Equal(t, http.StatusNoContent, answer.StatusCode, body)
		cookie := answer.Cookies()[0]
		require.Equal(t, "__Host-changeover", cookie.Name)
		require.True(t, cookie.HttpOnly && cookie.Secure)
		pair := cookie.Name + "=" + cookie.Value
		answer, _ = s.as(t, "", http.MethodGet, "/v1/agents/"+me, "Cookie", pair)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		// Attack: a page of another origin posts with the agent's cookie (CSRF).
		path := "/v1/agents/" + me + "/stream-tickets"
		answer, _ = s.as(t, "", http.MethodPost, path, "Cookie", pair, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
		require.Equal(t, http.StatusForbidden, answer.StatusCode)
		answer, _ = s.as(t, "", http.MethodPost, path, "Cookie", pair, "Origin", "https://desktop.example", "Sec-Fetch-Site", "cross-site")
		require.Equal(t, http.StatusCreated, answer.StatusCode)
		answer, _ = s.as(t, "", http.MethodDelete, "/v1/session", "Cookie", pair, "Origin", "https://desktop.example", "Sec-Fetch-Site", "cross-site")
		require.Equal(t, http.StatusNoContent, answer.StatusCode)
		require.Negative(t, answer.Cookies()[0].MaxAge)
	})

	t.Run("a ticket opens one stream, once", func(t *testing.T) {
		answer, body := s.as(t, mine, http.MethodPost, "/v1/agents/"+me+"/stream-tickets", "Idempotency-Key", "the-same")
		require.Equal(t, http.StatusCreated, answer.StatusCode, body)
		var ticket contract.StreamTicket
		require.NoError(t, json.Unmarshal([]byte(body), &ticket))
		require.WithinDuration(t, time.Now().Add(30*time.Second), ticket.ExpiresAt, 5*time.Second)
		_, again := s.as(t, mine, http.MethodPost, "/v1/agents/"+me+"/stream-tickets", "Idempotency-Key", "the-same")
		require.NotContains(t, again, ticket.Ticket, "a ticket was kept for its Idempotency-Key")

		// Attack: the ticket is used for another agent's stream. It is used up by that.
		answer, _ = s.as(t, "", http.MethodGet, "/v1/agents/"+other+"/events?ticket="+ticket.Ticket, "Accept", "text/event-stream")
		require.Equal(t, http.StatusNotFound, answer.StatusCode)
		var second contract.StreamTicket
		require.NoError(t, json.Unmarshal([]byte(again), &second))
		d := watch(t, s.Addr(), "/v1/agents/"+me+"/events?ticket="+second.Ticket, "")
		require.Equal(t, "snapshot", d.opened(t).event)
		// Attack: a stolen ticket is replayed.
		answer, _ = s.as(t, "", http.MethodGet, "/v1/agents/"+me+"/events?ticket="+second.Ticket, "Accept", "text/event-stream")
		require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
		d.close()

		// Attack: an operator's ticket, sniffed, opens what its buyer may see.
		for path, want := range map[string]int{"/v1/events": http.StatusForbidden, "/v1/agents/" + other + "/contacts": http.StatusUnauthorized, "/v1/agents": http.StatusUnauthorized, "/v1/audit": http.StatusUnauthorized} {
			_, body := s.as(t, operator, http.MethodPost, "/v1/agents/"+me+"/stream-tickets")
			require.NoError(t, json.Unmarshal([]byte(body), &ticket))
			answer, _ = s.as(t, "", http.MethodGet, path+"?ticket="+ticket.Ticket)
			require.Equal(t, want, answer.StatusCode, path)
		}
	})

	t.Run("a stream ends before its token does", func(t *testing.T) {
		short := idp.Token(t, me, 3*time.Second, "agent")
		answer, body := s.as(t, short, http.MethodGet, "/v1/agents/"+me+"/events", "Accept", "text/event-stream")
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.Contains(t, body, "event: draining")
		require.Contains(t, body, "token_expiring")
	})

	t.Run("an operator's ticket for somebody else is in the audit", func(t *testing.T) {
		answer, _ := s.as(t, operator, http.MethodPost, "/v1/agents/"+other+"/stream-tickets")
		require.Equal(t, http.StatusCreated, answer.StatusCode)
		_, body := s.as(t, idp.Token(t, "", time.Hour, "admin"), http.MethodGet, "/v1/audit")
		require.Contains(t, body, "createStreamTicket")
		require.Contains(t, body, other)
	})

	s.stop(t)
}
