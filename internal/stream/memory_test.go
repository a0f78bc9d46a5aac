package stream

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// naiveLog is what memory stands for: every event, and nothing forgotten.
type naiveLog struct {
	rows []store.LogEvent
}

func (n *naiveLog) since(agentID string, seq int64) []int64 {
	seqs := []int64{}
	for _, r := range n.rows {
		if r.Seq > seq && (agentID == "" || r.AgentID == agentID) {
			seqs = append(seqs, r.Seq)
		}
	}
	return seqs
}

func seqsOf(frames []*frame) []int64 {
	seqs := []int64{}
	for _, f := range frames {
		seqs = append(seqs, f.position.Seq)
	}
	return seqs
}

// Whatever memory says it has in full is what the log holds, for every agent, every position and every size of its rings; and
// what it must have (nothing was pushed out since) it has.
func TestMemoryAnswersAsTheLogWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(t, "ring")
		before := rapid.Int64Range(0, 6).Draw(t, "events before the load")
		agents := []string{"a", "b", "c", "d"}
		groups := []string{"main", "main", "other", "third"}
		n, moved := &naiveLog{}, false
		row := func() store.LogEvent {
			i := rapid.IntRange(0, len(agents)-1).Draw(t, "agent")
			group := groups[i]
			if rapid.IntRange(0, 50).Draw(t, "moved") == 50 { // to another failover group, which memory may not follow
				group, moved = "other", true
			}
			r := store.LogEvent{
				Seq: int64(len(n.rows) + 1), Epoch: 7, AgentID: agents[i], Group: group,
				Type: failover.EventFailoverDetected, Data: []byte(`{"agentId":"` + agents[i] + `"}`),
			}
			n.rows = append(n.rows, r)
			return r
		}
		for range before {
			row()
		}
		state := store.LogState{LogID: "log", OldestSeq: 1}
		at := store.Position{Seq: before}
		if before > 0 {
			at.Epoch, state.Terms = 7, []store.Term{{Epoch: 7, FirstSeq: 1}}
		}
		state.Head = at
		m := newMemory(state, []store.AgentView{{AgentID: "a"}, {AgentID: "b"}}, at, size)

		for range rapid.IntRange(0, 40).Draw(t, "events") {
			r := row()
			m.add(&r, decodeData(&r), &frame{position: store.Position{Epoch: r.Epoch, Seq: r.Seq}, agentID: r.AgentID})
		}
		require.Equal(t, int64(len(n.rows)), m.head.Seq)
		for seq := int64(0); seq <= m.head.Seq; seq++ {
			for _, agent := range append(agents, "nobody", "") {
				want := n.since(agent, seq)
				var got []*frame
				var ok bool
				if agent == "" {
					got, ok = m.sinceAll(seq, 1000)
				} else {
					got, ok = m.since(agent, seq, 1000)
				}
				if ok {
					require.Equal(t, want, seqsOf(got), "agent %q after %d", agent, seq)
				}
				if !moved && seq >= before && int64(len(n.rows))-seq <= int64(size) {
					require.True(t, ok, "agent %q after %d: nothing was pushed out of a ring of %d", agent, seq, size)
				}
				if ok && len(want) > 2 {
					if agent == "" {
						got, _ = m.sinceAll(seq, 2)
					} else {
						got, _ = m.since(agent, seq, 2)
					}
					require.Equal(t, want[:2], seqsOf(got), "the oldest come first")
				}
			}
		}
	})
}

func TestCheckCursor(t *testing.T) {
	m := newMemory(store.LogState{
		LogID: "log", Head: store.Position{Epoch: 30, Seq: 100}, OldestSeq: 50,
		Terms: []store.Term{{Epoch: 20, FirstSeq: 40}, {Epoch: 30, FirstSeq: 60}},
	}, nil, store.Position{Epoch: 30, Seq: 90}, 10)
	for cursor, want := range map[Cursor]verdict{
		{"log", 30, 90}:     {},
		{"log", 30, 60}:     {},
		{"log", 20, 59}:     {},
		{"log", 20, 49}:     {}, // pruned is for whoever reads: memory may hold what follows
		{"log", 30, 91}:     {ahead: true},
		{"log", 40, 80}:     {ahead: true}, // of a leader that this replica has not heard of
		{"log", 20, 60}:     {reset: resetUnknown},
		{"log", 30, 59}:     {reset: resetUnknown},
		{"log", 10, 39}:     {reset: resetPruned},
		{"log", 0, 90}:      {reset: resetUnknown},
		{"another", 30, 90}: {reset: resetOtherLog},
	} {
		require.Equal(t, want, m.check(cursor), cursor.String())
	}
	require.True(t, m.pruned(48))
	require.False(t, m.pruned(49))
}

func TestEveryEventChangesTheView(t *testing.T) {
	view := &store.AgentView{AgentID: "agent-1", Username: "jane", Group: "main", ActiveRegion: east, State: failover.AgentActive}
	play := func(e failover.Event) {
		row := store.LogEvent{AgentID: e.AgentID, Group: e.Group, FailoverID: e.FailoverID, Type: e.Type, Data: e.AppendData(nil)}
		advance(view, &row, decodeData(&row))
	}
	play(detected("agent-1", "f1"))
	require.Equal(t, store.AgentView{
		AgentID: "agent-1", Username: "jane", Group: "main", ActiveRegion: east, State: failover.AgentDetected,
		NextActiveRegion: west, FailoverID: "f1",
	}, *view)
	play(pending("agent-1", "f1", "c1", "c2"))
	require.Equal(t, failover.AgentPending, view.State)
	require.Equal(t, []string{"c1", "c2"}, view.ContactIDs)
	until := time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC)
	play(event("agent-1", failover.EventFailoverPaused, failover.Event{FailoverID: "f1", NextRegion: west, Reason: "call \"storm\"", Until: until}))
	require.Equal(t, "call \"storm\"", view.PauseReason)
	require.Equal(t, until, view.PausedUntil)
	paused := snapshotEvent(Cursor{}, view, "", until)
	require.Contains(t, string(paused.Data), `"paused":{"reason":"call \"storm\"","until":"2026-11-22T12:30:00.000Z"}`)
	play(event("agent-1", failover.EventFailoverResumed, failover.Event{FailoverID: "f1", NextRegion: west}))
	require.Zero(t, view.PausedUntil)
	require.NotContains(t, string(snapshotEvent(Cursor{}, view, "", until).Data), "paused")
	play(event("agent-1", failover.EventFailoverPaused, failover.Event{FailoverID: "f1", NextRegion: west, Reason: "r", Until: until}))
	play(event("agent-1", failover.EventFailoverCancelled, failover.Event{FailoverID: "f1", ActiveRegion: east, CancelledRegion: west}))
	require.Equal(t, store.AgentView{AgentID: "agent-1", Username: "jane", Group: "main", ActiveRegion: east, State: failover.AgentActive}, *view)
	play(detected("agent-1", "f2"))
	play(completed("agent-1", "f2"))
	stalledBefore := *view
	require.Equal(t, west, view.ActiveRegion)
	require.Equal(t, failover.AgentActive, view.State)
	play(event("agent-1", failover.EventFailoverStalled, failover.Event{FailoverID: "f2", ActiveRegion: west}))
	require.Equal(t, stalledBefore, *view)
	play(event("agent-1", failover.EventConfigureError, failover.Event{Code: "TDG_NOT_FOUND", Message: "one"}))
	play(event("agent-1", failover.EventConfigureError, failover.Event{Code: "TDG_NOT_FOUND", Message: "two"}))
	require.Len(t, view.Errors, 1)
	require.Equal(t, "two", view.Errors[0].Message)
	play(event("agent-1", failover.EventConfigureErrorCleared, failover.Event{Code: "TDG_NOT_FOUND"}))
	require.Empty(t, view.Errors)
	play(event("agent-1", failover.EventSnapshot, failover.Event{
		ActiveRegion: east, State: failover.AgentPending, NextRegion: west, FailoverID: "f3", ContactIDs: []string{"c9"},
		Errors: []failover.SetupError{{Code: "LOGIN_URL_MISSING", Message: "m"}},
	}))
	require.Equal(t, store.AgentView{
		AgentID: "agent-1", Username: "jane", Group: "main", ActiveRegion: east, State: failover.AgentPending,
		NextActiveRegion: west, FailoverID: "f3", ContactIDs: []string{"c9"},
		Errors: []failover.SetupError{{Code: "LOGIN_URL_MISSING", Message: "m"}},
	}, *view)
	before := *view
	row := store.LogEvent{AgentID: "agent-1", Group: "main", Type: "somethingNew", Data: []byte(`{"activeRegion":7}`)}
	advance(view, &row, decodeData(&row))
	require.Equal(t, before, *view, "what an older version cannot read changes nothing")
}

func TestWheelHoldsWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		var in []*conn
		for range rapid.IntRange(0, 200).Draw(t, "operations") {
			if len(in) > 0 && rapid.Bool().Draw(t, "remove") {
				i := rapid.IntRange(0, len(in)-1).Draw(t, "which")
				w.remove(in[i])
				in = slices.Delete(in, i, i+1)
				continue
			}
			c := &conn{number: uint64(len(in))}
			w.add(c)
			in = append(in, c)
		}
		var due []*conn
		for range wheelSlots {
			due = w.turn(due)
		}
		require.ElementsMatch(t, in, due, "each once in every turn")
	})
}

// BenchmarkApply applies a shift of 25,000 agents to a replica's memory: what an event costs there, and how much stays of it.
func BenchmarkApply(b *testing.B) {
	const agents = 25_000
	var views []store.AgentView
	for i := range agents {
		views = append(views, activeIn(east, benchAgent(i))...)
	}
	var events []failover.Event
	for i := range agents {
		id := uuid.NewString()
		events = append(events, detected(benchAgent(i), id), completed(benchAgent(i), id))
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	h := New(Options{})
	defer h.encoder.close()
	var kept int64
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		h.mem = newMemory(store.LogState{LogID: "log", OldestSeq: 1}, slices.Clone(views), store.Position{}, ringSize)
		before := heap()
		func() { // as the database gives them: each row has texts of its own
			rows := rowsOf(events)
			for i := range rows {
				r := &rows[i]
				r.Seq, r.Epoch, r.CommittedAt = int64(i+1), 1, time.Now()
				r.AgentID, r.Group, r.FailoverID = strings.Clone(r.AgentID), strings.Clone(r.Group), strings.Clone(r.FailoverID)
				r.Type = failover.EventType(strings.Clone(string(r.Type)))
			}
			b.StartTimer()
			h.apply("log", rows)
			b.StopTimer()
		}()
		kept += heap() - before
		b.StartTimer()
	}
	n := float64(b.N * len(events))
	b.ReportMetric(float64(kept)/n, "B-kept/event")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/event")
}
