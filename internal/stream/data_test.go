package stream

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// The events of a shift are read without encoding/json, and everything else as encoding/json reads it. (frameOf compares the two for whatever the fuzzer
// finds.)
func TestPlainData(t *testing.T) {
	t.Parallel()
	for _, e := range []failover.Event{
		{Type: failover.EventFailoverDetected, NextRegion: "us-west-2"},
		{Type: failover.EventFailoverPending, NextRegion: "us-west-2", ContactIDs: []string{"one", "two"}},
		{Type: failover.EventPendingUpdated, NextRegion: "us-west-2"},
		{Type: failover.EventFailoverCompleted, ActiveRegion: "us-west-2", PreviousRegion: "us-east-1", Evidence: failover.Inferred},
		{Type: failover.EventFailoverCompleted, ActiveRegion: "us-west-2", ActiveCCPURL: "https://b.my.connect.aws/ccp-v2/", Forced: true},
		{Type: failover.EventFailoverCancelled, ActiveRegion: "us-east-1", CancelledRegion: "us-west-2"},
		{Type: failover.EventFailoverStalled},
		{Type: failover.EventSnapshot, ActiveRegion: "us-east-1", State: failover.AgentActive},
		{Type: failover.EventSnapshot, ActiveRegion: "us-east-1", State: failover.AgentPending, NextRegion: "us-west-2", ContactIDs: []string{"one"}},
	} {
		e.AgentID, e.FailoverID, e.Time = "9c81d1e1-90fa-4c2f-8bcb-000000000001", "01a20335-0000-7000-8000-000000000001", time.Unix(1e9, 0)
		b := e.AppendData(nil)
		var got, want eventData
		p := plainJSON{b, len(b)}
		require.True(t, p.event(&got), "%s", b)
		require.NoError(t, json.Unmarshal(b, &want))
		require.Equal(t, e.AgentID, string(got.plain.agentID.of(b)))
		require.Equal(t, "2001-09-09T01:46:40.000Z", string(got.plain.time.of(b)))
		require.Equal(t, e.FailoverID, string(got.plain.failoverID.of(b)))
		got.plain = spans{}
		require.Equal(t, want, got)
	}
	for _, text := range []string{
		``, `{`, `{}`, `null`, `{"activeRegion"`, `{"activeRegion":`, `{"activeRegion":"x"`, `{"activeRegion":"x",}`, `{"activeRegion":"x"}}`, `{"activeRegion":"x"} `,
		`{"activeRegion":"\u0061"}`, `{"activeRegion":"ä"}`, `{"ACTIVEREGION":"x"}`, `{"activeRegion":1}`, `{"activeRegion":"x","activeRegion":null}`, `{"state":"ACTIVE"}`,
		`{"contactIds":null}`, `{"contactIds":[}`, `{"contactIds":["a",]}`, `{"contactIds":["a"],"contactIds":[]}`, `{"contactIds":[1]}`, `{"forced":tru}`, `{"forced":nullx}`,
		`{"nextActiveRegion":"x","more":{"a":[1]}}`, `{"configureErrors":[{"code":"a"}]}`, `{"configureErrors":null}`, `{"configureErrors":[]`, `{"configureErrors":[],"configureErrors":[{"code":"a"}]}`,
		`{"state":null}`, `{"state":1}`, `{"state":"ACTIVE","state":"PENDING"}`, `{"code":"c","message":"m"}`,
	} {
		frameOf(store.LogEvent{Type: failover.EventFailoverDetected, Data: []byte(text)})
	}
}

// BenchmarkReadData reads the data of an event of a shift, as each replica does with every event.
func BenchmarkReadData(b *testing.B) {
	e := failover.Event{
		Type: failover.EventFailoverCompleted, AgentID: "9c81d1e1-90fa-4c2f-8bcb-000000000001", FailoverID: "01a20335-0000-7000-8000-000000000001",
		ActiveRegion: "us-west-2", ActiveCCPURL: "https://b.my.connect.aws/ccp-v2/", PreviousRegion: "us-east-1", Evidence: failover.Inferred,
	}
	row := store.LogEvent{Data: e.AppendData(nil)}
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, valid := readData(&row); !valid {
				b.Fatal("not read")
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := json.Unmarshal(row.Data, &eventData{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
