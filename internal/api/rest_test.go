package api_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

func TestAgents(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()

	list := read[contract.AgentList](t, s.get("/v1/agents"), http.StatusOK)
	require.Len(t, list.Items, 2)
	a := list.Items[0]
	require.Equal(t, jane, a.AgentID)
	require.Equal(t, "jane.doe", *a.Username)
	require.Equal(t, "main", a.FailoverGroup)
	require.Equal(t, tdgID, *a.TdgID)
	require.Equal(t, east, *a.ActiveRegion)
	require.Equal(t, "https://a.my.connect.aws/ccp-v2/", *a.ActiveCcpURL)
	require.Equal(t, contract.RegionSourceDistribution, *a.RegionSource)
	require.Equal(t, contract.AgentStateActive, a.State)
	require.Equal(t, 2, *a.OpenContacts)
	require.Nil(t, a.NextActiveRegion)
	require.Nil(t, a.Partial)

	s.leader.shift()
	a = read[contract.Agent](t, s.get("/v1/agents/"+jane), http.StatusOK)
	require.Equal(t, contract.AgentStatePending, a.State)
	require.Equal(t, west, *a.NextActiveRegion)
	require.Equal(t, s.leader.openFailover(jane), *a.FailoverID)

	for query, want := range map[string][]string{
		"state=pending":                             {jane},
		"state=unknown":                             {},
		"activeRegion=" + west:                      {joe},
		"tdgId=" + tdgID:                            {jane, joe},
		"tdgId=other":                               {},
		"failoverGroup=spare":                       {},
		"order=agentId":                             {jane, joe},
		"order=username":                            {jane, joe},
		"order=username&search=JOE":                 {joe},
		"order=username&state=pending":              {jane},
		"order=username&failoverGroup=spare":        {},
		"username=joe.bloggs":                       {joe},
		"username=joe.bloggs&state=pending":         {},
		"username=joe.bloggs&failoverGroup=spare":   {},
		"username=nobody":                           {},
		"failoverGroup=main&activeRegion=us-east-1": {jane},
	} {
		list := read[contract.AgentList](t, s.get("/v1/agents?"+query), http.StatusOK)
		got := []string{}
		for _, a := range list.Items {
			got = append(got, a.AgentID)
		}
		require.Equal(t, want, got, query)
		require.Nil(t, list.NextCursor, query)
	}
}

func TestContacts(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()

	list := read[contract.ContactList](t, s.get("/v1/agents/"+jane+"/contacts"), http.StatusOK)
	require.Len(t, list.Items, 2)
	c := list.Items[0]
	require.Equal(t, call, c.ContactID)
	require.Equal(t, jane, c.AgentID)
	require.Equal(t, east, *c.Region)
	require.Equal(t, "VOICE", c.Channel)
	require.Equal(t, "CONNECTED", c.State)
	require.True(t, c.Blocking)
	require.True(t, c.Surfaced)
	require.False(t, c.Stale)
	require.False(t, list.Items[1].Blocking, "a task holds nothing")

	first := read[contract.ContactList](t, s.get("/v1/agents/"+jane+"/contacts?limit=1"), http.StatusOK)
	require.Len(t, first.Items, 1)
	require.NotNil(t, first.NextCursor)
	second := read[contract.ContactList](t, s.get("/v1/agents/"+jane+"/contacts?limit=1&cursor="+*first.NextCursor), http.StatusOK)
	require.Equal(t, task, second.Items[0].ContactID)
	require.Nil(t, second.NextCursor)

	require.Empty(t, read[contract.ContactList](t, s.get("/v1/agents/"+joe+"/contacts"), http.StatusOK).Items)
}

func TestTrafficDistributionGroups(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()

	list := read[contract.TrafficDistributionGroupList](t, s.get("/v1/traffic-distribution-groups?failoverGroup=main"), http.StatusOK)
	require.Len(t, list.Items, 1)
	g := read[contract.TrafficDistributionGroup](t, s.get("/v1/traffic-distribution-groups/"+tdgID), http.StatusOK)
	require.Equal(t, list.Items[0], g)
	require.Equal(t, arn, g.Arn)
	require.Equal(t, "ACTIVE", g.Status)
	require.True(t, g.IsDefault)
	require.Equal(t, []contract.Share{{Region: east, Percent: 0}, {Region: west, Percent: 100}}, g.Agent)
	require.Equal(t, g.Agent, g.Telephony)
	require.Equal(t, []contract.SignInShare{{Region: east, Enabled: true}, {Region: west, Enabled: true}}, g.SignIn)
	require.Len(t, g.Answers, 2)
	require.Equal(t, east, g.Answers[0].Region)
	require.Empty(t, g.Warnings)

	changes := read[contract.ChangeList](t, s.get("/v1/traffic-distribution-groups/"+tdgID+"/changes"), http.StatusOK).Items
	require.NotEmpty(t, changes)
	require.Equal(t, g.Agent, changes[0].After.Agent)
	require.Equal(t, []contract.Share{{Region: east, Percent: 100}, {Region: west, Percent: 0}}, changes[0].Before.Agent)
	require.Contains(t, []string{east, west}, changes[0].ObservedBy)

	require.Empty(t, read[contract.TrafficDistributionGroupList](t, s.get("/v1/traffic-distribution-groups?failoverGroup=spare"), http.StatusOK).Items)
}

func TestFailoverGroups(t *testing.T) {
	t.Parallel()
	s := newService(t)
	at := time.Now().UTC().Truncate(time.Millisecond)
	require.NoError(t, s.leader.store.SaveHealth(t.Context(), s.leader.lease.Epoch, []store.RegionHealth{
		{Group: "main", Region: east, State: "down", Since: at, LastError: "timed out", LastErrorAt: at},
		{Group: "main", Region: west, State: "healthy", Since: at, LastSuccess: at},
	}))

	list := read[contract.FailoverGroupList](t, s.get("/v1/failover-groups"), http.StatusOK)
	require.Len(t, list.Items, 2)
	require.Equal(t, "spare", list.Items[1].Name)
	require.Nil(t, list.Items[1].Instances[0].CcpURL)
	require.Equal(t, contract.HealthStateUnknown, list.Items[1].Health[0].State)

	g := read[contract.FailoverGroup](t, s.get("/v1/failover-groups/main"), http.StatusOK)
	require.Equal(t, contract.FailoverGroupRoutingRegional, g.Routing)
	require.True(t, g.Instances[0].Source)
	require.False(t, g.Instances[1].Source)
	require.Equal(t, contract.HealthStateDown, g.Health[0].State)
	require.Equal(t, at, *g.Health[0].Since)
	require.Equal(t, "timed out", *g.Health[0].LastError)
	require.Nil(t, g.Health[0].LastSuccess)
	require.Equal(t, contract.HealthStateHealthy, g.Health[1].State)

	first := read[contract.FailoverGroupList](t, s.get("/v1/failover-groups?limit=1"), http.StatusOK)
	require.Equal(t, "main", first.Items[0].Name)
	second := read[contract.FailoverGroupList](t, s.get("/v1/failover-groups?limit=1&cursor="+*first.NextCursor), http.StatusOK)
	require.Equal(t, "spare", second.Items[0].Name)
	require.Nil(t, second.NextCursor)
}

func TestSummary(t *testing.T) {
	t.Parallel()
	s := newService(t)
	sum := read[contract.Summary](t, s.get("/v1/summary"), http.StatusOK)
	require.Len(t, sum.Items, 2, "groups without agents are there too")

	s.leader.floor()
	s.leader.shift()
	g := read[contract.Summary](t, s.get("/v1/summary"), http.StatusOK).Items[0]
	require.Equal(t, "main", g.FailoverGroup)
	require.Equal(t, 2, g.Agents)
	require.Equal(t, 1, g.Pending)
	require.Equal(t, 1, g.ByState.Pending)
	require.Equal(t, 1, g.ByState.Active)
	require.NotNil(t, g.OldestPendingAt)
	require.Len(t, g.ByActiveRegion, 2)
	require.Len(t, g.Shifts, 1)
	require.Equal(t, 2, g.Shifts[0].Failovers)
	require.Equal(t, 1, g.Shifts[0].Completed)
	require.Equal(t, 1, g.Shifts[0].Pending)
	require.Equal(t, []contract.Share{{Region: east, Percent: 0}, {Region: west, Percent: 100}}, g.Shifts[0].Agent)
}

func TestFailovers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	id := s.leader.openFailover(jane)

	f := read[contract.Failover](t, s.get("/v1/failovers/"+id), http.StatusOK)
	require.Equal(t, jane, f.AgentID)
	require.Equal(t, contract.FailoverStatusPending, f.Status)
	require.Equal(t, contract.RegionSourceDistribution, f.Cause)
	require.Equal(t, east, f.FromRegion)
	require.Equal(t, west, f.ToRegion)
	require.Equal(t, []string{call}, f.ContactIds)
	require.Equal(t, []string{call}, f.InitialContactIds)
	require.NotNil(t, f.PendingAt)
	require.Nil(t, f.Evidence)
	require.Nil(t, f.CompletedAt)

	for query, want := range map[string]int{
		"":                    2,
		"status=pending":      1,
		"status=cancelled":    0,
		"agentId=" + joe:      1,
		"failoverGroup=spare": 0,
		"tdgId=" + tdgID:      2,
		"fromRegion=" + east:  2,
		"fromRegion=" + west:  0,
		"toRegion=" + west:    2,
		"since=" + url.QueryEscape(f.DetectedAt.Format(time.RFC3339Nano)): 2,
		"since=2126-01-01T00:00:00Z":                                      0,
	} {
		require.Len(t, read[contract.FailoverList](t, s.get("/v1/failovers?"+query), http.StatusOK).Items, want, query)
	}

	joes := read[contract.FailoverList](t, s.get("/v1/failovers?agentId="+joe), http.StatusOK).Items[0]
	require.Equal(t, contract.FailoverStatusCompleted, joes.Status)
	require.Equal(t, contract.EvidenceInferred, *joes.Evidence)
}

// Pages neither repeat nor skip what was there when the first was asked for, while new failovers come in between.
func TestPagingIsStable(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	back := []int{100, 0, 100, 0}
	for _, percent := range back[:2] { // joe goes there and back, jane's is cancelled and detected again
		s.leader.distribute(percent)
	}
	before := read[contract.FailoverList](t, s.get("/v1/failovers?limit=1000"), http.StatusOK).Items
	require.Greater(t, len(before), 3)

	var paged []contract.Failover
	path := "/v1/failovers?limit=1"
	for cursor := ""; ; {
		page := read[contract.FailoverList](t, s.get(path+cursor), http.StatusOK)
		paged = append(paged, page.Items...)
		if page.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *page.NextCursor
		if len(paged) == 2 {
			for _, percent := range back[2:] {
				s.leader.distribute(percent)
			}
		}
	}
	ids := func(list []contract.Failover) (ids []string) {
		for _, f := range list {
			ids = append(ids, f.FailoverID)
		}
		return ids
	}
	require.Equal(t, ids(before), ids(paged))
}

func TestConnections(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	require.Empty(t, read[contract.ConnectionList](t, s.get("/v1/connections"), http.StatusOK).Items)
	require.NoError(t, s.store.SyncConnections(t.Context(), "replica-7", []store.Connection{
		{ID: "c1", Replica: "replica-7", AgentID: jane, Since: time.Now(), RemoteAddr: "10.0.0.1:5555"},
		{ID: "c2", Replica: "replica-7", Since: time.Now(), LastEventID: "x-1-2", RemoteAddr: "10.0.0.2:5555"},
	}, nil))

	list := read[contract.ConnectionList](t, s.get("/v1/connections"), http.StatusOK).Items
	require.Len(t, list, 2)
	require.Equal(t, jane, *list[0].AgentID)
	require.Equal(t, "replica-7", list[0].Replica)
	require.Nil(t, list[0].LastEventID)
	require.Nil(t, list[1].AgentID)
	require.Equal(t, "x-1-2", *list[1].LastEventID)
	require.Len(t, read[contract.ConnectionList](t, s.get("/v1/connections?agentId="+jane), http.StatusOK).Items, 1)
	require.Equal(t, 1, read[contract.Agent](t, s.get("/v1/agents/"+jane), http.StatusOK).Connections)
}

func TestUnknownThingsAreNotFound(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	for _, path := range []string{
		"/v1/failover-groups/nowhere",
		"/v1/traffic-distribution-groups/none",
		"/v1/traffic-distribution-groups/none/changes",
		"/v1/agents/nobody",
		"/v1/agents/nobody/contacts",
		"/v1/agents/nobody/events",
		"/v1/agents/nobody/logs/us-east-1",
		"/v1/agents/" + jane + "/logs/eu-west-2",
		"/v1/failovers/none",
		"/v1/nothing",
		"/v1/agents/",
		"/",
		"/v2/agents",
	} {
		a := s.get(path)
		p := read[contract.Problem](t, a, http.StatusNotFound)
		require.Equal(t, "urn:changeover:problem:not-found", p.Type, path)
		require.Equal(t, a.header.Get("X-Request-Id"), p.RequestID, path)
	}
	require.Equal(t, http.StatusNotFound, s.post("/v1/agents/nobody/reports", map[string]any{"activeRegion": east}).status)
	require.Equal(t, http.StatusNotFound, s.post("/v1/failovers/none/force", map[string]any{"reason": "x"}).status)
	require.Equal(t, http.StatusNotFound, s.post("/v1/failovers/force", map[string]any{"reason": "x", "failoverGroup": "nowhere"}).status)
}

// A failover group that is configured no more has no agents and no traffic distribution groups any more; what happened stays.
func TestGroupsConfiguredNoMore(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	_, err := s.leader.store.Commit(t.Context(), s.leader.lease.Epoch, failover.Effects{
		Agents: []*failover.Agent{{ID: "retired-agent", Group: "retired", ActiveRegion: east}},
		TDGs:   []*failover.TDG{{ID: "retired-tdg", Group: "retired"}},
		Failovers: []*failover.Failover{{
			ID: "01990000-0000-7000-8000-000000000001", AgentID: "retired-agent", Group: "retired", From: west, To: east,
			Status: failover.Completed, Cause: failover.SourceDistribution, DetectedAt: s.leader.now,
		}},
	})
	require.NoError(t, err)
	require.Len(t, read[contract.AgentList](t, s.get("/v1/agents"), http.StatusOK).Items, 2)
	require.Empty(t, read[contract.AgentList](t, s.get("/v1/agents?failoverGroup=retired"), http.StatusOK).Items)
	require.Len(t, read[contract.TrafficDistributionGroupList](t, s.get("/v1/traffic-distribution-groups"), http.StatusOK).Items, 1)
	require.Empty(t, read[contract.TrafficDistributionGroupList](t, s.get("/v1/traffic-distribution-groups?failoverGroup=retired"), http.StatusOK).Items)
	require.Len(t, read[contract.FailoverList](t, s.get("/v1/failovers?failoverGroup=retired"), http.StatusOK).Items, 1)
}
