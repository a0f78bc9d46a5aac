package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/store"
)

// While the database is away: what memory holds is answered, everything else is 503 with Retry-After, and nothing pretends.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	s.caughtUp()
	require.NoError(t, s.leader.store.SaveHealth(t.Context(), s.leader.lease.Epoch, []store.RegionHealth{{Group: "main", Region: east, State: "degraded", Since: time.Now()}}))
	require.Equal(t, http.StatusOK, s.get("/readyz").status)
	failover := s.leader.openFailover(jane)
	open, _ := s.open("/v1/agents/" + joe + "/events")
	open()
	s.db.cut()

	fromMemory := []string{"getAgent", "getAgentEvents", "getEvents", "listFailoverGroups", "getFailoverGroup", "getSession", "livez", "readyz", "openapi", "metrics"}
	tokenless := []string{"createSession", "deleteSession", "createStreamTicket"}
	for _, d := range operations(t, failover) {
		a := d.request(s)
		switch {
		case contains(fromMemory, d.id):
			require.NotEqual(t, http.StatusServiceUnavailable, a.status, "%s: %s", d.id, a.body)
		case contains(tokenless, d.id):
			require.Equal(t, http.StatusNotImplemented, a.status, d.id)
		default:
			p := read[contract.Problem](t, a, http.StatusServiceUnavailable)
			require.Equal(t, "urn:changeover:problem:unavailable", p.Type, d.id)
			require.NotEmpty(t, a.header.Get("Retry-After"), d.id)
			require.NotContains(t, a.body, "pgproxy", "%s: where the database is, is nobody's business", d.id)
		}
	}
	a := read[contract.Agent](t, s.get("/v1/agents/"+jane), http.StatusOK)
	require.True(t, *a.Partial)
	require.Equal(t, contract.AgentStatePending, a.State)
	require.Equal(t, east, *a.ActiveRegion)
	require.Equal(t, "https://a.my.connect.aws/ccp-v2/", *a.ActiveCcpURL)
	require.Equal(t, failover, *a.FailoverID)
	require.Nil(t, a.OpenContacts, "not known, not 0")
	require.Equal(t, http.StatusServiceUnavailable, s.get("/v1/agents/nobody").status, "memory cannot tell that it does not exist")

	next, _ := s.open("/v1/agents/" + jane + "/events")
	require.Equal(t, "pending", next().data["state"], "new streams start from memory")

	ready := read[contract.Readiness](t, s.get("/readyz"), http.StatusOK)
	require.Equal(t, contract.ReadinessStatusReady, ready.Status)

	s.db.mend()
	require.Equal(t, http.StatusOK, s.get("/v1/agents").status)
	require.Nil(t, read[contract.Agent](t, s.get("/v1/agents/"+jane), http.StatusOK).Partial)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// A database that accepts connections and says nothing must not take the answer from memory with it, nor hold requests for long.
func TestDatabaseSilent(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.caughtUp()
	s.db.hang()
	started := time.Now()
	a := read[contract.Agent](t, s.get("/v1/agents/"+jane), http.StatusOK)
	require.True(t, *a.Partial)
	require.Less(t, time.Since(started), 4*time.Second)
	started = time.Now()
	read[contract.Readiness](t, s.get("/readyz"), http.StatusOK)
	require.Less(t, time.Since(started), time.Second+500*time.Millisecond)
	s.db.cut()
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	s := newService(t)
	at := time.Now().UTC().Truncate(time.Millisecond)
	require.NoError(t, s.leader.store.SaveHealth(t.Context(), s.leader.lease.Epoch, []store.RegionHealth{
		{Group: "main", Region: east, State: "down", Since: at, LastError: "timed out", LastErrorAt: at},
	}))
	ready := read[contract.Readiness](t, s.get("/readyz"), http.StatusOK)
	require.Equal(t, contract.ReadinessStatusReady, ready.Status)
	byName := func(r contract.Readiness) map[string]contract.Check {
		checks := make(map[string]contract.Check)
		for _, c := range r.Checks {
			checks[c.Name] = c
		}
		return checks
	}
	checks := byName(ready)
	require.Len(t, checks, 6)
	require.Equal(t, contract.HealthStateHealthy, checks["database"].State)
	require.NotNil(t, checks["database"].Since)
	require.Equal(t, contract.HealthStateHealthy, checks["eventLog"].State)
	require.Equal(t, contract.HealthStateDown, checks["connect/main/us-east-1"].State)
	require.Equal(t, at, *checks["connect/main/us-east-1"].Since)
	require.Equal(t, "timed out", *checks["connect/main/us-east-1"].LastError)
	require.Equal(t, contract.HealthStateUnknown, checks["connect/main/us-west-2"].State)

	s.db.cut()
	require.Eventually(t, func() bool {
		checks = byName(read[contract.Readiness](t, s.get("/readyz"), http.StatusOK))
		return checks["database"].State == contract.HealthStateDown
	}, 5*time.Second, 50*time.Millisecond, "a look is remembered for a second")
	require.NotNil(t, checks["database"].LastError)
	require.Equal(t, contract.HealthStateDown, checks["connect/main/us-east-1"].State, "the last known")

	s.db.mend()
	require.Eventually(t, func() bool {
		checks = byName(read[contract.Readiness](t, s.get("/readyz"), http.StatusOK))
		return checks["database"].State == contract.HealthStateHealthy
	}, 5*time.Second, 50*time.Millisecond)

	s.server.Drain()
	draining := read[contract.Readiness](t, s.get("/readyz"), http.StatusServiceUnavailable)
	require.Equal(t, contract.ReadinessStatusDraining, draining.Status)
	require.Equal(t, http.StatusOK, s.get("/livez").status)
	require.Equal(t, http.StatusOK, s.get("/v1/agents").status, "what is under way goes on")
}

// A replica that starts while the database is away has nothing to tell yet, says so, and gets there by itself.
func TestBeforeTheFirstLoad(t *testing.T) {
	t.Parallel()
	s := startService(t, (*dbProxy).cut)
	s.leader.floor()
	loading := read[contract.Readiness](t, s.get("/readyz"), http.StatusServiceUnavailable)
	require.Equal(t, contract.ReadinessStatusLoading, loading.Status)
	for _, path := range []string{"/v1/events", "/v1/agents/" + jane + "/events", "/v1/agents/" + jane + "/events?wait=1", "/v1/agents/" + jane} {
		require.Equal(t, "urn:changeover:problem:unavailable", read[contract.Problem](t, s.get(path), http.StatusServiceUnavailable).Type, path)
	}
	groups := read[contract.FailoverGroupList](t, s.get("/v1/failover-groups"), http.StatusOK).Items
	require.Len(t, groups, 2, "what is configured is known")
	require.Equal(t, contract.HealthStateUnknown, groups[0].Health[0].State)

	s.db.mend()
	require.Eventually(t, func() bool { return s.get("/readyz").status == http.StatusOK }, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, http.StatusOK, s.get("/v1/agents/"+jane).status)
}
