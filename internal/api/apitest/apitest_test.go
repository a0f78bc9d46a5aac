package apitest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"changeover/internal/api/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recording is a testing.TB that keeps what it is told.
type recording struct {
	testing.TB
	faults []string
}

func (r *recording) Errorf(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// A check that cannot fail is none: each of these answers breaks the contract in one way, and is noticed.
func TestFaultsAreNoticed(t *testing.T) {
	t.Parallel()
	const id = "00000000-0000-4000-8000-000000000001"
	problem := `{"type":"urn:changeover:problem:not-found","title":"t","status":404,"detail":"d","requestId":"r"}`
	for name, c := range map[string]struct {
		path, media string
		status      int
		body        string
		fine        bool
	}{
		"good":                     {"/livez", "application/json", 200, `{"status":"ok"}`, true},
		"wrong value":              {"/livez", "application/json", 200, `{"status":"fine"}`, false},
		"missing field":            {"/livez", "application/json", 200, `{}`, false},
		"unnamed field":            {"/livez", "application/json", 200, `{"status":"ok","more":1}`, false},
		"unnamed field far within": {"/readyz", "application/json", 200, `{"status":"ready","checks":[{"name":"a","state":"down","since":null,"lastError":null,"x":1}]}`, false},
		"null where it must not":   {"/readyz", "application/json", 200, `{"status":"ready","checks":null}`, false},
		"status not documented":    {"/livez", "application/problem+json", 404, problem, false},
		"type not documented":      {"/livez", "text/html", 200, `<p>ok</p>`, false},
		"good problem":             {"/v1/agents/a", "application/problem+json", 404, problem, true},
		"an error without problem": {"/v1/agents/a", "application/json", 404, `{"error":"x"}`, false},
		"a problem of another":     {"/v1/agents/a", "application/problem+json", 403, problem, false},
		"a problem without id":     {"/v1/nowhere", "application/problem+json", 404, `{"type":"urn:x","title":"t","status":404,"detail":"d"}`, false},
		"no such path":             {"/v1/nowhere", "application/problem+json", 404, problem, true},
		"an answer at no path":     {"/v1/nowhere", "application/json", 200, `{}`, false},
		"good history":             {"/v1/events", "application/json", 200, `{"nextCursor":"c","items":[{"id":"c","event":"failoverStalled","data":{"agentId":"a","time":"2026-11-21T10:00:00.000Z","failoverId":"` + id + `","activeRegion":"us-east-1"}}]}`, true},
		"data of another event":    {"/v1/events", "application/json", 200, `{"nextCursor":"c","items":[{"id":"c","event":"failoverDetected","data":{"agentId":"a","time":"2026-11-21T10:00:00.000Z","failoverId":"` + id + `","activeRegion":"us-east-1"}}]}`, false},
		"a stream":                 {"/v1/events", "text/event-stream", 200, "retry: 1\n\n: beat\n\nid: c\nevent: reset\ndata: {\"agentId\":null,\"time\":\"2026-11-21T10:00:00Z\",\"reason\":\"pruned\"}\n\n", true},
		"a stream of rubbish":      {"/v1/events", "text/event-stream", 200, "id: c\nevent: reset\ndata: {}\n\n", false},
		"an event without id":      {"/v1/events", "text/event-stream", 200, "event: reset\ndata: {\"agentId\":null,\"time\":\"2026-11-21T10:00:00Z\",\"reason\":\"pruned\"}\n\n", false},
		"an id without data":       {"/v1/events", "text/event-stream", 200, "id: c\n\n", false},
		"two lines of data":        {"/v1/events", "text/event-stream", 200, "id: c\nevent: reset\ndata: {\ndata: }\n\n", false},
		"an unknown event":         {"/v1/events", "text/event-stream", 200, "id: c\nevent: party\ndata: {}\n\n", false},
		"a stream where none is":   {"/v1/agents", "text/event-stream", 200, "", false},
	} {
		tb := &recording{TB: t}
		answers := roundTripper(func(*http.Request) *http.Response {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Type", c.media)
			w.Header().Set("X-Request-Id", "r")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
			return w.Result()
		})
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://x"+c.path, nil)
		require.NoError(t, err)
		resp, err := apitest.NewTransport(tb, answers).RoundTrip(r)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.Equal(t, c.body, string(body), "what is checked is passed on whole")
		require.Equal(t, c.fine, len(tb.faults) == 0, "%s: %v", name, tb.faults)
	}
}

type roundTripper func(*http.Request) *http.Response

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }
