package store

import (
	"fmt"
	"testing"
	"time"

	"changeover/internal/failover"
)

// BenchmarkEncode makes columns and log lines of a thousand agents who were detected and completed: what a commit costs before
// PostgreSQL sees it.
func BenchmarkEncode(b *testing.B) {
	const agents = 1000
	at := time.Date(2026, 11, 22, 9, 0, 0, 123456000, time.UTC)
	var e failover.Effects
	for i := range agents {
		id := fmt.Sprintf("9c81d1e1-90fa-4c2f-8bcb-%012d", i)
		f := &failover.Failover{
			ID: fmt.Sprintf("01a20335-0000-7000-8000-%012d", i), AgentID: id, Group: "main", TDG: "tdg", From: "us-east-1", To: "us-west-2",
			Status: failover.Completed, Cause: failover.SourceDistribution, Evidence: failover.Inferred, DetectedAt: at, CompletedAt: at, EvidenceAt: at,
			LastOldAt: at, SignedIn: true,
		}
		e.Agents = append(e.Agents, &failover.Agent{
			ID: id, Username: fmt.Sprintf("user%05d", i), Group: "main", TDG: "tdg", RoutingProfile: "profile", ActiveRegion: "us-west-2",
			RegionSource: failover.SourceDistribution, ObservedAt: at, Last: f, Streaming: true,
			Lists: []failover.ContactList{{Region: "us-east-1", ReadAt: at, Present: true, SeenAt: at}, {Region: "us-west-2", ReadAt: at, SeenAt: at}},
		})
		e.Failovers = append(e.Failovers, f)
		e.Events = append(e.Events,
			&failover.Event{Type: failover.EventFailoverDetected, AgentID: id, Group: "main", FailoverID: f.ID, Time: at, NextRegion: "us-west-2"},
			&failover.Event{Type: failover.EventFailoverCompleted, AgentID: id, Group: "main", FailoverID: f.ID, Time: at, ActiveRegion: "us-west-2",
				ActiveCCPURL: "https://b.my.connect.aws/ccp-v2/", PreviousRegion: "us-east-1", Evidence: failover.Inferred})
	}
	e.Created = e.Failovers
	per := func(b *testing.B, n int) {
		b.ReportAllocs()
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/agent")
	}
	b.Run("state", func(b *testing.B) {
		for b.Loop() {
			if _, err := encode(&e); err != nil {
				b.Fatal(err)
			}
		}
		per(b, agents)
	})
	b.Run("events", func(b *testing.B) {
		for b.Loop() {
			eventRows(e.Events, Committed{First: Position{1, 1}, At: at})
		}
		per(b, agents)
	})
}
