package stream

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"changeover/internal/failover"
)

// desktop is a client that comes and goes, always with the id that it heard last.
type desktop struct {
	agent string // empty: all agents
	from  int64  // seq of its first snapshot: what came later, it must hear
	last  string
	heard []message // of the log
	c     *client
}

func (d *desktop) path() string {
	if d.agent == "" {
		return "/all"
	}
	return "/agents/" + d.agent
}

// take reads what has come and remembers it. Only the first connection may begin with snapshots, and none is ever reset.
func (d *desktop) take() error {
	for _, m := range d.c.events() {
		if d.last == "" || m.event == "draining" {
			c, err := ParseCursor(m.id)
			if err != nil {
				return err
			}
			if m.event != "snapshot" && m.event != "draining" {
				return fmt.Errorf("began with %v", m)
			}
			if c.Epoch == 0 && c.Seq > 0 { // a snapshot before the last
				continue
			}
			d.last = m.id
			if m.event == "snapshot" {
				d.from = c.Seq
			}
			continue
		}
		d.heard, d.last = append(d.heard, m), m.id
	}
	return nil
}

// check compares with the log.
func (d *desktop) check(s *fakeStore) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var want, got []string
	for _, e := range s.events {
		if e.Seq > d.from && (d.agent == "" || e.AgentID == d.agent) {
			want = append(want, fmt.Sprintf("%s-%d-%d %s %s", s.logID, e.Epoch, e.Seq, e.Type, e.Data))
		}
	}
	for _, m := range d.heard {
		got = append(got, fmt.Sprintf("%s %s %s", m.id, m.event, m.data))
	}
	if !slices.Equal(want, got) {
		return fmt.Errorf("agent %q after %d\nwant %q\ngot  %q", d.agent, d.from, want, got)
	}
	return nil
}

// Whatever happens to connections, replicas, leaders and the database: every desktop hears every event of its own agent
// after its first snapshot, once, in order, as committed, and never one of another agent's (R18).
func TestEveryDesktopHearsItsOwnEventsOnceInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type op struct{ what, who, n int }
		ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
			return op{rapid.IntRange(0, 9).Draw(t, "what"), rapid.IntRange(0, 5).Draw(t, "who"), rapid.IntRange(0, 80).Draw(t, "n")}
		}), 5, 40).Draw(rt, "ops")
		var failed error
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore()
			s.know(activeIn(east, "agent-0", "agent-1", "agent-2", "agent-3")...)
			cuttable := &replicaStore{fakeStore: s}
			replicas := []*harness{newHarness(t, s), newHarness(t, cuttable)}
			desktops := make([]*desktop, 6)
			for i := range desktops {
				if i < 5 {
					desktops[i] = &desktop{agent: "agent-" + strconv.Itoa(i%4)} // two of agent-0
				} else {
					desktops[i] = &desktop{}
				}
			}
			number := 0
			leave := func(d *desktop) {
				if d.c == nil || failed != nil {
					return
				}
				failed = d.take()
				d.c.close()
				d.c = nil
			}
			come := func(d *desktop, h *harness) {
				if d.c != nil {
					return
				}
				if d.last == "" {
					d.c = h.connect(d.path())
				} else {
					d.c = h.connect(d.path(), "Last-Event-ID", d.last)
				}
			}
			for _, o := range ops {
				switch d := desktops[o.who]; o.what {
				case 0, 1, 2:
					var events []failover.Event
					for i := range o.n%7 + 1 {
						number++
						events = append(events, detected("agent-"+strconv.Itoa((o.who+i*o.n)%4), strconv.Itoa(number)))
					}
					s.commit(events...)
				case 3: // more at once than any queue holds
					var events []failover.Event
					for range 2 * o.n {
						number++
						events = append(events, pending("agent-"+strconv.Itoa(o.who%4), strconv.Itoa(number), "c"))
					}
					s.commit(events...)
				case 4, 5:
					come(d, replicas[o.n%2])
				case 6:
					leave(d)
				case 7:
					time.Sleep(time.Duration(o.n) * 50 * time.Millisecond)
				case 8:
					cuttable.cut.Store(o.n%2 == 0)
				case 9:
					if o.n%4 == 0 { // a replica is replaced by one with an empty memory
						replicas[0].stop()
						for _, d := range desktops {
							leave(d)
						}
						replicas[0] = newHarness(t, s)
					} else {
						s.newLeader()
					}
				}
			}
			cuttable.cut.Store(false)
			time.Sleep(5 * time.Second)
			for _, d := range desktops {
				leave(d)
				come(d, replicas[0])
			}
			time.Sleep(5 * time.Second)
			for _, d := range desktops {
				leave(d)
				if failed == nil {
					failed = d.check(s)
				}
			}
		})
		if failed != nil {
			rt.Fatal(failed)
		}
	})
}

// The hand-over from history to live, while events are being committed as fast as it goes.
func TestHandOverUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const agents, rounds = 8, 300
		s := newFakeStore()
		h := newHarness(t, s)
		start := nowhereNear(s)
		var committing sync.WaitGroup
		committing.Go(func() {
			for i := range rounds {
				var events []failover.Event
				for a := range agents {
					events = append(events, detected("agent-"+strconv.Itoa(a), strconv.Itoa(i)))
				}
				s.commit(events...)
				if i%10 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
		var mu sync.Mutex
		var clients []*client
		var connecting sync.WaitGroup
		for a := range agents {
			connecting.Go(func() {
				for i := range 6 {
					time.Sleep(time.Duration(i) * time.Millisecond)
					c := h.open("/agents/agent-"+strconv.Itoa(a), "Last-Event-ID", start)
					mu.Lock()
					clients = append(clients, c)
					mu.Unlock()
				}
			})
		}
		connecting.Wait()
		committing.Wait()
		time.Sleep(2 * time.Second)
		require.Len(t, clients, agents*6)
		for _, c := range clients {
			ids := failoverIDs(t, c.events())
			require.Len(t, ids, rounds)
			for i, id := range ids {
				require.Equal(t, strconv.Itoa(i), id)
			}
		}
	})
}
