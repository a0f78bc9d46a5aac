package nemesis

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/servertest"
)

// soakVariable is for how long TestSoak runs; it does not run without it.
const soakVariable = "SOAK"

// Sequences of the nemesis for a long time, and beside them one service that is never made anew: round after round of the same, each
// checked from the beginning of the log on, with the same clients. One of its replicas is never ended, only frozen and cut off; what it
// holds at rest must not grow.
func TestSoak(t *testing.T) {
	if os.Getenv(soakVariable) == "" {
		t.Skip("make soak runs it, for " + soakVariable + " (an hour)")
	}
	length, program := duration(t, soakVariable, time.Hour), servertest.Build(t, "", "server")
	deadline := time.Now().Add(length)
	var both sync.WaitGroup
	both.Go(func() { sequences(t, program, length, number(t, parallelVariable, 2)) })
	both.Go(func() {
		t.Run("one service", func(t *testing.T) { soakOne(t, program, uint64(time.Now().UnixNano()), deadline) })
	})
	both.Wait()
	t.Log(ran.String())
}

func soakOne(t *testing.T, program string, seed uint64, deadline time.Time) {
	s := newSequence(t, program, seed)
	s.spared, s.freed = 0, true
	s.begin()
	defer s.end()
	if len(s.failures) > 0 {
		s.tell(s.failures)
		return
	}
	var sizes []size
	rounds := 0
	for ; time.Now().Before(deadline) && !t.Failed(); rounds++ {
		s.since = time.Now()
		s.amazon.forget(s.since.Add(-time.Minute)) // everything has answered since then, also a Region that was down in the last round
		if faults := s.round(10 * time.Second); len(faults) > 0 {
			s.tell(faults)
			t.Errorf("in round %d", rounds+1)
			return
		}
		for len(s.desktops) > agents+2 { // who came in this round goes
			last := len(s.desktops) - 1
			s.desktops[last].stop()
			s.desktops = s.desktops[:last]
		}
		sizes = append(sizes, s.size(t))
	}
	t.Logf("%d rounds of one service, %d events, %d failovers, %d terms", rounds, s.events, s.failovers, len(s.reigns))
	const warm = 4
	if n := len(sizes); n >= 4*warm {
		quarter := (n - warm) / 4
		first, last := median(sizes[warm:warm+quarter]), median(sizes[n-quarter:])
		t.Logf("replica 0 at rest, first quarter: %s; last quarter: %s", first, last)
		// A ring of recent events fills up to 32 MiB.
		require.LessOrEqual(t, last.memory, first.memory+first.memory/10+40<<20, "resident memory")
		require.LessOrEqual(t, last.goroutines, first.goroutines+first.goroutines/10+10)
		require.LessOrEqual(t, last.files, first.files+first.files/10+10)
	}
}

// size is what a process holds.
type size struct{ goroutines, files, memory int }

func (s size) String() string {
	return fmt.Sprintf("%d goroutines, %d open files, %.1f MiB resident", s.goroutines, s.files, float64(s.memory)/(1<<20))
}

func median(sizes []size) size {
	middle := func(of func(size) int) int {
		list := make([]int, len(sizes))
		for i, s := range sizes {
			list[i] = of(s)
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	return size{
		middle(func(s size) int { return s.goroutines }), middle(func(s size) int { return s.files }), middle(func(s size) int { return s.memory }),
	}
}

// size asks the replica that lives from the beginning to the end.
func (s *sequence) size(t *testing.T) size {
	status, body := s.ask(s.spared, http.MethodGet, "/metrics", "", nil)
	require.Equal(t, http.StatusOK, status)
	read := func(name string) int {
		m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(body)
		require.NotNil(t, m, name)
		v, err := strconv.ParseFloat(string(m[1]), 64)
		require.NoError(t, err, name)
		return int(v)
	}
	return size{read("go_goroutines"), read("process_open_fds"), read("process_resident_memory_bytes")}
}
