package resilience

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

// settle ends the calls, waits until everybody is where the floor was sent, sends it on a last time, waits until everybody is there and nothing is
// open, and verifies what is left.
func (c *cluster) settle() {
	c.t.Helper()
	c.quiet()
	c.leader().worksIn(c.to)
	c.shift()
	c.verify()
}

// verify waits until everybody is where the floor has them, and holds the log and what every desktop has heard against one another.
func (c *cluster) verify() {
	c.t.Helper()
	for _, r := range c.replicas {
		if r.process != nil {
			r.worksIn(c.to)
		}
	}
	c.until("everybody has moved", func() bool { return c.sim.State().TDGs[0].ToMove == 0 })
	for _, a := range c.sim.Agents() {
		require.Equal(c.t, c.to, a.ActiveRegion)
	}
	requireLog(c.t, c.database)
	reader := c.leader()
	for _, d := range c.desktops {
		path := "/v1/events"
		if d.agent != "" {
			path = "/v1/agents/" + d.agent + "/events"
		}
		first := d.first()
		require.NotEmpty(c.t, first, "the stream of %q has begun with a snapshot", d.agent)
		var want, heard []string
		same := func() bool { // the replica that is asked may be a second behind, and so may the desktop's
			want = lines(reader.history(path, first))
			d.mu.Lock()
			heard = lines(d.heard)
			d.mu.Unlock()
			return slices.Equal(want, heard)
		}
		for deadline := time.Now().Add(patience / 2); !same() && time.Now().Before(deadline); {
			pause(50 * time.Millisecond)
		}
		require.Equal(c.t, want, heard, "what the desktop of %q heard is not what the log has after %s", d.agent, first)
	}
}

// lines are events as a difference between many can be read.
func lines(events []contract.LoggedEvent) []string {
	all := make([]string, len(events))
	for i, e := range events {
		all[i] = e.ID + " " + e.Event + " " + string(e.Data)
	}
	return all
}

// history reads the log after a cursor to its end.
func (r *replica) history(path, after string) []contract.LoggedEvent {
	r.t.Helper()
	all := []contract.LoggedEvent{}
	for {
		page := get[contract.EventList](r, path+"?limit=1000&after="+after)
		all = append(all, page.Items...)
		if len(page.Items) == 0 {
			return all
		}
		after = page.NextCursor
	}
}

// logged is a row of the event log.
type logged struct {
	Seq, Epoch                int64
	Type, AgentID, FailoverID string
	Data                      json.RawMessage
}

func readLog(t testing.TB, url string) []logged {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), "SELECT seq, epoch, type, agent_id, failover_id, data FROM events ORDER BY seq")
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[logged])
	require.NoError(t, err)
	return all
}

// requireLog holds the log against what it promises: numbers without gaps, epochs that only rise (so that nothing of an old leader comes
// after the first event of the next), and for every agent detected, then perhaps pending, then one end (R18).
func requireLog(t testing.TB, url string) {
	t.Helper()
	var before logged
	inFailover := map[string]failover.EventType{} // by failover
	ended := map[string]bool{}
	current := map[string]string{} // of an agent
	for i, e := range readLog(t, url) {
		if i > 0 {
			require.Equal(t, before.Seq+1, e.Seq, "the log has a gap")
			require.GreaterOrEqual(t, e.Epoch, before.Epoch, "event %d is of an older leader than event %d", e.Seq, before.Seq)
		}
		before = e
		switch kind := failover.EventType(e.Type); kind {
		case failover.EventFailoverDetected:
			require.Empty(t, current[e.AgentID], "event %d: a second failover of %s", e.Seq, e.AgentID)
			require.False(t, ended[e.FailoverID])
			current[e.AgentID], inFailover[e.FailoverID] = e.FailoverID, kind
		case failover.EventFailoverPending:
			require.Equal(t, e.FailoverID, current[e.AgentID], "event %d", e.Seq)
			require.Equal(t, failover.EventFailoverDetected, inFailover[e.FailoverID], "event %d: %s", e.Seq, e.Type)
			inFailover[e.FailoverID] = kind
		case failover.EventPendingUpdated:
			require.Equal(t, e.FailoverID, current[e.AgentID], "event %d", e.Seq)
			require.Equal(t, failover.EventFailoverPending, inFailover[e.FailoverID], "event %d: %s", e.Seq, e.Type)
		case failover.EventFailoverCompleted, failover.EventFailoverCancelled:
			require.Equal(t, e.FailoverID, current[e.AgentID], "event %d: %s", e.Seq, e.Type)
			delete(current, e.AgentID)
			ended[e.FailoverID] = true
		}
	}
	require.Empty(t, current, "open for ever")
	require.Len(t, ended, query[int](t, url, "SELECT count(*) FROM failovers WHERE status IN ('completed', 'cancelled')"))
	require.Zero(t, query[int](t, url, "SELECT count(*) FROM failovers WHERE status IN ('detected', 'pending')"))
}
