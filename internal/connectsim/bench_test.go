package connectsim

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// userDataRequest asks for a page of 100 by all routing profiles.
func userDataRequest(s *Sim, filter string) *http.Request {
	body := fmt.Sprintf(`{"Filters":{%s},"MaxResults":100}`, filter)
	r := httptest.NewRequest(http.MethodPost, "/metrics/userdata/"+s.InstanceID(), strings.NewReader(body))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=A/20261122/us-east-1/connect/aws4_request, SignedHeaders=host, Signature=0")
	return r
}

func profileFilter(s *Sim) string {
	ids := make([]string, 0, len(s.profiles))
	for _, p := range s.profiles {
		ids = append(ids, `"`+p.id+`"`)
	}
	return `"RoutingProfiles":[` + strings.Join(ids, ",") + `]`
}

// BenchmarkCurrentUserDataFirstPage is the dearest page: it counts the whole floor of 50,000.
func BenchmarkCurrentUserDataFirstPage(b *testing.B) {
	s := New(Config{Agents: 50_000, Latency: -1, Floor: Busy()})
	benchmarkPage(b, s, profileFilter(s))
}

// BenchmarkCurrentUserDataWithContacts asks only for agents with contacts.
func BenchmarkCurrentUserDataWithContacts(b *testing.B) {
	s := New(Config{Agents: 50_000, Latency: -1, Floor: Busy()})
	benchmarkPage(b, s, profileFilter(s)+`,"ContactFilter":{"ContactStates":["INCOMING","PENDING","CONNECTING","CONNECTED","CONNECTED_ONHOLD","MISSED","ERROR","ENDED","REJECTED"]}`)
}

// BenchmarkCurrentUserDataByID asks for 100 agents by id.
func BenchmarkCurrentUserDataByID(b *testing.B) {
	s := New(Config{Agents: 50_000, Latency: -1, Floor: Busy()})
	ids := make([]string, 0, 100)
	for i := range 100 {
		ids = append(ids, `"`+s.agents[i*500].ids[0]+`"`)
	}
	benchmarkPage(b, s, `"Agents":[`+strings.Join(ids, ",")+`]`)
}

func benchmarkPage(b *testing.B, s *Sim, filter string) {
	b.ReportAllocs()
	h := s.Handler()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, userDataRequest(s, filter))
		if w.Code != http.StatusOK || w.Body.Len() < 10_000 {
			b.Fatalf("status %d: %.200s", w.Code, w.Body)
		}
	}
}

// BenchmarkFloorHour lets 50,000 busy agents work for an hour.
func BenchmarkFloorHour(b *testing.B) {
	s := New(Config{Agents: 50_000, Floor: Busy()})
	b.ReportAllocs()
	for b.Loop() {
		s.mu.Lock()
		s.advance(s.now + 3600e9)
		s.mu.Unlock()
	}
}

// BenchmarkNew makes a floor of 50,000.
func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		New(Config{Agents: 50_000, Floor: Busy()})
	}
}
