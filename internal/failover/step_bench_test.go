package failover

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// BenchmarkStepShift shifts 100,000 agents at once: a detection for each of them.
func BenchmarkStepShift(b *testing.B) {
	const agents = 100_000
	east := Distribution{{"us-east-1", 100}, {"us-west-2", 0}}
	west := Distribution{{"us-east-1", 0}, {"us-west-2", 100}}
	newID := func(time.Time) string { return uuid.Must(uuid.NewV7()).String() }
	groups := []GroupConfig{{
		Name: "main", Routing: Regional,
		Instances: []Instance{{"us-east-1", "https://a/"}, {"us-west-2", "https://b/"}},
	}}
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s := New(Settings{DrainInterval: 5 * time.Second}, groups, Snapshot{}, newID)
		s.Step(Started{}, start)
		s.Step(TDGsListed{Group: "main", At: start, TDGs: []TDGInfo{{ID: "t", Status: "ACTIVE"}}}, start)
		round := func(d Distribution) DistributionRound {
			return DistributionRound{Group: "main", TDG: "t", TickAt: start, Answers: []RegionAnswer{
				{Region: "us-east-1", Agents: d}, {Region: "us-west-2", Agents: d},
			}}
		}
		s.Step(round(east), start)
		data := UserData{Group: "main", Region: "us-east-1", StartedAt: start}
		for i := range agents {
			u := UserRecord{ID: fmt.Sprintf("agent-%06d", i), RoutingProfile: "rp"}
			if i%3 == 0 {
				u.Contacts = []Contact{{ID: fmt.Sprintf("contact-%06d", i), Channel: "VOICE", State: "CONNECTED"}}
			}
			data.Users = append(data.Users, u)
		}
		s.Step(data, start)
		b.StartTimer()
		eff := s.Step(round(west), start.Add(time.Minute))
		b.StopTimer()
		if len(eff.Events) != agents {
			b.Fatalf("%d events, want %d", len(eff.Events), agents)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/agents, "ns/agent")
}
