package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
)

// event is a frame of a stream.
type event struct {
	id, name string
	data     map[string]any
}

// open opens a stream and returns a function that reads its next event. The transport checks every frame.
func (s *service) open(path string, headers ...string) (next func() event, resp *http.Response) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	require.NoError(s.t, err)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err = s.client.Do(r)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { cancel(); resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	return func() (e event) {
		s.t.Helper()
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case field == "id":
				e.id = value
			case field == "event":
				e.name = value
			case field == "data":
				require.NoError(s.t, json.Unmarshal([]byte(value), &e.data))
			case lines.Text() == "" && e.name != "":
				return e
			}
		}
		s.t.Fatalf("the stream ended: %v", lines.Err())
		return e
	}, resp
}

func TestStream(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	next, resp := s.open("/v1/agents/"+jane+"/events", "X-Request-Id", "my-stream")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "no-cache, no-transform", resp.Header.Get("Cache-Control"))
	require.Equal(t, "no", resp.Header.Get("X-Accel-Buffering"))
	require.Equal(t, "my-stream", resp.Header.Get("X-Request-Id"))

	snapshot := next()
	for snapshot.data["state"] != "active" { // the replica may not have read the floor yet
		snapshot = next()
	}
	require.Equal(t, "snapshot", snapshot.name)
	require.Equal(t, east, snapshot.data["activeRegion"])
	s.leader.shift()
	detected, pending := next(), next()
	require.Equal(t, "failoverDetected", detected.name)
	require.Equal(t, west, detected.data["nextActiveRegion"])
	require.Equal(t, "failoverPending", pending.name)
	require.Equal(t, []any{call}, pending.data["contactIds"])
	require.Equal(t, s.leader.openFailover(jane), pending.data["failoverId"])

	// Resuming by the header, by the parameter, and by JSON gives the same.
	for _, resumed := range []func() event{
		first(s.open("/v1/agents/"+jane+"/events", "Last-Event-ID", detected.id)),
		first(s.open("/v1/agents/" + jane + "/events?lastEventId=" + detected.id)),
		first(s.open("/v1/agents/"+jane+"/events?lastEventId="+pending.id, "Last-Event-ID", detected.id)),
	} {
		require.Equal(t, pending, resumed())
	}
	history := read[contract.EventList](t, s.get("/v1/agents/"+jane+"/events?after="+detected.id), http.StatusOK)
	require.Len(t, history.Items, 1)
	require.Equal(t, pending.id, history.Items[0].ID)
	require.Equal(t, "failoverPending", history.Items[0].Event)
	require.Empty(t, read[contract.EventList](t, s.get("/v1/agents/"+jane+"/events?after="+history.NextCursor), http.StatusOK).Items)

	// A malformed cursor is no error: reset, then a snapshot.
	garbled := first(s.open("/v1/agents/"+jane+"/events", "Last-Event-ID", " what\tis this?"))
	reset, now := garbled(), garbled()
	require.Equal(t, "reset", reset.name)
	require.Equal(t, "snapshot", now.name)
	require.Equal(t, "pending", now.data["state"])
	items := read[contract.EventList](t, s.get("/v1/agents/"+jane+"/events?after=%01garbled"), http.StatusOK).Items
	require.Equal(t, "reset", items[0].Event)
	require.Equal(t, "snapshot", items[1].Event)
}

func first[A, B any](a A, _ B) A { return a }

func TestStreamOfAnAgentNotReadYet(t *testing.T) {
	t.Parallel()
	s := newService(t)
	next, _ := s.open("/v1/agents/" + jane + "/events")
	snapshot := next()
	require.Equal(t, "unknown", snapshot.data["state"])
	require.Nil(t, snapshot.data["activeRegion"])
	s.leader.floor()
	for snapshot.data["state"] != "active" {
		snapshot = next()
		require.Equal(t, "snapshot", snapshot.name)
	}
	require.Equal(t, east, snapshot.data["activeRegion"])
}

func TestStreamOfAllAgents(t *testing.T) {
	t.Parallel()
	s := newService(t)
	next, _ := s.open("/v1/events")
	s.leader.floor()
	s.leader.shift()
	seen := map[any]bool{}
	for !seen[jane] || !seen[joe] {
		if e := next(); e.name == "failoverDetected" {
			seen[e.data["agentId"]] = true
		}
	}
	garbled := first(s.open("/v1/events", "Last-Event-ID", "garbled"))
	reset := garbled()
	require.Equal(t, "reset", reset.name)
	require.Nil(t, reset.data["agentId"])
}

func TestHistory(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	s.caughtUp()
	all := read[contract.EventList](t, s.get("/v1/events?limit=1000"), http.StatusOK)
	names := func(items []contract.LoggedEvent) (names []string) {
		for _, i := range items {
			names = append(names, i.Event)
		}
		return names
	}
	require.ElementsMatch(t, []string{"snapshot", "snapshot", "failoverDetected", "failoverDetected", "failoverPending", "failoverCompleted"}, names(all.Items))

	var paged []contract.LoggedEvent
	for cursor := ""; ; {
		page := read[contract.EventList](t, s.get("/v1/events?limit=2&after="+cursor), http.StatusOK)
		paged = append(paged, page.Items...)
		cursor = page.NextCursor
		if len(page.Items) < 2 {
			break
		}
	}
	require.Equal(t, all.Items, paged)
	require.Equal(t, []string{"failoverDetected", "failoverPending"}, names(read[contract.EventList](t,
		s.get("/v1/agents/"+jane+"/events?type=failoverPending&type=failoverDetected&type=failoverPending"), http.StatusOK).Items))
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.caughtUp()
	path := "/v1/agents/" + jane + "/events?wait=10&after="
	cursor := read[contract.EventList](t, s.get("/v1/agents/"+jane+"/events"), http.StatusOK).NextCursor
	done := make(chan answer)
	go func() { done <- s.get(path + cursor) }()
	s.leader.distribute(0)
	list := read[contract.EventList](t, <-done, http.StatusOK)
	require.Equal(t, "failoverDetected", list.Items[0].Event)

	for _, wait := range []string{"200ms", "0.2", "0.2s", "0"} {
		started := time.Now()
		list = read[contract.EventList](t, s.get("/v1/agents/"+jane+"/events?wait="+wait+"&after="+list.NextCursor), http.StatusOK)
		require.Empty(t, list.Items, wait)
		if wait != "0" {
			require.GreaterOrEqual(t, time.Since(started), 200*time.Millisecond, wait)
		}
	}
	// Like a stream, it is open for an agent that was not read yet.
	require.Equal(t, http.StatusOK, s.get("/v1/agents/nobody/events?wait=100ms").status)
	require.Equal(t, http.StatusNotFound, s.get("/v1/agents/nobody/events").status)
}

func TestAcceptDecides(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	for accept, stream := range map[string]bool{
		"text/event-stream":                          true,
		"text/event-stream, */*":                     true,
		"application/json;q=0.5, text/event-stream":  true,
		"Text/Event-Stream; charset=utf-8":           true,
		"*/*":                                        false,
		"application/json":                           false,
		"application/json, text/event-stream;q=0.5":  false,
		"text/event-stream;q=0":                      false,
		"text/event-stream;q=NaN":                    false,
		"text/html,application/xml;q=0.9,*/*;q=0.8":  false,
		"garbage; =, text/event-stream, application": true,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/agents/"+jane+"/events", nil)
		require.NoError(t, err)
		r.Header.Set("Accept", accept)
		resp, err := s.client.Do(r)
		require.NoError(t, err)
		require.Equal(t, stream, resp.Header.Get("Content-Type") == "text/event-stream", accept)
		cancel()
		resp.Body.Close()
	}
	// A filter that a stream does not have must not be believed in; nor a cursor that JSON does not read.
	for _, name := range []string{"after=x", "type=snapshot", "wait=1", "limit=5"} {
		p := read[contract.Problem](t, s.get("/v1/events?"+name, "Accept", "text/event-stream"), http.StatusBadRequest)
		require.Contains(t, name, p.Errors[0].Field)
	}
	require.Equal(t, http.StatusBadRequest, s.get("/v1/events?lastEventId=x").status)
}
