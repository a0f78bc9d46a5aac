package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

func TestStreamBeginsWithSnapshotAndGoesOnLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		c := h.connect("/agents/agent-1", "Accept-Encoding", "gzip, br")

		require.Equal(t, http.StatusOK, c.response.StatusCode)
		require.Equal(t, "text/event-stream", c.response.Header.Get("Content-Type"))
		require.Equal(t, "no-cache, no-transform", c.response.Header.Get("Cache-Control"))
		require.Equal(t, "no", c.response.Header.Get("X-Accel-Buffering"))
		require.Empty(t, c.response.Header.Get("Content-Encoding"))

		rows := s.commit(detected("agent-1", "f1"), pending("agent-1", "f1", "c1"), completed("agent-1", "f1"))
		require.Equal(t, []string{"snapshot", "failoverDetected", "failoverPending", "failoverCompleted"}, c.names())

		all := c.all()
		require.NotEmpty(t, all[0].retry, "retry comes first")
		require.Empty(t, all[0].data)
		snapshot := all[1].fields(t)
		require.Equal(t, "agent-1", snapshot["agentId"])
		require.Equal(t, east, snapshot["activeRegion"])
		require.Equal(t, "https://main.us-east-1.example/ccp-v2/", snapshot["activeCcpUrl"])
		require.Equal(t, "active", snapshot["state"])
		for i, row := range rows {
			m := all[2+i]
			require.Equal(t, string(row.Data), m.data, "data goes out as it was committed")
			require.Equal(t, h.hub.Cursor(store.Position{Epoch: row.Epoch, Seq: row.Seq}), m.id)
			require.Equal(t, "f1", m.fields(t)["failoverId"])
		}
	})
}

func TestSnapshotTellsTheWholeState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		s.commit(
			detected("agent-1", "f1"), pending("agent-1", "f1", "c1", "c2"),
			event("agent-1", failover.EventPendingUpdated, failover.Event{FailoverID: "f1", NextRegion: west, ContactIDs: []string{"c2"}}),
			event("agent-1", failover.EventConfigureError, failover.Event{Code: "LOGIN_URL_MISSING", Message: "no login URL"}),
			event("agent-1", failover.EventConfigureError, failover.Event{Code: "TDG_NOT_ACTIVE", Message: "not active"}),
			event("agent-1", failover.EventConfigureErrorCleared, failover.Event{Code: "LOGIN_URL_MISSING"}),
		)
		synctest.Wait()
		live := h.connect("/agents/agent-1").events()[0].fields(t)
		require.Equal(t, "pending", live["state"])
		require.Equal(t, west, live["nextActiveRegion"])
		require.Equal(t, []any{"c2"}, live["contactIds"])
		require.Equal(t, "f1", live["failoverId"])
		require.Equal(t, []any{map[string]any{"code": "TDG_NOT_ACTIVE", "message": "not active"}}, live["configureErrors"])

		// A replica that starts now loads what this one has followed.
		other := newHarness(t, s)
		require.Equal(t, live, other.connect("/agents/agent-1").events()[0].fields(t))

		s.commit(completed("agent-1", "f1"))
		synctest.Wait()
		after := h.connect("/agents/agent-1").events()[0].fields(t)
		require.Equal(t, "active", after["state"])
		require.Equal(t, west, after["activeRegion"])
		require.NotContains(t, after, "nextActiveRegion")
		require.NotContains(t, after, "contactIds")
		require.NotContains(t, after, "failoverId")
	})
}

// A stream for an agent not read yet is brought up to date in place (R3): the log's snapshot goes to open streams.
func TestUnknownAgentIsBroughtUpToDateInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		c := h.connect("/agents/new-agent")
		first := c.events()[0].fields(t)
		require.Equal(t, "unknown", first["state"])
		require.Nil(t, first["activeRegion"])
		require.Nil(t, first["activeCcpUrl"])

		s.commit(event("new-agent", failover.EventSnapshot, failover.Event{ActiveRegion: west, State: failover.AgentActive}))
		require.Equal(t, []string{"snapshot", "snapshot"}, c.names())
		require.Equal(t, west, c.events()[1].fields(t)["activeRegion"])
		v, known := h.hub.View("new-agent")
		require.True(t, known)
		require.Equal(t, west, v.ActiveRegion)
		require.False(t, c.over())
	})
}

func TestResumeTellsWhatWasMissedOnceInOrderOnAnyReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1", "agent-2")...)
		h := newHarness(t, s)
		c := h.connect("/agents/agent-1")
		s.commit(detected("agent-1", "f1"))
		seen := c.events()
		last := seen[len(seen)-1].id
		c.close()
		s.commit(detected("agent-2", "f2"), pending("agent-1", "f1", "c1"), completed("agent-2", "f2"), completed("agent-1", "f1"))
		synctest.Wait()
		late := newHarness(t, s) // it has none of these events in memory
		missed := []string{"failoverPending", "failoverCompleted"}
		for name, try := range map[string]struct {
			h    *harness
			path string
			head []string
		}{
			"header":              {h, "/agents/agent-1", []string{"Last-Event-ID", last}},
			"parameter":           {h, "/agents/agent-1?lastEventId=" + last, nil},
			"header wins":         {h, "/agents/agent-1?lastEventId=nonsense", []string{"Last-Event-ID", last}},
			"replica of later on": {late, "/agents/agent-1", []string{"Last-Event-ID", last}},
		} {
			c := try.h.connect(try.path, try.head...)
			time.Sleep(replayTime)
			require.Equal(t, missed, c.names(), name)
			defer c.close()
			defer func() {
				require.Equal(t, append(missed, "failoverDetected"), c.names(), "%s goes on live", name)
			}()
		}
		s.commit(detected("agent-1", "f3"))
		synctest.Wait()
	})
}

func TestResumeAtTheHeadTellsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		// Of an empty log too: a snapshot's cursor is one to resume from.
		first := h.connect("/agents/agent-1").events()[0]
		s.commit(detected("agent-1", "f1"))
		again := h.connect("/agents/agent-1", "Last-Event-ID", first.id)
		require.Equal(t, []string{"failoverDetected"}, again.names())
		head := h.connect("/agents/agent-1", "Last-Event-ID", again.events()[0].id)
		require.Empty(t, head.names())
		// Another agent's event moves the snapshot's cursor on, and that is one to resume from too.
		s.commit(detected("agent-2", "f2"))
		later := h.connect("/agents/agent-1").events()[0]
		s.commit(completed("agent-1", "f1"))
		require.Equal(t, []string{"failoverCompleted"}, h.connect("/agents/agent-1", "Last-Event-ID", later.id).names())
		require.Equal(t, []string{"failoverCompleted"}, head.names())
	})
}

func TestCursorsThatCannotBeResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		first := s.epoch
		s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"))
		s.newLeader()
		second := s.epoch
		s.commit(detected("agent-1", "f2"), completed("agent-1", "f2"))
		h := newHarness(t, s)
		s.prune(2)
		time.Sleep(stateInterval + 2*time.Second)
		cursor := func(logID string, epoch, seq int64) string { return fmt.Sprintf("%s-%d-%d", logID, epoch, seq) }
		for name, try := range map[string]struct{ cursor, reason string }{
			"no cursor":                   {"7", resetMalformed},
			"too long":                    {fmt.Sprintf("%0200d-1-1", 0), resetMalformed},
			"another stack's":             {cursor("0123456789ab", second, 3), resetOtherLog},
			"epoch of an earlier leader":  {cursor(s.logID, first, 3), resetUnknown},
			"epoch of a later leader":     {cursor(s.logID, second, 2), resetUnknown},
			"epoch that never was":        {cursor(s.logID, second+1, 4), resetUnknown},
			"beyond the log":              {cursor(s.logID, second, 5), resetUnknown},
			"far beyond the log":          {cursor(s.logID, second, 1<<62), resetUnknown},
			"before what is kept":         {cursor(s.logID, 0, 0), resetPruned},
			"of a reset without snapshot": {nowhere(s.logID, store.Position{Epoch: second, Seq: 4}).String(), resetUnknown},
		} {
			c := h.connect("/agents/agent-1", "Last-Event-ID", try.cursor)
			require.Equal(t, []string{"reset", "snapshot"}, c.names(), name)
			reset, snapshot := c.events()[0], c.events()[1]
			require.Equal(t, try.reason, reset.fields(t)["reason"], name)
			require.Equal(t, "agent-1", reset.fields(t)["agentId"], name)
			require.NotEmpty(t, reset.fields(t)["time"], name)
			require.Equal(t, "active", snapshot.fields(t)["state"], name)
			c.close()
			// Whoever is cut off between the two must not go on from there as if nothing was missing.
			again := h.connect("/agents/agent-1", "Last-Event-ID", reset.id)
			require.Equal(t, []string{"reset", "snapshot"}, again.names(), name)
			again.close()
			require.Empty(t, h.connect("/agents/agent-1", "Last-Event-ID", snapshot.id).names(), name)
			h.closeAll()
		}
		// The oldest that can be resumed from is the one before the first that is kept.
		oldest := h.connect("/agents/agent-1", "Last-Event-ID", cursor(s.logID, first, 1))
		time.Sleep(replayTime)
		require.Equal(t, []string{"failoverCompleted", "failoverDetected", "failoverCompleted"}, oldest.names())
	})
}

// closeAll closes the clients, so that the cap of an agent does not count those of an earlier case.
func (h *harness) closeAll() {
	for _, c := range h.clients {
		c.close()
	}
	h.clients = nil
	synctest.Wait()
}

// The database drops a day while memory still believes that it is there.
func TestPrunedWhileReplaying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		rows := s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"), detected("agent-1", "f2"))
		h := newHarness(t, s)
		s.prune(3)
		c := h.connect("/agents/agent-1", "Last-Event-ID", Cursor{s.logID, rows[0].Epoch, 1}.String())
		time.Sleep(replayTime)
		require.Equal(t, []string{"reset", "snapshot"}, c.names())
		require.Equal(t, resetPruned, c.events()[0].fields(t)["reason"])
	})
}

// Another replica is ahead and told its client events that this one has not read: the client waits here, and is not reset.
func TestCursorAheadOfThisReplicaWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		behind := &replicaStore{fakeStore: s}
		slow := newHarness(t, behind)
		behind.cut.Store(true)

		ahead := h.connect("/agents/agent-1")
		s.commit(detected("agent-1", "f1"))
		s.newLeader()
		s.commit(pending("agent-1", "f1", "c1"))
		last := ahead.events()[2].id
		c := slow.connect("/agents/agent-1", "Last-Event-ID", last)
		time.Sleep(time.Minute)
		require.Empty(t, c.names())
		require.False(t, c.over())
		require.NotEmpty(t, c.all()[1].comments, "heartbeats go on")
		s.commit(completed("agent-1", "f1"))
		behind.cut.Store(false)
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"failoverCompleted"}, c.names())
	})
}

// remembers gives a harness the memory of a leader.
func remembers(events *atomic.Pointer[[]store.LogEvent]) func(*Options) {
	return func(o *Options) {
		o.Fresh = func(seq int64, _ int) []store.LogEvent {
			events := events.Load()
			if events == nil {
				return nil
			}
			if i := slices.IndexFunc(*events, func(e store.LogEvent) bool { return e.Seq > seq }); i >= 0 {
				return slices.Clone((*events)[i:])
			}
			return nil
		}
	}
}

// A leader's commit is in the database, where another replica reads and tells it, before the leader hears so. Whoever heard of it and comes to the leader is
// not reset because of what the leader remembers of its own commits.
func TestCursorAheadOfWhatALeaderRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		other := newHarness(t, s)
		behind := &replicaStore{fakeStore: s}
		var remembered atomic.Pointer[[]store.LogEvent]
		h := newHarness(t, behind, remembers(&remembered))
		ahead := other.connect("/agents/agent-1")
		first := s.commit(detected("agent-1", "f1"))
		remembered.Store(&first)
		time.Sleep(2 * time.Second)
		s.commit(pending("agent-1", "f1", "c1"))
		require.Equal(t, "failoverPending", ahead.names()[2])
		last := ahead.events()[2].id

		c := h.connect("/agents/agent-1", "Last-Event-ID", last)
		items, _, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: last, Limit: 1})
		require.NoError(t, err)
		require.Empty(t, items)
		time.Sleep(2 * time.Second)
		require.Empty(t, c.names())
		s.commit(completed("agent-1", "f1"))
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"failoverCompleted"}, c.names())
	})
}

// The notification of a leader's commit is there before the leader remembers it, and finds nothing new; the leader's own streams need not wait for the next poll.
func TestALeaderRemembersAfterTheDoorbell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		var remembered atomic.Pointer[[]store.LogEvent]
		h := newHarness(t, s, remembers(&remembered))
		c := h.connect("/agents/agent-1")
		first := s.commit(detected("agent-1", "f1"))
		remembered.Store(&first)
		require.Equal(t, []string{"snapshot", "failoverDetected"}, c.names())
		both := append(first, s.commit(completed("agent-1", "f1"))...) // the bell has rung
		require.Len(t, c.names(), 2)
		remembered.Store(&both)
		h.hub.Ring()
		synctest.Wait()
		require.Equal(t, []string{"snapshot", "failoverDetected", "failoverCompleted"}, c.names())
	})
}

// Postgres failed over asynchronously and lost commits that were told: what desktops know is wrong, and they are told so.
func TestLogThatLostCommitsResetsEveryStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1", "agent-2")...)
		h := newHarness(t, s)
		one, all := h.connect("/agents/agent-1"), h.connect("/all")
		s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"))
		lost := one.events()[2].id
		require.Equal(t, []string{"snapshot", "failoverDetected", "failoverCompleted"}, one.names())

		s.lose(1)
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"snapshot", "failoverDetected", "failoverCompleted", "reset", "snapshot"}, one.names())
		events := one.events()
		require.Equal(t, resetLost, events[3].fields(t)["reason"])
		require.Equal(t, "detected", events[4].fields(t)["state"], "the view is the database's")
		require.Equal(t, []string{"reset", "snapshot", "snapshot"}, all.names()[4:])

		// The new leader's events take the lost ones' numbers.
		s.commit(pending("agent-1", "f1", "c1"), completed("agent-1", "f1"))
		require.Equal(t, []string{"failoverPending", "failoverCompleted"}, one.names()[5:])
		late := h.connect("/agents/agent-1", "Last-Event-ID", lost)
		require.Equal(t, []string{"reset", "snapshot"}, late.names())
		require.Equal(t, resetUnknown, late.events()[0].fields(t)["reason"])
	})
}

// The same, but the new leader has already written as much as was lost when this replica looks again.
func TestLostCommitsBehindNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		c := h.connect("/agents/agent-1")
		s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"))
		require.Len(t, c.events(), 3)
		s.silent = true
		s.lose(1)
		s.commit(pending("agent-1", "f1", "c1"), pending("agent-1", "f1", "c2"), pending("agent-1", "f1", "c3"))
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"reset", "snapshot"}, c.names()[3:])
		require.Equal(t, []any{"c3"}, c.events()[4].fields(t)["contactIds"])
	})
}

// The leader kept its lease, and with it its epoch, through a failover that lost commits: number and epoch are the same.
func TestLostCommitsWrittenAgainInTheSameEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		c := h.connect("/agents/agent-1")
		s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"))
		require.Len(t, c.events(), 3)
		time.Sleep(time.Millisecond)
		s.silent = true
		epoch := s.epoch
		s.lose(1)
		s.epoch = epoch
		s.commit(pending("agent-1", "f1", "c1"))
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"reset", "snapshot"}, c.names()[3:])
	})
}

// A restored database, or another one behind the same name.
func TestAnotherLogResetsEveryStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		c := h.connect("/agents/agent-1") // of an empty log, which shows nothing but its name
		s.replace("0123456789ab")
		time.Sleep(stateInterval + 2*time.Second)
		require.Equal(t, []string{"snapshot", "reset", "snapshot"}, c.names())
		s.commit(detected("agent-1", "f1"))
		require.Contains(t, c.events()[3].id, "0123456789ab-")
	})
}

func TestPostgresAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		old := s.commit(detected("agent-1", "f0"), completed("agent-1", "f0"))
		h := newHarness(t, s)
		open := h.connect("/agents/agent-1")
		s.commit(detected("agent-1", "f1"))
		recent := open.events()[1].id
		s.commit(pending("agent-1", "f1", "c1"))
		synctest.Wait()

		s.setDown(true)
		time.Sleep(time.Minute)
		require.False(t, open.over())
		require.GreaterOrEqual(t, comments(open), 3, "open streams keep their heartbeats")
		require.Equal(t, "pending", h.connect("/agents/agent-1").events()[0].fields(t)["state"], "new ones start from memory")
		require.Equal(t, []string{"failoverPending"}, h.connect("/agents/agent-1", "Last-Event-ID", recent).names())
		before := h.connect("/agents/agent-1", "Last-Event-ID", Cursor{s.logID, old[0].Epoch, 1}.String())
		require.Empty(t, before.names(), "what is older than memory waits")
		require.True(t, h.hub.Ready())

		s.setDown(false)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"failoverCompleted", "failoverDetected", "failoverPending"}, before.names())
		s.commit(completed("agent-1", "f1"))
		require.Equal(t, "failoverCompleted", open.names()[3])
		require.Equal(t, "failoverCompleted", before.names()[3])
	})
}

// Before the first load there is nothing to tell; the stream is open and is told as soon as there is.
func TestStreamBeforeTheFirstLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		s.setDown(true)
		h := newHarness(t, s)
		require.False(t, h.hub.Ready())
		c := h.connect("/agents/agent-1")
		time.Sleep(15*time.Second + 100*time.Millisecond)
		require.Empty(t, c.names())
		require.Equal(t, 1, comments(c))
		s.setDown(false)
		time.Sleep(2 * time.Second)
		require.True(t, h.hub.Ready())
		require.Equal(t, []string{"snapshot"}, c.names())
	})
}

func comments(c *client) int {
	n := 0
	for _, m := range c.all() {
		n += len(m.comments)
	}
	return n
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		began := time.Now()
		slots := make(map[time.Duration]bool)
		var clients []*client
		for i := range 50 {
			clients = append(clients, h.connect("/agents/agent-"+strconv.Itoa(i)))
		}
		time.Sleep(10*15*time.Second + 10*time.Millisecond)
		for _, c := range clients {
			var beats []time.Time
			for _, m := range c.all() {
				if len(m.comments) > 0 {
					require.Empty(t, m.data)
					beats = append(beats, m.at)
				}
			}
			require.Len(t, beats, 10)
			for i := 1; i < len(beats); i++ {
				require.Equal(t, 15*time.Second, beats[i].Sub(beats[i-1]).Round(time.Millisecond))
			}
			slots[beats[0].Sub(began)] = true
		}
		require.Greater(t, len(slots), 10, "the floor's heartbeats are spread over the interval")
	})
}

func TestRetryIsJitteredPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newFakeStore())
		seen := make(map[int]bool)
		for i := range 60 {
			c := h.connect("/agents/agent-" + strconv.Itoa(i))
			ms, err := strconv.Atoi(c.all()[0].retry)
			require.NoError(t, err)
			require.GreaterOrEqual(t, ms, 3000)
			require.LessOrEqual(t, ms, 9000)
			seen[ms] = true
		}
		require.Greater(t, len(seen), 30)
	})
}

// refused checks the answer that a browser's EventSource survives: 200, a retry within bounds, the end.
func refused(t *testing.T, c *client, from, to int) {
	t.Helper()
	require.Equal(t, http.StatusOK, c.response.StatusCode)
	require.Equal(t, "text/event-stream", c.response.Header.Get("Content-Type"))
	require.True(t, c.over())
	require.Len(t, c.all(), 1)
	ms, err := strconv.Atoi(c.all()[0].retry)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ms, from)
	require.LessOrEqual(t, ms, to)
}

func TestCapPerAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newFakeStore())
		var open []*client
		for range 8 {
			open = append(open, h.connect("/agents/agent-1"))
		}
		require.Equal(t, 8, h.hub.Connections("agent-1"))
		seen := make(map[string]bool)
		for range 20 {
			c := h.connect("/agents/agent-1")
			refused(t, c, 15_000, 60_000)
			seen[c.all()[0].retry] = true
		}
		require.Greater(t, len(seen), 10, "jittered")
		require.Equal(t, 8, h.hub.Connections("agent-1"))
		require.InDelta(t, 8, h.metric("stream_connections"), 0)
		require.InDelta(t, 20, h.metric("stream_closed_total", "reason=agent_limit"), 0)
		require.False(t, h.connect("/agents/agent-2").over(), "other agents are not concerned")
		open[3].close()
		synctest.Wait()
		require.Equal(t, 7, h.hub.Connections("agent-1"))
		require.False(t, h.connect("/agents/agent-1").over(), "a place that was freed can be had")
	})
}

func TestCapInTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newFakeStore(), func(o *Options) { o.MaxConnections = 3 })
		h.connect("/agents/agent-1")
		h.connect("/agents/agent-2")
		h.connect("/all")
		refused(t, h.connect("/agents/agent-3"), 15_000, 60_000)
		refused(t, h.connect("/all"), 15_000, 60_000)
		require.InDelta(t, 2, h.metric("stream_closed_total", "reason=overload"), 0)
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		var clients []*client
		for i := range 100 {
			clients = append(clients, h.connect("/agents/agent-"+strconv.Itoa(i)))
		}
		waiting := h.connect("/all")
		s.commit(detected("agent-7", "f1"))
		synctest.Wait()
		began := time.Now()
		drained := make(chan struct{})
		go func() { h.hub.Drain(t.Context()); close(drained) }()
		time.Sleep(time.Second)
		refused(t, h.connect("/agents/late"), 1_000, 5_000)
		time.Sleep(9 * time.Second)
		closed := 0
		for _, c := range clients {
			if c.over() {
				closed++
			}
		}
		require.InDelta(t, 50, closed, 2, "closed evenly over the time")
		s.commit(completed("agent-7", "f1")) // whoever is still here hears it, the others when they resume
		<-drained
		require.InDelta(t, 20, time.Since(began).Seconds(), .3)
		retries := make(map[string]bool)
		for i, c := range append(clients, waiting) {
			require.True(t, c.over())
			require.Equal(t, io.EOF, c.err, "the response ends as HTTP asks for it")
			events := c.events()
			last := events[len(events)-1]
			require.Equal(t, "draining", last.event)
			require.Equal(t, "shutdown", last.fields(t)["reason"])
			require.Equal(t, events[len(events)-2].id, last.id, "the client goes on from what it was told last")
			ms, err := strconv.Atoi(last.retry)
			require.NoError(t, err)
			require.GreaterOrEqual(t, ms, 1000)
			require.LessOrEqual(t, ms, 5000)
			retries[last.retry] = true
			if i == 7 {
				other := newHarness(t, s)
				resumed := other.connect("/agents/agent-7", "Last-Event-ID", last.id)
				time.Sleep(replayTime)
				require.Equal(t, []string{"snapshot", "failoverDetected", "failoverCompleted"},
					append(without(c.names(), "draining"), resumed.names()...), "nothing is lost or told twice")
			}
		}
		require.Greater(t, len(retries), 50)
		require.InDelta(t, 101, h.metric("stream_closed_total", "reason=draining"), 0)
		heard := 0
		for _, c := range append(clients, waiting) {
			heard += len(without(without(c.names(), "snapshot"), "draining"))
		}
		require.InDelta(t, heard, h.metric("event_delivery_seconds"), 0, "the id that a draining repeats is not measured again")
		require.InDelta(t, 0, h.metric("stream_connections"), 0)
	})
}

func without(names []string, name string) []string {
	var kept []string
	for _, n := range names {
		if n != name {
			kept = append(kept, n)
		}
	}
	return kept
}

// Whoever is sent away before all snapshots were told must not go on as if they had been.
func TestDrainInTheMiddleOfSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		for i := range 200 {
			s.know(activeIn(east, fmt.Sprintf("agent-%03d", i))...)
		}
		h := newHarness(t, s)
		conn := h.stalled("/all")
		drained := make(chan struct{})
		go func() { h.hub.Drain(t.Context()); close(drained) }()
		time.Sleep(time.Second)
		c := readFrom(t, conn)
		<-drained
		names := c.names()
		require.Less(t, len(names), 200)
		require.Equal(t, "draining", names[len(names)-1])
		other := newHarness(t, s).connect("/all", "Last-Event-ID", c.events()[len(names)-1].id)
		require.Equal(t, "reset", other.names()[0])
		require.Len(t, other.names(), 201)
	})
}

// What happens after the farewell is told on the next connection.
func TestNothingFollowsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s, func(o *Options) { o.Drain = time.Second })
		conn := h.stalled("/agents/agent-1")
		s.commit(detected("agent-1", "f1"))
		synctest.Wait()
		drained := make(chan struct{})
		go func() { h.hub.Drain(t.Context()); close(drained) }()
		synctest.Wait()
		for i := range 300 {
			s.commit(detected("agent-1", strconv.Itoa(i)))
			synctest.Wait()
		}
		time.Sleep(4 * time.Second)
		c := readFrom(t, conn)
		<-drained
		require.Equal(t, []string{"snapshot", "draining"}, c.names())
		require.Equal(t, c.events()[0].id, c.events()[1].id)
		resumed := newHarness(t, s).connect("/agents/agent-1", "Last-Event-ID", c.events()[1].id)
		time.Sleep(replayTime)
		require.Len(t, resumed.events(), 301)
	})
}

// Before the first load nothing was told either.
func TestDrainBeforeTheFirstLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.setDown(true)
		h := newHarness(t, s)
		fresh := h.connect("/agents/agent-1")
		cursor := Cursor{s.logID, s.epoch, 7}.String()
		resuming := h.connect("/agents/agent-1", "Last-Event-ID", cursor)
		h.hub.Drain(t.Context())
		require.Equal(t, []string{"draining"}, fresh.names())
		require.Equal(t, []string{"draining"}, resuming.names())
		require.Equal(t, cursor, resuming.events()[0].id)
		s.setDown(false)
		require.Equal(t, []string{"reset", "snapshot"}, newHarness(t, s).connect("/agents/agent-1", "Last-Event-ID", fresh.events()[0].id).names())
	})
}

// The process gets less time than the configuration would like.
func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		var clients []*client
		for i := range 20 {
			clients = append(clients, h.connect("/agents/agent-"+strconv.Itoa(i)))
		}
		stalled := h.stalled("/agents/agent-0")
		defer stalled.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		began := time.Now()
		h.hub.Drain(ctx)
		require.LessOrEqual(t, time.Since(began), 4*time.Second)
		for _, c := range clients {
			require.True(t, c.over())
			require.Equal(t, []string{"snapshot", "draining"}, c.names())
		}
	})
}

func TestTokenThatExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		began := time.Now()
		h := newHarness(t, s, func(o *Options) { o.WriteTimeout = time.Hour })
		h.until = began.Add(10 * time.Minute)
		c := h.connect("/agents/agent-1")
		stalled := h.stalled("/agents/agent-2")
		defer stalled.Close()
		h.until = began.Add(time.Second)
		short := h.connect("/agents/agent-3")
		h.until = time.Time{}
		other := h.connect("/agents/agent-1")
		time.Sleep(time.Second)
		require.Equal(t, []string{"snapshot", "draining"}, short.names(), "a short one is told its state all the same")
		require.True(t, short.over())

		time.Sleep(9*time.Minute + 48*time.Second)
		require.False(t, c.over())
		for range 20_000 { // more than a socket's buffers would hold
			s.commit(detected("agent-2", "f"))
		}
		time.Sleep(11 * time.Second)
		require.True(t, c.over())
		last := c.events()[1]
		require.Equal(t, "draining", last.event)
		require.Equal(t, "token_expiring", last.fields(t)["reason"])
		require.Empty(t, last.retry, "the client comes back as it was told first")
		require.Greater(t, began.Add(10*time.Minute).Sub(last.at), time.Second, "some seconds before")
		require.False(t, other.over())
		require.Zero(t, h.hub.Connections("agent-2"), "a connection never outlives its token, also one that does not read")
	})
}

// What a client that does not read costs: its connection. Everybody else hears the event at once.
func TestSlowClientIsCutOffAndNobodyWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		good := h.connect("/agents/agent-1")
		stalled := h.stalled("/agents/agent-1")
		defer stalled.Close()
		all := h.stalled("/all")
		defer all.Close()
		require.Equal(t, 2, h.hub.Connections("agent-1"))
		var failovers []failover.Event
		for i := range 500 {
			failovers = append(failovers, detected("agent-1", "f"+strconv.Itoa(i)))
		}
		began := time.Now()
		s.commit(failovers...)
		require.Len(t, good.events(), 501)
		require.Equal(t, began, time.Now(), "nobody waited")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, h.hub.Connections("agent-1"))
		require.InDelta(t, 2, h.metric("stream_closed_total", "reason=slow"), 0)
		require.InDelta(t, 1, h.metric("stream_connections"), 0)
	})
}

// A client that pauses, but not for as long as the deadline of a write, loses nothing although its queue was full.
func TestFullQueueGoesOnFromTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		conn := h.stalled("/agents/agent-1")
		defer conn.Close()
		for i := range 300 {
			s.commit(detected("agent-1", strconv.Itoa(i)))
			synctest.Wait()
		}
		time.Sleep(4 * time.Second)
		c := readFrom(t, conn)
		events := c.events()
		require.Len(t, events, 301)
		for i, e := range events[1:] {
			require.Equal(t, strconv.Itoa(i), e.fields(t)["failoverId"])
		}
		s.commit(completed("agent-1", "f"))
		require.Equal(t, "failoverCompleted", c.names()[301])
	})
}

func TestStreamOfAllAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-2", "agent-1", "agent-3")...)
		s.commit(detected("agent-3", "f3"))
		h := newHarness(t, s)
		c := h.connect("/all")
		require.Equal(t, []string{"snapshot", "snapshot", "snapshot"}, c.names())
		snapshots := c.events()
		for i, m := range snapshots {
			require.Equal(t, "agent-"+strconv.Itoa(i+1), m.fields(t)["agentId"])
		}
		s.commit(detected("agent-1", "f1"), detected("agent-2", "f2"), completed("agent-1", "f1"))
		require.Equal(t, []string{"f1", "f2", "f1"}, failoverIDs(t, c.events()[3:]))
		// Whoever has all snapshots can resume; whoever was cut off in the middle begins anew.
		require.Equal(t, []string{"f1", "f2", "f1"}, failoverIDs(t, h.connect("/all", "Last-Event-ID", snapshots[2].id).events()))
		require.Equal(t, []string{"reset", "snapshot", "snapshot", "snapshot"}, h.connect("/all", "Last-Event-ID", snapshots[1].id).names())

		other := newHarness(t, s) // from the database
		resumed := other.connect("/all?lastEventId=" + c.events()[3].id)
		time.Sleep(replayTime)
		require.Equal(t, []string{"f2", "f1"}, failoverIDs(t, resumed.events()))
		reset := other.connect("/all?lastEventId=x").events()[0].fields(t)
		require.Contains(t, reset, "agentId")
		require.Nil(t, reset["agentId"])
	})
}

func failoverIDs(t *testing.T, messages []message) []string {
	t.Helper()
	var ids []string
	for _, m := range messages {
		ids = append(ids, m.fields(t)["failoverId"].(string))
	}
	return ids
}

// A contact centre hires and dismisses: what memory holds is bounded by those who are there. Whoever was removed and comes back gets what
// the log has of them, and nothing twice.
func TestRemovedAgentsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1", "agent-2", "agent-3", "agent-4")...)
		h := newHarness(t, s)
		s.commit(detected("agent-2", "f2"), completed("agent-2", "f2"), detected("agent-3", "f3"))
		synctest.Wait()
		watched := h.connect("/agents/agent-4")
		start, first := nowhereNear(s), Cursor{s.logID, s.epoch, 1}.String()
		s.mu.Lock()
		s.removed = map[string]bool{"agent-2": true, "agent-4": true}
		s.mu.Unlock()
		known := func() (ids []string) {
			h.hub.mu.Lock()
			defer h.hub.mu.Unlock()
			for id := range h.hub.mem.agents {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			return ids
		}
		time.Sleep(forgetInterval + time.Second)
		require.Equal(t, []string{"agent-1", "agent-3", "agent-4"}, known(), "those with an open stream stay")
		_, there := h.hub.View("agent-2")
		require.False(t, there)

		for cursor, want := range map[string][]string{start: {"failoverDetected", "failoverCompleted"}, first: {"failoverCompleted"}} {
			c := h.connect("/agents/agent-2", "Last-Event-ID", cursor)
			time.Sleep(replayTime)
			require.Equal(t, want, c.names())
			c.close()
		}
		s.mu.Lock()
		s.removed = nil
		s.mu.Unlock()
		s.commit(detected("agent-2", "f4"))
		c := h.connect("/agents/agent-2", "Last-Event-ID", first)
		time.Sleep(replayTime)
		require.Equal(t, []string{"f2", "f4"}, failoverIDs(t, c.events()))
		require.False(t, watched.over())
	})
}

// A floor comes back after an outage that was longer than memory: its streams are served by a few queries.
func TestReplaysAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var first, more []failover.Event
		for i := range 400 {
			first = append(first, detected("agent-"+strconv.Itoa(i), "f"))
			more = append(more, completed("agent-"+strconv.Itoa(i), "f"))
		}
		s.commit(first...)
		s.commit(more...)
		h := newHarness(t, s)
		gate := make(chan struct{})
		s.gate = gate
		var clients []*client
		for i := range 400 {
			clients = append(clients, h.connect("/agents/agent-"+strconv.Itoa(i), "Last-Event-ID", Cursor{s.logID, s.epoch, 400}.String()))
		}
		time.Sleep(time.Second)
		close(gate)
		time.Sleep(time.Second)
		for _, c := range clients {
			require.Equal(t, []string{"failoverCompleted"}, c.names())
		}
		require.LessOrEqual(t, s.called("AgentEventsAfter"), 2+2*replayWorkers)
		require.Greater(t, s.agentsIn, 100)
	})
}

// replayTime is enough for what is read from the database.
const replayTime = 2 * replayLinger

func TestReplayInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var events []failover.Event
		for i := range 2*replayRows + 100 {
			events = append(events, detected("agent-"+strconv.Itoa(i%2), strconv.Itoa(i)))
		}
		s.commit(events...)
		h := newHarness(t, s)
		start := nowhereNear(s)
		for agent, want := range map[string]int{"/agents/agent-1": len(events) / 2, "/all": len(events)} {
			c := h.connect(agent, "Last-Event-ID", start)
			time.Sleep(4 * replayTime)
			got := failoverIDs(t, c.events())
			require.Len(t, got, want)
			for i := 1; i < len(got); i++ {
				a, _ := strconv.Atoi(got[i-1])
				b, _ := strconv.Atoi(got[i])
				require.Less(t, a, b)
			}
		}
	})
}

// nowhereNear is the position before the first event.
func nowhereNear(s *fakeStore) string { return Cursor{LogID: s.logID}.String() }

func TestRowsThatCannotBeSentAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		c, all := h.connect("/agents/agent-1"), h.connect("/all")
		s.mu.Lock()
		s.appendRows([]store.LogEvent{
			{AgentID: "agent-1", Group: "main", Type: "failover Detected", Data: []byte(`{}`)},
			{AgentID: "agent-1", Group: "main", Type: "failoverDetected", Data: []byte(`[1]`)},
		})
		s.mu.Unlock()
		s.commit(completed("agent-1", "f1"))
		require.Equal(t, []string{"snapshot", "failoverCompleted"}, c.names())
		require.Equal(t, []string{"failoverCompleted"}, all.names())
		require.Equal(t, []string{"failoverCompleted"}, h.connect("/agents/agent-1", "Last-Event-ID", c.events()[0].id).names())
	})
}

func TestRegistryIsWrittenInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.commit(detected("agent-1", "f1"))
		h := newHarness(t, s)
		cursor := Cursor{s.logID, s.epoch, 1}.String()
		c := h.connect("/agents/agent-1", "Last-Event-ID", cursor)
		h.connect("/all?lastEventId=x")
		h.connect("/agents/agent-2").close()
		require.Empty(t, s.connections())
		time.Sleep(time.Second + time.Millisecond)
		require.Len(t, s.connections(), 2)
		for _, e := range s.connections() {
			require.Equal(t, "replica-1", e.Replica)
			require.Equal(t, "pipe", e.RemoteAddr)
			require.Equal(t, map[string]string{"agent-1": cursor, "": ""}[e.AgentID], e.LastEventID)
		}
		calls := s.called("SyncConnections")
		time.Sleep(time.Second)
		require.Equal(t, calls+1, s.called("SyncConnections"), "once a second, also when there is nothing to tell")

		s.setDown(true)
		time.Sleep(3 * time.Second)
		c.close()
		h.connect("/agents/agent-3")
		time.Sleep(3 * time.Second)
		s.mu.Lock()
		clear(s.registered) // the database lost it
		s.down = false
		s.mu.Unlock()
		time.Sleep(time.Second)
		agents := map[string]bool{}
		for _, e := range s.connections() {
			agents[e.AgentID] = true
		}
		require.Equal(t, map[string]bool{"": true, "agent-3": true}, agents)
		h.stop()
		require.Empty(t, s.connections(), "the last write leaves nothing behind")
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.commit(detected("agent-1", "f0"))
		h := newHarness(t, s)
		one := h.connect("/agents/agent-1")
		h.connect("/agents/agent-1", "Last-Event-ID", nowhereNear(s))
		h.connect("/all")
		time.Sleep(replayTime)
		s.commit(completed("agent-1", "f0"))
		synctest.Wait()
		require.InDelta(t, 3, h.metric("stream_connections"), 0)
		require.InDelta(t, 2, h.metric("stream_events_total", "type=snapshot"), 0)
		require.InDelta(t, 1, h.metric("stream_events_total", "type=failoverDetected"), 0)
		require.InDelta(t, 3, h.metric("stream_events_total", "type=failoverCompleted"), 0)
		require.InDelta(t, 3, h.metric("event_delivery_seconds"), 0, "what was missed while away is not measured")
		one.close()
		synctest.Wait()
		require.InDelta(t, 2, h.metric("stream_connections"), 0)
		require.InDelta(t, 1, h.metric("stream_closed_total", "reason=client"), 0)
	})
}

func TestChangedIsClosedAtTheNextAdvance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		changed := h.hub.Changed()
		select {
		case <-changed:
			t.Fatal("closed before anything changed")
		default:
		}
		s.commit(detected("agent-1", "f1"))
		<-changed
		v, known := h.hub.View("agent-1")
		require.True(t, known)
		require.Equal(t, failover.AgentDetected, v.State)
		_, known = h.hub.View("nobody")
		require.False(t, known)
	})
}

// holedStore forgets an event in the middle of an answer.
type holedStore struct {
	*fakeStore
	hole int64
}

func (s *holedStore) EventsAfter(ctx context.Context, seq int64, limit int) ([]store.LogEvent, error) {
	rows, err := s.fakeStore.EventsAfter(ctx, seq, limit)
	return slices.DeleteFunc(rows, func(r store.LogEvent) bool { return r.Seq == s.hole }), err
}

// Attack on the log: somebody deletes a row. Nobody goes on as if it had never been there.
func TestHoleInTheLogResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &holedStore{newFakeStore(), 2}
		h := newHarness(t, s)
		c := h.connect("/agents/agent-1")
		s.commit(detected("agent-1", "f1"), pending("agent-1", "f1", "c1"), completed("agent-1", "f1"))
		require.Equal(t, []string{"snapshot", "reset", "snapshot"}, c.names())
		require.Equal(t, west, c.events()[2].fields(t)["activeRegion"])
	})
}

type deafStore struct{ *fakeStore }

func (deafStore) Listen(context.Context, []string, func(string)) error { return errDown }

// A mistake that waiting does not mend ends the hub, and what is open with it.
func TestRunTellsWhatCannotBeMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := New(testOptions(deafStore{newFakeStore()}))
		require.ErrorIs(t, hub.Run(t.Context()), errDown)
		rec := recorder()
		hub.ServeAgent(rec, request("/"), "agent-1")
		require.Contains(t, rec.Body.String(), "retry: ")
	})
}

// On HTTP/2 a deadline that has passed ends the stream, also when nothing is being written.
func TestHTTP2StreamOutlivesTheDeadlineOfItsWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s, func(o *Options) { o.Heartbeat = time.Minute })
		h.server.Protocols = new(http.Protocols)
		h.server.Protocols.SetUnencryptedHTTP2(true)
		h.protocols = h.server.Protocols
		c := h.connect("/agents/agent-1")
		require.Equal(t, "HTTP/2.0", c.response.Proto)
		time.Sleep(50 * time.Second)
		s.commit(detected("agent-1", "f1"))
		require.Equal(t, []string{"snapshot", "failoverDetected"}, c.names())
		require.False(t, c.over())
	})
}

// Streams that resume from very different positions are served by one query. Those who need little must not be set back by
// those who need much.
func TestReplayBatchOfDifferentPositions(t *testing.T) {
	s := newFakeStore()
	var events []failover.Event
	for i := range replayRows + 100 {
		events = append(events, detected("far", strconv.Itoa(i)))
	}
	s.commit(append(events, detected("near", "f"))...)
	head := s.head()
	here := func() bool { return false }
	far := &replayRequest{agent: "far", upto: head, left: here, done: make(chan struct{})}
	after := store.Position{Epoch: head.Epoch, Seq: head.Seq - 1}
	near := &replayRequest{agent: "near", after: after, upto: head, left: here, done: make(chan struct{})}
	newReplayer(s).answer(t.Context(), []*replayRequest{far, near})
	<-far.done
	require.Len(t, far.rows, replayRows)
	require.Equal(t, store.Position{Epoch: head.Epoch, Seq: replayRows}, far.upto)
	<-near.done
	require.Empty(t, near.rows)
	require.Equal(t, after, near.upto)
}
