package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// pages reads a list to its end, page by page, and calls between after each.
func pages[T any](t *testing.T, limit int, list func(ctx context.Context, p store.Page) ([]T, string, error), between func()) []T {
	t.Helper()
	var out []T
	p := store.Page{Limit: limit}
	for {
		items, next, err := list(t.Context(), p)
		require.NoError(t, err)
		require.LessOrEqual(t, len(items), limit)
		out = append(out, items...)
		if next == "" {
			return out
		}
		require.Len(t, items, limit, "a page before the last is full")
		p.Cursor = next
		between()
	}
}

// Whatever is added while a list is read page by page, what was there before is in it exactly once.
func TestPagingIsStableWhileRowsAreAdded(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	const n = 37
	n2 := n
	add := func(count int, at time.Time) {
		e := shifted(n2+count, failover.Pending)
		e = failover.Effects{Agents: e.Agents[n2:], Failovers: e.Failovers[n2:]}
		for i, a := range e.Agents {
			if i%2 == 0 { // before, between and behind those that are there
				a.ID = fmt.Sprintf("agent-%05d-%d", i, n2)
			}
			a.Failover.DetectedAt = at.Add(time.Duration(i%3-1) * time.Millisecond)
			e.Changes = append(e.Changes, failover.Change{TDG: "tdg", ObservedAt: at})
			require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "operator"}))
			require.NoError(t, s.SyncConnections(t.Context(), "replica", []store.Connection{{ID: fmt.Sprintf("connection-%d-%d", i, n2), Since: at}}, nil))
		}
		commit(t, s, epoch, e)
		n2 += count
	}
	e := shifted(n, failover.Pending)
	for i := range n {
		e.Changes = append(e.Changes, failover.Change{TDG: "tdg", ObservedAt: start})
		e.Failovers[i].DetectedAt = start.Add(time.Duration(i/5) * time.Millisecond) // several at the same time
		require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "operator"}))
	}
	commit(t, s, epoch, e)
	var opened []store.Connection
	for i := range n {
		opened = append(opened, store.Connection{ID: fmt.Sprintf("connection-%d", i), AgentID: "agent-00001", Since: start})
	}
	require.NoError(t, s.SyncConnections(t.Context(), "replica", opened, nil))
	grow := func() { add(3, start.Add(3*time.Millisecond)) }

	for name, ids := range map[string]func() (before, got []string){
		"agents": func() (before, got []string) {
			list := func(ctx context.Context, p store.Page) ([]store.AgentRow, string, error) {
				return s.Agents(ctx, store.AgentFilter{Group: "main"}, p)
			}
			id := func(a store.AgentRow) string { return a.AgentID }
			return idsOf(pages(t, 1000, list, nil), id), idsOf(pages(t, 7, list, grow), id)
		},
		"agents by name": func() (before, got []string) {
			list := func(ctx context.Context, p store.Page) ([]store.AgentRow, string, error) {
				return s.Agents(ctx, store.AgentFilter{Group: "main", ByName: true}, p)
			}
			id := func(a store.AgentRow) string { return a.AgentID }
			return idsOf(pages(t, 1000, list, nil), id), idsOf(pages(t, 7, list, grow), id)
		},
		"failovers": func() (before, got []string) {
			list := func(ctx context.Context, p store.Page) ([]*failover.Failover, string, error) {
				return s.Failovers(ctx, store.FailoverFilter{}, p)
			}
			id := func(f *failover.Failover) string { return f.ID }
			return idsOf(pages(t, 1000, list, nil), id), idsOf(pages(t, 7, list, grow), id)
		},
		"changes": func() (before, got []string) {
			list := func(ctx context.Context, p store.Page) ([]store.Change, string, error) {
				return s.Changes(ctx, "tdg", p)
			}
			id := func(c store.Change) string { return fmt.Sprint(c.ID) }
			return idsOf(pages(t, 1000, list, nil), id), idsOf(pages(t, 7, list, grow), id)
		},
		"audit": func() (before, got []string) {
			list := func(ctx context.Context, p store.Page) ([]store.AuditEntry, string, error) {
				return s.Audit(ctx, store.AuditFilter{}, p)
			}
			id := func(e store.AuditEntry) string { return fmt.Sprint(e.ID) }
			return idsOf(pages(t, 1000, list, nil), id), idsOf(pages(t, 7, list, grow), id)
		},
		"connections": func() (before, got []string) {
			list := func(ctx context.Context, p store.Page) ([]store.Connection, string, error) {
				return s.Connections(ctx, "", p)
			}
			id := func(c store.Connection) string { return c.ID }
			return idsOf(pages(t, 1000, list, nil), id), idsOf(pages(t, 7, list, grow), id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, got := ids()
			require.GreaterOrEqual(t, len(before), n)
			seen := map[string]int{}
			for _, id := range got {
				seen[id]++
				require.Equal(t, 1, seen[id], "%s twice", id)
			}
			for _, id := range before {
				require.Equal(t, 1, seen[id], "%s is missing", id)
			}
		})
	}
}

func idsOf[T any](items []T, id func(T) string) []string {
	var out []string
	for _, item := range items {
		out = append(out, id(item))
	}
	return out
}

func TestListsCanBeFiltered(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	e := shifted(6, failover.Pending)
	done := shifted(2, failover.Completed)
	for i := range 2 {
		e.Agents[i], e.Failovers[i] = done.Agents[i], done.Failovers[i]
	}
	e.Agents[5].Group, e.Failovers[5].Group = "other", "other"
	e.Agents[4].TDG, e.Failovers[4].TDG = "tdg2", "tdg2"
	e.Agents[3].Failover, e.Agents[3].ActiveRegion = nil, ""
	e.Failovers[3].Status, e.Failovers[3].From, e.Failovers[3].To = failover.Cancelled, "us-west-2", "us-east-1"
	commit(t, s, epoch, failover.Effects{Agents: e.Agents, Failovers: e.Failovers})

	agents := func(f store.AgentFilter) string {
		rows, next, err := s.Agents(t.Context(), f, store.Page{})
		require.NoError(t, err)
		require.Empty(t, next)
		return strings.Join(idsOf(rows, func(a store.AgentRow) string { return a.AgentID[len(a.AgentID)-1:] }), "")
	}
	require.Equal(t, "012345", agents(store.AgentFilter{}))
	require.Equal(t, "01234", agents(store.AgentFilter{Group: "main"}))
	require.Equal(t, "4", agents(store.AgentFilter{TDG: "tdg2"}))
	require.Equal(t, "01", agents(store.AgentFilter{ActiveRegion: "us-west-2"}))
	require.Equal(t, "245", agents(store.AgentFilter{State: failover.AgentPending}))
	require.Equal(t, "3", agents(store.AgentFilter{State: failover.AgentUnknown}))
	require.Equal(t, "24", agents(store.AgentFilter{State: failover.AgentPending, Group: "main"}))
	require.Empty(t, agents(store.AgentFilter{Group: "'; DROP TABLE agents; --"}))
	for _, f := range []store.AgentFilter{
		{}, {Group: "main"}, {TDG: "tdg2"}, {ActiveRegion: "us-west-2"}, {State: failover.AgentPending}, {State: failover.AgentUnknown},
		{State: failover.AgentPending, Group: "main"}, {Groups: []string{"other"}}, {Search: "AGENT-0000"}, {Search: "agent-00003"},
	} { // whose names are in the order of their ids
		byName := f
		byName.ByName = true
		require.Equal(t, agents(f), agents(byName), "%+v", f)
	}

	failovers := func(f store.FailoverFilter) string {
		rows, _, err := s.Failovers(t.Context(), f, store.Page{})
		require.NoError(t, err)
		return strings.Join(idsOf(rows, func(f *failover.Failover) string { return f.ID[len(f.ID)-1:] }), "")
	}
	require.Equal(t, "543210", failovers(store.FailoverFilter{}), "the latest first")
	require.Equal(t, "43210", failovers(store.FailoverFilter{Group: "main"}))
	require.Equal(t, "4", failovers(store.FailoverFilter{TDG: "tdg2"}))
	require.Equal(t, "2", failovers(store.FailoverFilter{AgentID: "agent-00002"}))
	require.Equal(t, "10", failovers(store.FailoverFilter{Status: failover.Completed}))
	require.Equal(t, "54210", failovers(store.FailoverFilter{FromRegion: "us-east-1"}))
	require.Equal(t, "3", failovers(store.FailoverFilter{ToRegion: "us-east-1"}))
	require.Equal(t, "54", failovers(store.FailoverFilter{Since: start.Add(4 * time.Millisecond)}))

	got, err := s.Failover(t.Context(), "failover-00002")
	require.NoError(t, err)
	require.Equal(t, stored(e.Failovers[2]), got)
	for _, id := range []string{"", "nobody", "a\x00b"} {
		_, err = s.Failover(t.Context(), id)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = s.Agent(t.Context(), id)
		require.ErrorIs(t, err, store.ErrNotFound, "%q", id)
		_, err = s.AgentByUsername(t.Context(), "", id)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = s.TDG(t.Context(), id)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	byName, err := s.AgentByUsername(t.Context(), "main", "user00002")
	require.NoError(t, err)
	require.NoError(t, s.SyncConnections(t.Context(), "replica", []store.Connection{{ID: "c", AgentID: byName.AgentID, Since: start}}, nil))
	byID, err := s.Agent(t.Context(), byName.AgentID)
	require.NoError(t, err)
	require.Equal(t, store.AgentRow{
		AgentID: "agent-00002", Username: "user00002", Group: "main", TDG: "tdg", ActiveRegion: "us-east-1",
		RegionSource: failover.SourceDistribution, ObservedAt: start, State: failover.AgentPending, NextActiveRegion: "us-west-2",
		FailoverID: "failover-00002", OpenContacts: 1, Connections: 1,
	}, byID)
	_, err = s.AgentByUsername(t.Context(), "other", "user00002")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestTDGsAndGroups(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	var e failover.Effects
	for i := range 5 {
		e.TDGs = append(e.TDGs, &failover.TDG{ID: fmt.Sprintf("tdg-%d", i), Group: []string{"main", "other"}[i%2], Name: "name", IsDefault: i == 0})
	}
	e.Groups = []*failover.Group{{GroupConfig: failover.GroupConfig{Name: "main", Routing: failover.Regional}}, {GroupConfig: failover.GroupConfig{Name: "other"}}}
	commit(t, s, epoch, e)
	all := pages(t, 2, func(ctx context.Context, p store.Page) ([]*failover.TDG, string, error) { return s.TDGs(ctx, nil, p) }, func() {})
	require.Equal(t, e.TDGs, all)
	some, _, err := s.TDGs(t.Context(), []string{"other"}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, []*failover.TDG{e.TDGs[1], e.TDGs[3]}, some)
	one, err := s.TDG(t.Context(), "tdg-3")
	require.NoError(t, err)
	require.Equal(t, e.TDGs[3], one)
	groups, err := s.Groups(t.Context())
	require.NoError(t, err)
	require.Equal(t, e.Groups, groups)
}

func TestSummary(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	epoch := lead(t, s).Epoch
	east, west := failover.Distribution{{Region: "us-east-1", Percent: 100}}, failover.Distribution{{Region: "us-west-2", Percent: 100}}
	e := shifted(5, failover.Pending)
	e.Agents[0], e.Failovers[0] = shifted(1, failover.Completed).Agents[0], shifted(1, failover.Completed).Failovers[0]
	e.Failovers[1].PendingAt = start.Add(-time.Minute)
	e.Failovers[2].StaleSince = start
	e.Failovers[3].Status, e.Agents[3].Failover = failover.Cancelled, nil
	e.Failovers[4].DetectedAt = start.Add(-time.Hour) // of the shift before
	e.TDGs = []*failover.TDG{{ID: "tdg", Group: "main"}, {ID: "quiet", Group: "main"}}
	e.Groups = []*failover.Group{{GroupConfig: failover.GroupConfig{Name: "empty"}}, {GroupConfig: failover.GroupConfig{Name: "main"}}}
	e.Changes = []failover.Change{
		{TDG: "tdg", Group: "main", ObservedAt: start.Add(-time.Hour), Before: failover.Distributions{Agents: west}, After: failover.Distributions{Agents: east}},
		{TDG: "tdg", Group: "main", ObservedAt: start, Before: failover.Distributions{Agents: east}, After: failover.Distributions{Agents: west}},
		{TDG: "tdg", Group: "main", ObservedAt: start.Add(time.Hour), Before: failover.Distributions{Agents: west, Telephony: east}, After: failover.Distributions{Agents: west, Telephony: west}},
	}
	commit(t, s, epoch, e)
	summary, err := s.Summary(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.GroupSummary{
		{Group: "empty"},
		{
			Group: "main",
			Agents: []store.AgentCount{
				{State: failover.AgentActive, Region: "us-east-1", Agents: 1},
				{State: failover.AgentActive, Region: "us-west-2", Agents: 1},
				{State: failover.AgentPending, Region: "us-east-1", Agents: 3},
			},
			Stale: 1, OldestPending: start.Add(-time.Minute),
			Shifts: []store.Shift{{ID: 2, TDG: "tdg", Group: "main", Agents: west, Since: start, Failovers: 4, Pending: 2, Completed: 1, Cancelled: 1}},
		},
	}, summary)
}

func TestCursorsOfOtherLists(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	commit(t, s, lead(t, s).Epoch, shifted(3, failover.Pending))
	_, next, err := s.Agents(t.Context(), store.AgentFilter{}, store.Page{Limit: 1})
	require.NoError(t, err)
	_, _, err = s.Agents(t.Context(), store.AgentFilter{ByName: true}, store.Page{Cursor: next})
	require.ErrorIs(t, err, store.ErrBadCursor, "a cursor is of one order")
	for _, cursor := range []string{next, "x", "WyJmYWlsb3ZlcnMiLCJ4IiwieSJd", "!", "bnVsbA"} {
		_, _, err := s.Failovers(t.Context(), store.FailoverFilter{}, store.Page{Cursor: cursor})
		require.ErrorIs(t, err, store.ErrBadCursor, cursor)
		_, _, err = s.Audit(t.Context(), store.AuditFilter{}, store.Page{Cursor: cursor})
		require.ErrorIs(t, err, store.ErrBadCursor, cursor)
	}
}

func TestConnectionsOfReplicas(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	ctx := t.Context()
	one := store.Connection{ID: "one", Replica: "a", AgentID: "agent-1", Since: start.Add(time.Minute), LastEventID: "log-1-2", RemoteAddr: "10.0.0.1"}
	two := store.Connection{ID: "two", Replica: "a", Since: start}
	three := store.Connection{ID: "three", Replica: "b", AgentID: "agent-1", Since: start}
	require.NoError(t, s.SyncConnections(ctx, "a", []store.Connection{one, two}, nil))
	require.NoError(t, s.SyncConnections(ctx, "a", []store.Connection{one}, []string{"never"})) // told again after an error
	require.NoError(t, s.SyncConnections(ctx, "b", []store.Connection{three}, nil))
	list := func(agent string) []store.Connection {
		got, _, err := s.Connections(ctx, agent, store.Page{})
		require.NoError(t, err)
		for i := range got { // as old as they were said to be, on the database's clock
			got[i].Since = got[i].Since.Add(30 * time.Second).Truncate(time.Minute)
		}
		return got
	}
	require.Equal(t, []store.Connection{one, three, two}, list(""))
	require.Equal(t, []store.Connection{one, three}, list("agent-1"))
	streaming, err := s.StreamingAgents(ctx)
	require.NoError(t, err)
	require.Len(t, streaming, 1)
	require.WithinDuration(t, start, streaming["agent-1"], 30*time.Second, "since when the oldest is open")

	// A replica that is silent counts for nothing, and counts again when it is back.
	exec(t, conn, "UPDATE replicas SET heartbeat_at = now() - interval '61 s' WHERE replica = 'a'")
	require.Equal(t, []store.Connection{three}, list(""))
	require.NoError(t, s.SyncConnections(ctx, "a", nil, []string{"two"}))
	require.Equal(t, []store.Connection{one, three}, list(""))

	// A program that starts again under the same name has none of the connections of its former life.
	again := open(t, conn.Config().ConnString())
	require.NoError(t, again.SyncConnections(ctx, "a", nil, nil))
	require.Equal(t, []store.Connection{three}, list(""))

	exec(t, conn, "UPDATE replicas SET heartbeat_at = now() - interval '25 h' WHERE replica = 'b'")
	require.NoError(t, s.Prune(ctx))
	require.Equal(t, 0, query[int](t, conn, "SELECT count(*) FROM connections"))
}

// People look for names as they say them: capitals make no difference, and two of one name are told apart by their ids.
func TestAgentsByName(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	names := []string{"bob", "Alice", "alice", "", "Émile", "zoe", "Bob"}
	e := shifted(len(names), failover.Pending)
	for i, name := range names {
		e.Agents[i].Username = name
	}
	commit(t, s, lead(t, s).Epoch, failover.Effects{Agents: e.Agents, Failovers: e.Failovers})
	rows := pages(t, 2, func(ctx context.Context, p store.Page) ([]store.AgentRow, string, error) {
		return s.Agents(ctx, store.AgentFilter{ByName: true}, p)
	}, func() {})
	got := idsOf(rows, func(a store.AgentRow) string { return a.Username })
	require.ElementsMatch(t, names, got)
	require.Equal(t, []string{"", "Alice", "alice", "bob", "Bob"}, got[:5])
}
