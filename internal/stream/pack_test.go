package stream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// packing is a memory with events as they were sent.
type packing struct {
	hub    *Hub
	sent   []*frame
	copies []frame // of sent, as they were before memory got them
}

func newPacking(t interface{ Cleanup(f func()) }) *packing {
	h := New(Options{})
	t.Cleanup(h.encoder.close)
	h.mem = newMemory(store.LogState{LogID: "log", OldestSeq: 1}, nil, store.Position{}, ringSize)
	return &packing{hub: h}
}

// add has an event sent and remembered.
func (p *packing) add(agentID string, kind failover.EventType, data string) {
	row := store.LogEvent{
		Seq: int64(len(p.sent) + 1), Epoch: 1795393606697, AgentID: agentID, Group: "main", Type: kind, Data: []byte(data),
		CommittedAt: time.Unix(1795393606, int64(len(p.sent))),
	}
	d, valid := readData(&row)
	f := p.hub.framesOf([]store.LogEvent{row}, p.hub.eventsOf("log", []store.LogEvent{row}))[0]
	if !valid {
		d = nil
	}
	f.delivery = &delivery{first: row.Seq}
	p.copies = append(p.copies, *f)
	p.hub.mem.add(&row, d, f)
	p.sent = append(p.sent, f)
}

// same says that what is remembered is what was sent.
func (p *packing) same(t require.TestingT) {
	all, ok := p.hub.mem.sinceAll(0, len(p.sent))
	require.True(t, ok)
	require.Len(t, all, len(p.sent))
	for i, f := range all {
		want := p.copies[i]
		require.Equal(t, string(want.chunk), string(f.chunk))
		require.Equal(t, want.name, f.name)
		require.Equal(t, want.id, f.id)
		require.Equal(t, want.position, f.position)
		require.Equal(t, want.agentID, f.agentID)
		require.Equal(t, want.committed, f.committed)
		require.Same(t, want.delivery, f.delivery)
		if f.name != "" {
			require.Equal(t, want.item(), f.item())
		}
	}
}

func (p *packing) whole() (n int) {
	for i := range p.sent {
		if p.hub.mem.rings["main"].slot(uint64(i)).whole != nil {
			n++
		}
	}
	return n
}

// Every event of the core is remembered as it was sent, and those of a shift take little.
func TestPackedEventsComeBackAsTheyWereSent(t *testing.T) {
	p := newPacking(t)
	id := uuid.NewString
	add := func(e failover.Event) { p.add(e.AgentID, e.Type, string(e.AppendData(nil))) }
	for range 100 {
		agent, f := id(), id()
		add(detected(agent, f))
		add(completed(agent, f))
		add(pending(agent, f, id(), id()))
		add(event(agent, failover.EventPendingUpdated, failover.Event{FailoverID: f, NextRegion: west}))
		add(event(agent, failover.EventSnapshot, failover.Event{ActiveRegion: east, State: failover.AgentActive})) // of a floor that is new here
		add(event(agent, failover.EventSnapshot, failover.Event{FailoverID: f, ActiveRegion: east, State: failover.AgentPending, NextRegion: west, ContactIDs: []string{id()}}))
		for _, kind := range []failover.EventType{failover.EventFailoverCancelled, failover.EventFailoverStalled, failover.EventFailoverResumed} {
			add(event(agent, kind, failover.Event{FailoverID: f, NextRegion: west, ActiveRegion: east, CancelledRegion: west}))
		}
	}
	require.Zero(t, p.whole(), "those of a shift are packed")
	require.LessOrEqual(t, len(p.hub.mem.shapes), 9)

	agent, f := id(), id()
	for _, e := range []failover.Event{
		pending(agent, f, `"quoted"`),
		detected("agent-1", "failover-1"), // no UUID
		detected(`"quoted" agent`, f),
		detected("Agentin Ü", f),
		event(agent, failover.EventSnapshot, failover.Event{ActiveRegion: east, State: failover.AgentActive, Errors: []failover.SetupError{{Code: "x", Message: "y"}}}),
		event(agent, failover.EventConfigureError, failover.Event{Code: "x", Message: "of another"}),
		event(agent, failover.EventFailoverPaused, failover.Event{FailoverID: f, NextRegion: west, Reason: "wait", Until: time.Now()}),
		event(agent, failover.EventDrillDetected, failover.Event{DrillID: "d1", NextRegion: west}),
	} {
		add(e)
	}
	require.Equal(t, 8, p.whole())

	agent = id()
	for _, data := range []string{
		`{"agentId":"` + id() + `","time":"2026-11-23T00:00:00.000Z"}`, // of somebody else
		`{"agentId":"` + agent + `","agentId":"` + agent + `","time":"2026-11-23T00:00:00.000Z"}`,
		`{"agentId":"` + agent + `","time":"2026-11-23T00:00:00Z"}`,
		`{"time":"2026-11-23T00:00:00.000Z","agentId":"` + agent + `"}`,
		`{"agentId":"` + agent + `"}`,
		`{ "agentId":"` + agent + `","time":"2026-11-23T00:00:00.000Z"}`,
		"{\"agentId\":\"" + agent + "\",\n\"time\":\"2026-11-23T00:00:00.000Z\"}",
		`{"agentId":null,"time":"2026-11-23T00:00:00.000Z"}`,
		`{"agentId":"` + agent + `","time":"2026-11-23T00:00:00.000Z","failoverId":null}`,
		`{}`, `[]`, `null`, ``, `{"agentId":`,
	} {
		p.add(agent, failover.EventFailoverDetected, data)
	}
	p.add(agent, "strange name", `{"agentId":"`+agent+`","time":"2026-11-23T00:00:00.000Z"}`)
	p.same(t)
}

// Data that have little in common fill no memory with shapes.
func TestShapesAreBounded(t *testing.T) {
	p := newPacking(t)
	for i := range 2 * maxShapes {
		agent := uuid.NewString()
		p.add(agent, failover.EventFailoverDetected, fmt.Sprintf(`{"agentId":%q,"time":"2026-11-23T00:00:00.000Z","nextActiveRegion":"region-%d"}`, agent, i))
	}
	require.Len(t, p.hub.mem.shapes, maxShapes)
	require.Equal(t, maxShapes, p.whole())
	p.same(t)
}

// Whatever the data are, what is remembered is what was sent.
func TestPackedAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPacking(t)
		agents := []string{uuid.NewString(), uuid.NewString(), "a"}
		values := []string{`"2026-11-23T00:00:00.000Z"`, `"` + uuid.NewString() + `"`, `""`, `null`, `true`, `"us-east-1"`, `[]`, `["c"]`, `1`, `{}`}
		for _, a := range agents {
			values = append(values, `"`+a+`"`)
		}
		names := []string{"agentId", "time", "failoverId", "activeRegion", "nextActiveRegion", "forced", "contactIds", "clear", "state", "configureErrors", "other"}
		for range rapid.IntRange(1, 20).Draw(t, "events") {
			var members []string
			for range rapid.IntRange(0, 5).Draw(t, "members") {
				members = append(members, fmt.Sprintf("%q:%s", rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(values).Draw(t, "value")))
			}
			p.add(rapid.SampledFrom(agents).Draw(t, "agent"), failover.EventFailoverDetected, "{"+strings.Join(members, ",")+"}")
		}
		p.same(t)
	})
}
