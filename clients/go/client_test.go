package changeover

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/clients/go/rest"
)

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"at least one":  {},
		`"ftp://a"`:     {Endpoints: []string{"ftp://a"}},
		`"a.example"`:   {Endpoints: []string{"https://b.example", "a.example"}},
		`"https://a/?b`: {Endpoints: []string{"https://a/?b"}},
		"heartbeat -1s": {Endpoints: []string{"https://a"}, Heartbeat: -time.Second},
		"Timeout 1s":    {Endpoints: []string{"https://a"}, HTTPClient: &http.Client{Timeout: time.Second}},
	} {
		_, err := New(o)
		require.ErrorContains(t, err, want)
	}
}

// TestREST goes from endpoint to endpoint where nothing is done twice by that.
func TestREST(t *testing.T) {
	var calls []string
	byHost := map[string]func(r *http.Request) (*http.Response, error){}
	c := dial(t, func(r *http.Request) (*http.Response, error) {
		body := ""
		if r.Body != nil {
			b, _ := io.ReadAll(r.Body)
			body = string(b)
		}
		calls = append(calls, r.Method+" "+r.URL.String()+" "+body)
		require.Equal(t, "Bearer t", r.Header.Get("Authorization"))
		return byHost[r.URL.Host](r)
	}, Options{
		Endpoints: []string{"https://a.example/x", "https://b.example"},
		Token:     func(context.Context) (string, error) { return "t", nil },
	})
	ok := func(*http.Request) (*http.Response, error) {
		return answer(200, map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{"agentId":"a/1","state":"pending"}`)), nil
	}
	away := func(*http.Request) (*http.Response, error) {
		return answer(503, map[string]string{"Content-Type": "application/problem+json"}, strings.NewReader(`{"detail":"the database is away"}`)), nil
	}
	unreachable := func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	}
	broken := func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

	byHost["a.example"], byHost["b.example"] = away, ok
	got, err := c.REST().GetAgentWithResponse(t.Context(), "a/1")
	require.NoError(t, err)
	require.Equal(t, rest.AgentStatePending, got.JSON200.State)
	require.Equal(t, []string{"GET https://a.example/x/v1/agents/a%2F1 ", "GET https://b.example/v1/agents/a%2F1 "}, calls)

	calls, byHost["b.example"] = nil, away // the one that worked comes first, and the last answer counts
	byHost["a.example"] = broken
	byHost["b.example"] = away
	_, err = c.REST().GetAgentWithResponse(t.Context(), "a")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, []string{"GET https://b.example/v1/agents/a ", "GET https://a.example/x/v1/agents/a "}, calls)

	force := func() (*rest.ForceFailoverResponse, error) {
		return c.REST().ForceFailoverWithResponse(t.Context(), "f", nil, rest.ForceFailoverJSONRequestBody{Reason: "the caller hung up"})
	}
	calls, byHost["b.example"], byHost["a.example"] = nil, unreachable, away
	answered, err := force()
	require.NoError(t, err)
	require.Equal(t, "the database is away", answered.ApplicationProblemJSONDefault.Detail)
	require.Len(t, calls, 2, "who was not reached has done nothing")
	require.Equal(t, `POST https://a.example/x/v1/failovers/f/force {"reason":"the caller hung up"}`, calls[1])
	calls = nil
	_, err = force()
	require.NoError(t, err)
	require.Len(t, calls, 1, "an answer is an answer")
	calls, byHost["a.example"] = nil, broken
	_, err = force()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Len(t, calls, 1, "it may have been done")

	c.token = func(context.Context) (string, error) { return "", errors.New("no provider") }
	_, err = c.REST().GetSummaryWithResponse(t.Context())
	require.ErrorContains(t, err, "get a token: no provider")
}

// TestSockets cuts, over TCP, what TestFaults cuts in memory.
func TestSockets(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		from := position(r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "retry: 1\n\n"+text(from+1)+text(from + 2)[:40])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	c, err := New(Options{Endpoints: []string{"http://127.0.0.1:1", server.URL}})
	require.NoError(t, err)
	defer c.Close()
	last := 0
	for e, err := range c.Follow(t.Context(), Subscription{AgentID: agent}) {
		require.NoError(t, err)
		last++
		require.Equal(t, last, position(e.ID))
		if last == 3 {
			break
		}
	}
	require.Equal(t, 3, n)
}

// Attack: an endpoint that sends its callers elsewhere, to plain http on the same host too, gets them to take their token there. Nothing follows, and what
// is asked for is not taken for done.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s came with %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL+r.URL.Path, status) }))
		h := server.Client()
		c, err := New(Options{Endpoints: []string{server.URL}, HTTPClient: h, Token: func(context.Context) (string, error) { return "secret", nil }})
		require.NoError(t, err)
		answer, err := c.REST().GetSummaryWithResponse(t.Context())
		require.NoError(t, err)
		require.Equal(t, status, answer.StatusCode())
		forced, err := c.REST().ForceFailoverWithResponse(t.Context(), "x", nil, rest.ForceRequest{Reason: "y"})
		require.NoError(t, err)
		require.Equal(t, status, forced.StatusCode())
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		for _, err := range c.Follow(ctx, Subscription{AgentID: agent}) {
			require.Error(t, err)
			break
		}
		cancel()
		c.Close()
		server.Close()
		require.Nil(t, h.CheckRedirect, "the caller's own client is as it was")
	}
}
