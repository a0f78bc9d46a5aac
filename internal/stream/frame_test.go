package stream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/r3labs/sse/v2"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/store"
)

// written is what a client reads of events.
func written(t testing.TB, events ...*sse.Event) string {
	e := newEncoder()
	defer e.close()
	var b strings.Builder
	for _, p := range e.pieces(events) {
		b.Write(p.body())
		require.Equal(t, fmt.Sprintf("%x\r\n%s\r\n", len(p.body()), p.body()), string(p.chunk))
	}
	return b.String()
}

// frameOf makes the frame of a row.
func frameOf(row store.LogEvent) (f *frame, ok bool) {
	h := &Hub{encoder: newEncoder(), log: logtest.New(nil)}
	defer h.encoder.close()
	d, valid := readData(&row)
	var want eventData
	err := json.Unmarshal(row.Data, &want)
	if d != nil {
		want.plain = d.plain // which encoding/json knows nothing of
	}
	if valid != json.Valid(row.Data) || d != nil != (err == nil) || d != nil && !reflect.DeepEqual(*d, want) {
		panic("readData and encoding/json do not agree on " + strconv.Quote(string(row.Data)))
	}
	events := []*sse.Event{h.eventOf("log", &row, valid)}
	return h.framesOf([]store.LogEvent{row}, events)[0], events[0] != nil
}

var lineEnd = regexp.MustCompile("\r\n|\r|\n")

// parseFrame reads one frame as the standard says, line ends of all three kinds included, and fails if there is anything
// in it that does not belong to one event.
func parseFrame(t testing.TB, body string) (id, name, data string) {
	t.Helper()
	lines := lineEnd.Split(body, -1)
	require.Equal(t, []string{"", ""}, lines[len(lines)-2:], "one frame, one empty line: %q", body)
	seen := make(map[string]string)
	for _, line := range lines[:len(lines)-2] {
		field, value, ok := strings.Cut(line, ": ")
		require.True(t, ok, "line %q of %q", line, body)
		require.Contains(t, []string{"id", "event", "data"}, field, body)
		require.NotContains(t, seen, field, body)
		seen[field] = value
	}
	require.Len(t, seen, 3, body)
	return seen["id"], seen["event"], seen["data"]
}

func TestFrames(t *testing.T) {
	row := store.LogEvent{Seq: 42, Epoch: 7, AgentID: "agent-1", Type: failover.EventFailoverDetected, Data: []byte("{\n  \"agentId\": \"agent-1\"\r\n}")}
	f, ok := frameOf(row)
	require.True(t, ok)
	require.Equal(t, "id: log-7-42\ndata: {\"agentId\":\"agent-1\"}\nevent: failoverDetected\n\n", string(f.body()))
	require.Equal(t, Item{ID: "log-7-42", Event: "failoverDetected", Data: []byte(`{"agentId":"agent-1"}`)}, f.item())
	require.Equal(t, ": heartbeat\n\n", string(heartbeat.body()))
	own, other := resetEvent("log", store.Position{}, "agent-1", resetUnknown, time.Time{}), resetEvent("log", store.Position{}, "agent-2", resetUnknown, time.Time{})
	require.Equal(t, own.ID, other.ID)
	require.True(t, says([]byte(written(t, own)), own))
	require.False(t, says([]byte(written(t, own)), other), "another agent's")
	require.False(t, says([]byte("id: 1"), own))
	require.False(t, says(nil, own))
	require.Equal(t, "retry: 4500\n\n", string(retryFrame(4500*time.Millisecond)))
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	require.Equal(t, "id: log-7-42\ndata: {\"agentId\":\"agent-1\",\"time\":\"2026-09-01T12:00:00.000Z\",\"reason\":\"draining\"}\nevent: draining\nretry: 2000\n\n",
		written(t, drainingEvent(Cursor{"log", 7, 42}, "agent-1", closedDraining, 2*time.Second, now)))

	for name, bad := range map[string]store.LogEvent{
		"no data":            {Type: "snapshot"},
		"no object":          {Type: "snapshot", Data: []byte(`["a"]`)},
		"a raw line":         {Type: "snapshot", Data: []byte(`:{}`)}, // the library would write it as it is
		"broken JSON":        {Type: "snapshot", Data: []byte(`{"a":`)},
		"two values":         {Type: "snapshot", Data: []byte("{}\n{}")},
		"line break in JSON": {Type: "snapshot", Data: []byte("{\"a\":\"x\ny\"}")},
		"no name":            {Data: []byte(`{}`)},
		"line in the name":   {Type: "snapshot\ndata: {}", Data: []byte(`{}`)},
		"long name":          {Type: failover.EventType(strings.Repeat("x", 65)), Data: []byte(`{}`)},
	} {
		_, ok := frameOf(bad)
		require.False(t, ok, name)
	}
}

// Attack: frame injection. Whatever stands in a row of the log (a set-up error's message quotes what a desktop reported, ids
// come from requests), a client reads one event with the row's data, never a second one that somebody forged.
func FuzzFrame(f *testing.F) {
	f.Add([]byte(`{"agentId":"a","time":"2026-01-01T00:00:00.000Z"}`), "snapshot")
	f.Add([]byte("{\"message\":\"x\\ndata: {}\\n\\n\"}"), "configureError")
	f.Add([]byte("{}\n\nid: log-1-1\ndata: {}"), "failoverCompleted")
	f.Add([]byte("{}\r\rdata: {}"), "x\revent: failoverCompleted")
	f.Add([]byte("{\"a\":\"\xff\u2028\"}"), "y")
	f.Add([]byte(" \r\n {\"a\" :\t1}\n"), "snapshot")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		row := store.LogEvent{Seq: 42, Epoch: 7, AgentID: "agent-1", Type: failover.EventType(name), Data: data}
		frame, ok := frameOf(row)
		if !ok {
			return
		}
		id, event, got := parseFrame(t, string(frame.body()))
		require.Equal(t, Item{ID: id, Event: event, Data: []byte(got)}, frame.item())
		require.Equal(t, "log-7-42", id)
		require.Equal(t, name, event)
		require.JSONEq(t, string(data), got)
	})
}

// Attack: the same by way of a view (an agent's id is part of a URL that anybody may write, a message quotes a report).
func FuzzSnapshot(f *testing.F) {
	f.Add("agent-1", "c1", "https://a.example/ccp-v2/", "message")
	f.Add("a\nid: x\n\ndata: {}", "c\r\rdata: {}", "\n\n", "\u2028\x00\xff</script>")
	f.Fuzz(func(t *testing.T, agentID, contact, url, message string) {
		view := store.AgentView{
			AgentID: agentID, ActiveRegion: east, State: failover.AgentPending, NextActiveRegion: contact, FailoverID: message,
			ContactIDs: []string{contact}, Errors: []failover.SetupError{{Code: contact, Message: message}},
		}
		now := time.Now()
		id, event, data := parseFrame(t, written(t, snapshotEvent(Cursor{"log", 7, 42}, &view, url, now)))
		require.Equal(t, "log-7-42", id)
		require.Equal(t, "snapshot", event)
		require.True(t, json.Valid([]byte(data)))
		_, _, data = parseFrame(t, written(t, resetEvent("log", store.Position{}, agentID, resetUnknown, now)))
		require.True(t, json.Valid([]byte(data)))
	})
}

// Attack: a client tries to have its input written back: line breaks in what it resumes from, in the agent's id, and
// behind its request. It gets a reset and a snapshot that quotes the id as JSON, and nothing that it made up.
func TestInputIsNeverEchoedIntoTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newFakeStore())
		forged := "x%0d%0aX-Forged:%201%0d%0a%0d%0aid:%201%0aevent:%20failoverCompleted%0adata:%20%7b%7d%0a%0a"
		c := h.connect("/agents/a%0aevent:%20failoverCompleted%0adata:%20%7b%7d%0a%0a?lastEventId=" + forged)
		require.Equal(t, []string{"reset", "snapshot"}, c.names())
		require.Empty(t, c.response.Header.Get("X-Forged"))
		require.Equal(t, "a\nevent: failoverCompleted\ndata: {}\n\n", c.events()[1].fields(t)["agentId"])
	})
}

// Attack: a header that a middleware copied from the request holds a line break. The headers of a stream are not written by
// net/http on HTTP/1, so that its guard is ours to keep.
func TestHeadersCannotBeSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newFakeStore())
		inner := h.server.Handler
		h.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", "x\r\nX-Forged: 1\r\n\r\ndata: {}\n\n")
			w.Header().Set("Content-Length", "3")
			inner.ServeHTTP(w, r)
		})
		c := h.connect("/agents/agent-1")
		require.Equal(t, []string{"snapshot"}, c.names())
		require.Empty(t, c.response.Header.Get("X-Forged"))
		require.Contains(t, c.response.Header.Get("X-Request-Id"), "X-Forged")
		require.NotEmpty(t, c.response.Header.Get("Date"))
		require.Equal(t, []string{"chunked"}, c.response.TransferEncoding)
	})
}
