package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

// rehearse makes a drill that is over at once.
func (s *service) rehearse(id string) {
	s.t.Helper()
	s.leader.step(failover.StartDrill{DrillID: id, Group: "main", AgentIDs: []string{"nobody"}, TTL: time.Minute, By: "olga", Reason: "rehearsal"})
}

func TestDrill(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.step(failover.Report{AgentID: joe, At: s.leader.now, Standby: &failover.Standby{Region: west, Ready: new(bool), Reason: "no cookie"}})
	s.leader.answer()
	const nobody = "87654321-1111-2222-3333-999999999999"
	body := map[string]any{"agentIds": []string{jane, joe, nobody}, "reason": "rehearsal", "ttlSeconds": 60}
	d := read[contract.Drill](t, s.post("/v1/failover-groups/main/drills", body, "Idempotency-Key", "one"), http.StatusAccepted)
	require.Equal(t, "local", d.By)
	require.Nil(t, d.EndedAt)
	require.Equal(t, time.Minute, d.Until.Sub(*d.StartedAt))
	require.Equal(t, contract.DrillCounts{Pending: 1, Completed: 1, Skipped: 1, NotStreaming: 2, StandbyNotReady: 1}, d.Counts)
	require.Equal(t, []string{call}, d.Agents[0].ContactIds)
	require.Equal(t, "jane.doe", *d.Agents[0].Username)
	require.Nil(t, d.Agents[2].Username, "who is not known has no name")
	require.Equal(t, contract.DrillOutcomeCompleted, d.Agents[1].Outcome)
	require.False(t, *d.Agents[1].StandbyReady)
	require.NotEmpty(t, *d.Agents[2].Detail)
	again := read[contract.Drill](t, s.post("/v1/failover-groups/main/drills", body, "Idempotency-Key", "one"), http.StatusAccepted)
	require.Equal(t, d.DrillID, again.DrillID)
	p := read[contract.Problem](t, s.post("/v1/failover-groups/main/drills", body), http.StatusUnprocessableEntity)
	require.Contains(t, p.Detail, d.DrillID)

	// Nothing real has changed, and each event says that it is a drill.
	a := read[contract.Agent](t, s.get("/v1/agents/"+jane), http.StatusOK)
	require.Equal(t, contract.AgentStateActive, a.State)
	require.Equal(t, east, *a.ActiveRegion)
	require.Empty(t, read[contract.FailoverList](t, s.get("/v1/failovers"), http.StatusOK).Items)
	s.caughtUp()
	events := read[contract.EventList](t, s.get("/v1/agents/"+jane+"/events"), http.StatusOK).Items
	last := events[len(events)-1]
	require.Equal(t, "drillPending", last.Event)
	require.Contains(t, string(last.Data), `"drill":true`)
	view, ok := s.hub.View(jane)
	require.True(t, ok)
	require.Equal(t, failover.AgentActive, view.State)

	s.leader.now = s.leader.now.Add(2 * time.Minute)
	s.leader.step(failover.Tick{})
	d = read[contract.Drill](t, s.get("/v1/drills/"+d.DrillID), http.StatusOK)
	require.NotNil(t, d.EndedAt)
	require.Equal(t, contract.DrillOutcomeCancelled, d.Agents[0].Outcome)
	s.rehearse("ffffffff-5f2a-7c3e-9b1d-0a1b2c3d4e70")
	list := read[contract.DrillList](t, s.get("/v1/drills?failoverGroup=main&limit=1"), http.StatusOK)
	require.Equal(t, "olga", list.Items[0].By)
	require.Equal(t, []contract.Drill{d}, read[contract.DrillList](t, s.get("/v1/drills?limit=1&cursor="+*list.NextCursor), http.StatusOK).Items)

	require.Equal(t, http.StatusNotFound, s.get("/v1/drills/"+nobody).status)
	require.Equal(t, http.StatusNotFound, s.post("/v1/failover-groups/none/drills", body).status)
	for name, bad := range map[string]map[string]any{
		"nobody":    {"agentIds": []string{}, "reason": "x"},
		"no reason": {"agentIds": []string{jane}},
		"too long":  {"agentIds": []string{jane}, "reason": "x", "ttlSeconds": 3601},
	} {
		require.Equal(t, http.StatusBadRequest, s.post("/v1/failover-groups/main/drills", bad).status, name)
	}
}
