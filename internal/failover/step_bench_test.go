package failover

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

const fleet = 100_000

// benchState is a fleet of 100,000 agents who work in us-east-1, a third of them in a call, in 200 routing profiles. now is when it was read.
func benchState(set Settings, now time.Time) *State {
	newID := func(time.Time) string { return uuid.Must(uuid.NewV7()).String() }
	s := New(set, []GroupConfig{mainGroup(Regional)}, Snapshot{}, newID)
	s.Step(Started{}, now)
	s.Step(TDGsListed{Group: "main", At: now, TDGs: []TDGInfo{{ID: "t", Status: "ACTIVE"}}}, now)
	s.Step(benchRound(toEast, now), now)
	s.Step(benchPage(0, fleet, now), now)
	return s
}

func benchRound(d Distribution, now time.Time) DistributionRound {
	return DistributionRound{Group: "main", TDG: "t", TickAt: now, Answers: []RegionAnswer{
		{Region: east, Agents: d}, {Region: west, Agents: d},
	}}
}

// benchPage shows the agents from the first to before the last.
func benchPage(first, last int, now time.Time) UserData {
	data := UserData{Group: "main", Region: east, StartedAt: now}
	for i := first; i < last; i++ {
		u := UserRecord{ID: fmt.Sprintf("agent-%06d", i), RoutingProfile: fmt.Sprintf("profile-%03d", i%200)}
		if i%3 == 0 {
			u.Contacts = []Contact{{ID: fmt.Sprintf("contact-%06d", i), Channel: "VOICE", State: "CONNECTED"}}
		}
		data.Users = append(data.Users, u)
	}
	return data
}

func perAgent(b *testing.B, agents int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(agents), "ns/agent")
}

// BenchmarkStepShift shifts 100,000 agents at once: a detection for each of them. It has to stay under half a second.
func BenchmarkStepShift(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s := benchState(defaults(), noon)
		b.StartTimer()
		eff := s.Step(benchRound(toWest, noon.Add(time.Minute)), noon.Add(time.Minute))
		b.StopTimer()
		if len(eff.Events) != fleet {
			b.Fatalf("%d events, want %d", len(eff.Events), fleet)
		}
		b.StartTimer()
	}
	perAgent(b, fleet)
}

// BenchmarkStepTick lets a second pass while 100,000 failovers are open, a third of them pending; and takes the work for the
// readers, which happens after each commit.
func BenchmarkStepTick(b *testing.B) {
	s := benchState(defaults(), noon)
	now := noon.Add(time.Minute)
	s.Step(benchRound(toWest, now), now)
	page := benchPage(0, fleet, now)
	for i := range page.Users {
		if len(page.Users[i].Contacts) == 0 {
			page.Users[i].ID = "elsewhere" // not read yet
		}
	}
	s.Step(page, now)
	b.Run("Tick", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(time.Second)
			s.Step(Tick{}, now)
		}
		perAgent(b, fleet)
	})
	b.Run("Work", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if n := len(s.Work(now).Drain); n != fleet {
				b.Fatalf("%d to read, want %d", n, fleet)
			}
		}
		perAgent(b, fleet)
	})
}

// BenchmarkUserData takes pages of 100 agents: of a quiet floor, where nothing changes; of the first read after a detection,
// which decides about each of them; and the end of a chunk, which looks for those who were not shown.
func BenchmarkUserData(b *testing.B) {
	b.Run("quiet", func(b *testing.B) {
		s := benchState(defaults(), noon)
		page, now := benchPage(5000, 5100, noon), noon
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(time.Millisecond)
			page.StartedAt = now
			s.Step(page, now)
		}
		perAgent(b, 100)
	})
	b.Run("detected", func(b *testing.B) {
		b.ReportAllocs()
		var s *State
		now, first := noon, fleet
		for b.Loop() {
			b.StopTimer()
			if first += 100; first >= fleet {
				s, first, now = benchState(defaults(), noon), 0, noon.Add(time.Minute)
				s.Step(benchRound(toWest, now), now)
			}
			page := benchPage(first, first+100, now)
			b.StartTimer()
			s.Step(page, now)
		}
		perAgent(b, 100)
	})
	b.Run("chunk", func(b *testing.B) {
		s := benchState(defaults(), noon)
		chunk := ChunkComplete{Group: "main", Region: east, StartedAt: noon}
		for i := range 20 {
			chunk.Profiles = append(chunk.Profiles, fmt.Sprintf("profile-%03d", i))
		}
		b.ReportAllocs()
		for b.Loop() {
			s.Step(chunk, noon)
		}
		perAgent(b, fleet)
	})
}

// BenchmarkStarted loads a fleet and finds that nothing was missed; what a new leader does before it decides anything.
func BenchmarkStarted(b *testing.B) {
	was := benchState(defaults(), noon)
	snapshot := Snapshot{Groups: []*Group{was.Group("main")}, TDGs: was.TDGsOf("main"), Agents: was.AgentsOf("main")}
	b.ReportAllocs()
	for b.Loop() {
		s := New(defaults(), []GroupConfig{mainGroup(Regional)}, snapshot, was.newID)
		if eff := s.Step(Started{}, noon.Add(time.Minute)); len(eff.Events) > 0 {
			b.Fatalf("%d events", len(eff.Events))
		}
	}
	perAgent(b, fleet)
}
