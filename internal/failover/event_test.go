package failover

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEventData: the one line that a stream carries of each event, as docs/events.md promises it to desktops.
func TestEventData(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 13, 0, 0, 123_999_999, time.FixedZone("CET", 3600)) // UTC, milliseconds, never in the future
	for name, test := range map[string]struct {
		event Event
		want  string
	}{
		"snapshot of an agent who works": {
			Event{Type: EventSnapshot, AgentID: "a", ActiveRegion: east, ActiveCCPURL: "https://east.example/ccp-v2/", State: AgentActive},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","activeRegion":"us-east-1","activeCcpUrl":"https://east.example/ccp-v2/","state":"active","configureErrors":[]}`,
		},
		"snapshot of an agent of whom nothing is known": {
			Event{Type: EventSnapshot, AgentID: "a", State: AgentUnknown},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","activeRegion":null,"activeCcpUrl":null,"state":"unknown","configureErrors":[]}`,
		},
		"snapshot of an agent on the way": {
			Event{
				Type: EventSnapshot, AgentID: "a", FailoverID: "f", ActiveRegion: east, NextRegion: west, State: AgentPending, ContactIDs: []string{"c1", "c2"},
				Errors: []SetupError{{Code: CodeAccessDenied, Message: "role"}, {Code: CodeTDGNotFound, Message: "gone"}},
			},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","activeRegion":"us-east-1","activeCcpUrl":null,"state":"pending","nextActiveRegion":"us-west-2","contactIds":["c1","c2"],` +
				`"configureErrors":[{"code":"ACCESS_DENIED","message":"role"},{"code":"TDG_NOT_FOUND","message":"gone"}]}`,
		},
		"snapshot of an agent whose failover is held": {
			Event{Type: EventSnapshot, AgentID: "a", FailoverID: "f", ActiveRegion: east, NextRegion: west, State: AgentDetected, Reason: "a \"storm\"\n", Until: at.Add(time.Hour)},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","activeRegion":"us-east-1","activeCcpUrl":null,"state":"detected","nextActiveRegion":"us-west-2",` +
				`"paused":{"reason":"a \"storm\"\n","until":"2026-11-22T13:00:00.123Z"},"configureErrors":[]}`,
		},
		"detected": {
			Event{Type: EventFailoverDetected, AgentID: "a", FailoverID: "f", NextRegion: west},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","nextActiveRegion":"us-west-2"}`,
		},
		"pending": {
			Event{Type: EventFailoverPending, AgentID: "a", FailoverID: "f", NextRegion: west, ContactIDs: []string{"c1"}},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","nextActiveRegion":"us-west-2","contactIds":["c1"]}`,
		},
		"nothing pending any more": {
			Event{Type: EventPendingUpdated, AgentID: "a", FailoverID: "f", NextRegion: west},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","nextActiveRegion":"us-west-2","contactIds":[]}`,
		},
		"completed": {
			Event{Type: EventFailoverCompleted, AgentID: "a", FailoverID: "f", ActiveRegion: west, PreviousRegion: east, ActiveCCPURL: "https://west.example/", Evidence: Inferred},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","activeRegion":"us-west-2","activeCcpUrl":"https://west.example/","previousRegion":"us-east-1","forced":false,"evidence":"inferred",` +
				`"clear":["agentStateArns","queueArns","quickConnects","routingProfile","contacts"]}`,
		},
		"cancelled": {
			Event{Type: EventFailoverCancelled, AgentID: "a", FailoverID: "f", ActiveRegion: east, CancelledRegion: west},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","activeRegion":"us-east-1","cancelledRegion":"us-west-2"}`,
		},
		"stalled, and seen nowhere": {
			Event{Type: EventFailoverStalled, AgentID: "a", FailoverID: "f"},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","failoverId":"f","activeRegion":null}`,
		},
		// A desktop may report any text; a line break in it would end the stream's frame and begin another one.
		"a message that tries to forge a frame": {
			Event{Type: EventConfigureError, AgentID: "a", Code: "LOGIN_URL_MISSING", Message: "x\r\n\ndata: {}\u2028<script>\"\\\x00\xff\x7f"},
			`{"agentId":"a","time":"2026-11-22T12:00:00.123Z","code":"LOGIN_URL_MISSING","message":"x\r\n\ndata: {}\u2028\u003cscript\u003e\"\\\u0000\ufffd` + "\x7f" + `"}`,
		},
		"repaired": {
			Event{Type: EventConfigureErrorCleared, AgentID: "ä", Code: "LOGIN_URL_MISSING"},
			`{"agentId":"ä","time":"2026-11-22T12:00:00.123Z","code":"LOGIN_URL_MISSING"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.event.Time = at
			got := test.event.AppendData([]byte("before"))
			require.Equal(t, "before"+test.want, string(got))
			require.True(t, json.Valid(got[len("before"):]))
			require.NotContains(t, string(got), "\n")
		})
	}
}
