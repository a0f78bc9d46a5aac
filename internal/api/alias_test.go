package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

// R2: in us-west-2 jane has another user id. Her desktop there knows no other one, and her token names it or the first.
func TestAliases(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	const other = "99999999-1111-2222-3333-000000000001"
	s.leader.step(failover.UsersListed{Group: "main", Region: west, Users: []failover.User{{ID: other, Username: "jane.doe"}}})
	s.leader.shift()
	s.leader.answer()
	s.caughtUp()
	for _, who := range []string{"agent:" + jane, "agent:" + other} {
		for _, id := range []string{jane, other} {
			a := read[contract.Agent](t, s.get("/v1/agents/"+id, "X-Test-As", who), http.StatusOK)
			require.Equal(t, jane, a.AgentID)
		}
	}
	require.Equal(t, http.StatusNotFound, s.get("/v1/agents/"+other, "X-Test-As", "agent:"+joe).status)
	require.Equal(t, http.StatusNotFound, s.get("/v1/agents/"+jane, "X-Test-As", "agent:"+joe).status)
	require.Equal(t, http.StatusNotFound, s.get("/v1/agents/nobody", "X-Test-As", "agent:nobody").status)

	who := "agent:" + other
	history := read[contract.EventList](t, s.get("/v1/agents/"+other+"/events", "X-Test-As", who, "Accept", "application/json"), http.StatusOK)
	require.NotEmpty(t, history.Items)
	list := read[contract.ContactList](t, s.get("/v1/agents/"+other+"/contacts", "X-Test-As", "viewer"), http.StatusOK)
	require.Len(t, list.Items, 1)

	// What the desktop in us-west-2 reports is jane's.
	read[map[string]any](t, s.post("/v1/agents/"+other+"/reports", map[string]any{"activeRegion": west}, "X-Test-As", who), http.StatusAccepted)
	require.Eventually(t, func() bool { return s.leader.agent(jane).Desktop.ActiveRegion == west }, 5*time.Second, time.Millisecond)
	log := s.get("/v1/agents/"+other+"/logs/"+east, "X-Test-As", who)
	require.Equal(t, http.StatusOK, log.status)
	require.Contains(t, log.body, call)

	// And she may force.
	forced := read[contract.Failover](t, s.post("/v1/failovers/"+s.leader.openFailover(jane)+"/force", map[string]any{"reason": "left"}, "X-Test-As", who), http.StatusAccepted)
	require.Equal(t, contract.FailoverStatusCompleted, forced.Status)
	require.Equal(t, jane, forced.AgentID)
}
