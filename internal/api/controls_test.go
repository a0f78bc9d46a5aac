package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

func TestPause(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.distribute(0)
	s.leader.answer()

	g := read[contract.FailoverGroup](t, s.post("/v1/failover-groups/main/pause", reason("call storm"), "Idempotency-Key", "one"), http.StatusAccepted)
	require.Equal(t, "call storm", g.Pause.Reason)
	require.Equal(t, "local", g.Pause.By)
	require.Equal(t, 30*time.Minute, g.Pause.Until.Sub(g.Pause.Since).Round(time.Second))
	again := read[contract.FailoverGroup](t, s.post("/v1/failover-groups/main/pause", reason("call storm"), "Idempotency-Key", "one"), http.StatusAccepted)
	require.Equal(t, g.Pause, again.Pause)

	s.leader.contacts(s.leader.onCall())
	require.NotNil(t, s.leader.agent(joe).Failover, "joe has no contacts, and waits for the end of the pause")
	main := read[contract.Summary](t, s.get("/v1/summary"), http.StatusOK).Items[0]
	require.Equal(t, g.Pause, main.Pause)
	require.Equal(t, 1, main.Held)
	require.Eventually(t, func() bool {
		return read[contract.FailoverGroup](t, s.get("/v1/failover-groups/main"), http.StatusOK).Pause != nil
	}, 5*time.Second, 50*time.Millisecond)
	s.caughtUp()
	events := read[contract.EventList](t, s.get("/v1/agents/"+joe+"/events?type=failoverPaused"), http.StatusOK).Items
	require.Len(t, events, 1)
	require.Contains(t, string(events[0].Data), `"reason":"call storm"`)

	g = read[contract.FailoverGroup](t, s.request(http.MethodDelete, "/v1/failover-groups/main/pause", nil), http.StatusAccepted)
	require.Nil(t, g.Pause)
	s.leader.contacts(s.leader.onCall())
	require.Nil(t, s.leader.agent(joe).Failover)
	read[contract.FailoverGroup](t, s.request(http.MethodDelete, "/v1/failover-groups/main/pause", nil), http.StatusAccepted)

	entries := read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items
	var outcomes []string
	for _, e := range entries {
		outcomes = append(outcomes, e.Action+" "+e.Outcome)
	}
	require.Equal(t, []string{
		"resumeFailoverGroup done", "resumeFailoverGroup accepted", "resumeFailoverGroup done", "resumeFailoverGroup accepted",
		"pauseFailoverGroup done", "pauseFailoverGroup accepted",
	}, outcomes)
	require.JSONEq(t, `{"pause":null}`, string(entries[4].Before))
	require.Contains(t, string(entries[4].After), "call storm")
	require.Contains(t, string(entries[2].Before), "call storm")
}

func TestPauseInput(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for name, body := range map[string]any{
		"no reason":  map[string]any{},
		"too short":  map[string]any{"reason": "x", "ttlSeconds": 9},
		"too long":   map[string]any{"reason": "x", "ttlSeconds": 86401},
		"a fraction": map[string]any{"reason": "x", "ttlSeconds": 60.5},
		"more":       map[string]any{"reason": "x", "until": "tomorrow"},
	} {
		p := read[contract.Problem](t, s.post("/v1/failover-groups/main/pause", body), http.StatusBadRequest)
		require.NotEmpty(t, p.Errors, name)
	}
	require.Equal(t, http.StatusNotFound, s.post("/v1/failover-groups/none/pause", reason("x")).status)
	require.Equal(t, http.StatusNotFound, s.request(http.MethodDelete, "/v1/failover-groups/none/pause", nil).status)
	require.Zero(t, s.leader.answerOnce(t.Context()), "nothing was asked of the leader")
}

func TestPlan(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *api.Options) {
		o.Settings = failover.Settings{ContactsMaxAge: time.Minute, RegionDownAfter: 30 * time.Second, MaxUnknown: 15 * time.Minute}
	})
	s.leader.floor()
	hour := time.Now().Add(-time.Hour)
	s.leader.step(failover.Report{AgentID: jane, At: hour, ActiveRegion: east})
	require.NoError(t, s.store.SyncConnections(t.Context(), "a", []store.Connection{{ID: "1", Replica: "a", AgentID: jane, Since: hour}}, nil))
	plan := read[contract.Plan](t, s.post("/v1/failover-groups/main/plan", map[string]any{"toRegion": west}), http.StatusOK)
	require.Equal(t, contract.PlanCounts{AtOnce: 1, Waits: 1}, plan.Counts)
	require.Len(t, plan.Items, 2)
	require.Equal(t, jane, plan.Items[0].AgentID)
	require.Equal(t, contract.PlanOutcomeWaits, plan.Items[0].Outcome)
	require.Len(t, plan.Items[0].Contacts, 1, "a task holds nobody")
	require.Equal(t, call, plan.Items[0].Contacts[0].ContactID)
	require.Equal(t, contract.PlanOutcomeAtOnce, plan.Items[1].Outcome)
	require.Equal(t, "joe.bloggs", *plan.Items[1].Username)
	require.True(t, plan.Items[0].Streaming, "the registry knows, whatever is stored with the agent")
	require.True(t, plan.Items[0].Reports, "an hour ago, and its stream is open still")
	require.False(t, plan.Items[1].Streaming)
	require.False(t, plan.Items[1].Reports)

	// The pages of a plan rest on one look; a filter leaves the counts.
	s.leader.contacts()
	first := read[contract.Plan](t, s.post("/v1/failover-groups/main/plan?limit=1", map[string]any{"toRegion": west}), http.StatusOK)
	require.Equal(t, plan.At, first.At)
	require.Equal(t, plan.Items[:1], first.Items)
	second := read[contract.Plan](t, s.post("/v1/failover-groups/main/plan?limit=1&cursor="+*first.NextCursor, map[string]any{"toRegion": west}), http.StatusOK)
	require.Equal(t, plan.Items[1:], second.Items)
	require.Nil(t, second.NextCursor)
	filtered := read[contract.Plan](t, s.post("/v1/failover-groups/main/plan?outcome=atOnce", map[string]any{"toRegion": west}), http.StatusOK)
	require.Equal(t, plan.Items[1:], filtered.Items)
	require.Equal(t, plan.Counts, filtered.Counts)
	none := read[contract.Plan](t, s.post("/v1/failover-groups/main/plan", map[string]any{"toRegion": west, "tdgId": "other"}), http.StatusOK)
	require.Equal(t, contract.PlanCounts{}, none.Counts)
	there := read[contract.Plan](t, s.post("/v1/failover-groups/main/plan", map[string]any{"toRegion": east}), http.StatusOK)
	require.Equal(t, contract.PlanCounts{There: 2}, there.Counts)

	require.Equal(t, http.StatusNotFound, s.post("/v1/failover-groups/none/plan", map[string]any{"toRegion": west}).status)
	p := read[contract.Problem](t, s.post("/v1/failover-groups/main/plan", map[string]any{"toRegion": "eu-west-2"}), http.StatusBadRequest)
	require.Equal(t, "toRegion", p.Errors[0].Field)
	require.Equal(t, http.StatusBadRequest, s.post("/v1/failover-groups/main/plan?cursor=x", map[string]any{"toRegion": west}).status)
	require.Empty(t, read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items, "it changes nothing")
}

// The rule for bulk force holds for operators whatever they say; an admin can override it.
func TestBulkForceRule(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	s.leader.distribute(0)
	s.leader.answer()
	body := map[string]any{"failoverGroup": "main", "reason": "quick"}
	p := read[contract.Problem](t, s.post("/v1/failovers/force", body, "X-Test-As", "operator"), http.StatusUnprocessableEntity)
	require.Contains(t, p.Detail, "maxFraction")
	body["maxFraction"] = 0.9
	p = read[contract.Problem](t, s.post("/v1/failovers/force", body, "X-Test-As", "operator"), http.StatusForbidden)
	require.Contains(t, p.Detail, "admin")
	s.leader.openFailover(jane)
	p = read[contract.Problem](t, s.post("/v1/failovers/force", body, "X-Test-As", "admin"), http.StatusUnprocessableEntity)
	require.Contains(t, p.Detail, "maxFraction")
	body["maxFraction"] = 1
	all := read[contract.BulkForceAccepted](t, s.post("/v1/failovers/force", body, "X-Test-As", "operator+admin"), http.StatusAccepted)
	require.Equal(t, 2, *all.Forced)
	entries := read[contract.AuditList](t, s.get("/v1/audit", "X-Test-As", "admin"), http.StatusOK).Items
	require.Equal(t, "forbidden", entries[4].Outcome)
	refused := read[contract.AuditList](t, s.get("/v1/audit?outcome=forbidden&action=forceFailovers", "X-Test-As", "admin"), http.StatusOK).Items
	require.Equal(t, entries[4:5], refused)
	require.Empty(t, read[contract.AuditList](t, s.get("/v1/audit?subject=nobody&target=x&since=2026-01-01T00:00:00Z", "X-Test-As", "admin"), http.StatusOK).Items)
}
