package stream

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

func itemNames(items []Item) []string {
	names := []string{}
	for _, i := range items {
		names = append(names, i.Event)
	}
	return names
}

// The same log, read from memory and from the database: history must not tell which.
func eachHistory(t *testing.T, test func(t *testing.T, s *fakeStore, h *harness)) {
	for name, late := range map[string]bool{"from memory": false, "from the database": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore()
				var h *harness
				if !late {
					h = newHarness(t, s)
				}
				s.commit(
					detected("agent-1", "f1"), detected("agent-2", "f2"), pending("agent-1", "f1", "c1"),
					pending("agent-1", "f1", "c2"), completed("agent-2", "f2"), completed("agent-1", "f1"),
				)
				if late {
					h = newHarness(t, s)
				}
				synctest.Wait()
				test(t, s, h)
				if !late {
					require.Zero(t, s.called("AgentEventsAfter"))
				}
			})
		})
	}
}

func TestHistoryIsWhatTheStreamTells(t *testing.T) {
	eachHistory(t, func(t *testing.T, s *fakeStore, h *harness) {
		c := h.connect("/agents/agent-1", "Last-Event-ID", nowhereNear(s))
		time.Sleep(replayTime)
		items, next, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", Limit: 100})
		require.NoError(t, err)
		var told []Item
		for _, m := range c.events() {
			told = append(told, Item{ID: m.id, Event: m.event, Data: []byte(m.data)})
		}
		require.Equal(t, told, items)
		require.Len(t, items, 4)

		items, again, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: next, Limit: 100})
		require.NoError(t, err)
		require.NotNil(t, items)
		require.Empty(t, items)
		require.Equal(t, next, again)
	})
}

func TestHistoryInPages(t *testing.T) {
	eachHistory(t, func(t *testing.T, s *fakeStore, h *harness) {
		for name, q := range map[string]struct {
			HistoryQuery
			want []string
		}{
			"one agent":           {HistoryQuery{AgentID: "agent-1"}, []string{"failoverDetected", "failoverPending", "failoverPending", "failoverCompleted"}},
			"one agent, one type": {HistoryQuery{AgentID: "agent-1", Types: []string{"failoverPending"}}, []string{"failoverPending", "failoverPending"}},
			"all": {HistoryQuery{All: true}, []string{
				"failoverDetected", "failoverDetected", "failoverPending", "failoverPending", "failoverCompleted", "failoverCompleted",
			}},
			"all, two types": {HistoryQuery{All: true, Types: []string{"failoverDetected", "failoverCompleted"}}, []string{
				"failoverDetected", "failoverDetected", "failoverCompleted", "failoverCompleted",
			}},
			"nothing of the type": {HistoryQuery{All: true, Types: []string{"failoverStalled"}}, []string{}},
			"nobody":              {HistoryQuery{AgentID: "nobody"}, []string{}},
		} {
			for _, limit := range []int{1, 2, 3, 100} {
				got := []string{}
				q.Limit, q.After = limit, ""
				for range 20 {
					items, next, err := h.hub.History(t.Context(), q.HistoryQuery)
					require.NoError(t, err)
					require.LessOrEqual(t, len(items), limit)
					got = append(got, itemNames(items)...)
					q.After = next
					if len(items) == 0 {
						break
					}
				}
				require.Equal(t, q.want, got, "%s, %d at a time", name, limit)
			}
		}
	})
}

func TestHistoryRestarts(t *testing.T) {
	eachHistory(t, func(t *testing.T, s *fakeStore, h *harness) {
		for cursor, reason := range map[string]string{
			"nonsense":           resetMalformed,
			"0123456789ab-1-1":   resetOtherLog,
			s.logID + "-1-2":     resetUnknown,
			s.logID + "-1-99999": resetUnknown,
		} {
			items, next, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: cursor, Limit: 1, Wait: 5 * time.Second})
			require.NoError(t, err)
			require.Equal(t, []string{"reset", "snapshot"}, itemNames(items), cursor)
			require.Contains(t, string(items[0].Data), `"reason":"`+reason+`"`)
			require.Contains(t, string(items[1].Data), `"state":"active"`)
			require.Equal(t, items[1].ID, next)
			items, _, err = h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: next, Limit: 10})
			require.NoError(t, err)
			require.Empty(t, items)

			items, _, err = h.hub.History(t.Context(), HistoryQuery{All: true, After: cursor, Limit: 10, Wait: 5 * time.Second})
			require.NoError(t, err)
			require.Equal(t, []string{"reset"}, itemNames(items))
		}
	})
}

func TestHistoryAfterPruning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		rows := s.commit(detected("agent-1", "f1"), pending("agent-1", "f1"), completed("agent-1", "f1"))
		h := newHarness(t, s)
		s.prune(3) // and this replica does not know yet
		items, _, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []string{"failoverCompleted"}, itemNames(items), "from the oldest that is kept")
		h = newHarness(t, s)
		s.prune(4)
		items, _, err = h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: Cursor{s.logID, rows[1].Epoch, 2}.String(), Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []string{"reset", "snapshot"}, itemNames(items))
	})
}

func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		s.commit(detected("agent-1", "f1"))
		synctest.Wait()
		_, next, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", Limit: 10})
		require.NoError(t, err)

		began := time.Now()
		items, silent, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: next, Limit: 10, Wait: time.Hour})
		require.NoError(t, err)
		require.Empty(t, items)
		require.Equal(t, MaxWait, time.Since(began))

		began = time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			s.commit(detected("agent-2", "f2")) // wakes nobody of agent-1
			time.Sleep(3 * time.Second)
			s.commit(pending("agent-1", "f1", "c1"), pending("agent-1", "f1", "c2"))
			time.Sleep(3 * time.Second)
			s.commit(completed("agent-1", "f1"))
		}()
		items, next, err = h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: silent, Limit: 10, Wait: MaxWait})
		require.NoError(t, err)
		require.Equal(t, []string{"failoverPending", "failoverPending"}, itemNames(items))
		require.Equal(t, 6*time.Second, time.Since(began))

		items, _, err = h.hub.History(t.Context(), HistoryQuery{
			AgentID: "agent-1", After: silent, Types: []string{"failoverCompleted"}, Limit: 10, Wait: MaxWait,
		})
		require.NoError(t, err)
		require.Equal(t, []string{"failoverCompleted"}, itemNames(items))
		require.Equal(t, 9*time.Second, time.Since(began))

		calls := s.called("AgentEventsAfter")
		late := newHarness(t, s) // must look into the database, once
		began = time.Now()
		go func() {
			for range 5 {
				time.Sleep(time.Second)
				s.commit(detected("agent-2", "f"))
			}
			s.commit(event("agent-1", failover.EventFailoverStalled, failover.Event{FailoverID: "f1"}))
		}()
		items, _, err = late.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", Types: []string{"failoverStalled"}, Limit: 10, Wait: MaxWait})
		require.NoError(t, err)
		require.Equal(t, []string{"failoverStalled"}, itemNames(items))
		require.Equal(t, 5*time.Second, time.Since(began))
		require.Equal(t, calls+1, s.called("AgentEventsAfter"))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = h.hub.History(ctx, HistoryQuery{AgentID: "nobody", After: next, Limit: 10, Wait: MaxWait})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestHistoryOfACursorAheadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		behind := &replicaStore{fakeStore: s}
		h := newHarness(t, behind)
		behind.cut.Store(true)
		rows := s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"))
		cursor := Cursor{s.logID, rows[0].Epoch, 1}.String()
		items, next, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: cursor, Limit: 10, Wait: 5 * time.Second})
		require.NoError(t, err)
		require.Empty(t, items)
		require.Equal(t, cursor, next, "the client asks again with what it has")
		go func() { time.Sleep(3 * time.Second); behind.cut.Store(false) }()
		items, _, err = h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: next, Limit: 10, Wait: MaxWait})
		require.NoError(t, err)
		require.Equal(t, []string{"failoverCompleted"}, itemNames(items))
	})
}

func TestHistoryWithoutDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		old := s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"))
		s.setDown(true)
		h := newHarness(t, s)
		_, _, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", Limit: 10})
		require.ErrorIs(t, err, ErrNotReady)
		s.setDown(false)
		time.Sleep(2 * time.Second)
		recent := s.commit(detected("agent-1", "f2"), event("agent-1", failover.EventFailoverCancelled, failover.Event{FailoverID: "f2", ActiveRegion: west}))
		synctest.Wait()
		s.setDown(true)
		items, _, err := h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: Cursor{s.logID, recent[0].Epoch, recent[0].Seq}.String(), Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []string{"failoverCancelled"}, itemNames(items), "what memory holds is told")
		_, _, err = h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", After: Cursor{s.logID, old[0].Epoch, 1}.String(), Limit: 10})
		require.ErrorIs(t, err, errDown)
	})
}

// Attack: a token without the claim that names its agent must not open everybody's events.
func TestAnEmptyAgentIsNotEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		s.commit(detected("agent-1", "f1"))
		_, _, err := h.hub.History(t.Context(), HistoryQuery{Limit: 10})
		require.Error(t, err)
		_, _, err = h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", All: true, Limit: 10})
		require.Error(t, err)
		rec := recorder()
		h.hub.ServeAgent(rec, request("/"), "")
		require.Equal(t, 404, rec.Code)
		require.NotContains(t, rec.Body.String(), "f1")
	})
}

func TestHistoryOfManyEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		h := newHarness(t, s)
		var events []failover.Event
		for i := range 3 * feedBatch {
			events = append(events, detected("agent-"+strconv.Itoa(i%3), strconv.Itoa(i)))
		}
		s.commit(events...)
		synctest.Wait()
		items, _, err := h.hub.History(t.Context(), HistoryQuery{All: true, Limit: 1000})
		require.NoError(t, err)
		require.Len(t, items, 3*feedBatch)
		items, _, err = h.hub.History(t.Context(), HistoryQuery{AgentID: "agent-1", Limit: 1000})
		require.NoError(t, err)
		require.Len(t, items, feedBatch)
	})
}
