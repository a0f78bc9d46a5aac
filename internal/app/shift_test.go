package app

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

func TestShiftOfAnIdleAgent(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 3})
	agent := floor.agent(0)
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilWorksIn(t, agent, east)

	d := follow(t, agent, s)
	snapshot := d.opened(t)
	require.Equal(t, east, snapshot.data["activeRegion"])
	require.Equal(t, "https://us-east-1.example.com/ccp-v2/", snapshot.data["activeCcpUrl"])
	require.Equal(t, "active", snapshot.data["state"])

	floor.shift(t, west)
	detected := d.next(t, "failoverDetected")
	require.Equal(t, west, detected.data["nextActiveRegion"])
	require.Equal(t, agent, detected.data["agentId"])
	completed := d.next(t, "failoverCompleted")
	require.Equal(t, west, completed.data["activeRegion"])
	require.Equal(t, east, completed.data["previousRegion"])
	require.Equal(t, "https://us-west-2.example.com/ccp-v2/", completed.data["activeCcpUrl"])
	require.Equal(t, "inferred", completed.data["evidence"])
	require.Equal(t, false, completed.data["forced"])
	require.Equal(t, detected.data["failoverId"], completed.data["failoverId"])

	f := until(t, s, "/v1/failovers/"+completed.data["failoverId"].(string), func(f contract.Failover) bool { return f.ConfirmedAt != nil })
	require.Equal(t, contract.FailoverStatusCompleted, f.Status)
	require.Equal(t, contract.RegionSourceDistribution, f.Cause)
	require.Nil(t, f.PendingAt)
	until(t, s, "/v1/agents/"+agent, func(a contract.Agent) bool { return *a.ActiveRegion == west && a.Connections == 1 })
	changes := get[contract.ChangeList](t, s, "/v1/traffic-distribution-groups/"+connectsim.DefaultTDGID+"/changes")
	require.NotEmpty(t, changes.Items)

	history := get[contract.EventList](t, s, "/v1/agents/"+agent+"/events?type=failoverCompleted")
	require.Len(t, history.Items, 1)
	require.Equal(t, completed.id, history.Items[0].ID, "the JSON history has the stream's ids")
}

func TestShiftOfAnAgentOnACall(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 2})
	agent, idle := floor.agent(0), floor.agent(1)
	voice := floor.call(t, agent, connectsim.ChannelVoice)
	floor.call(t, idle, connectsim.ChannelTask) // which never holds
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilHolds(t, agent, 1)
	s.untilHolds(t, idle, 1)

	d := follow(t, agent, s)
	d.opened(t)
	floor.shift(t, west)
	detected := d.next(t, "failoverDetected")
	pending := d.next(t, "failoverPending")
	require.Equal(t, []any{voice}, pending.data["contactIds"])
	require.Equal(t, west, pending.data["nextActiveRegion"])
	s.untilWorksIn(t, idle, west)

	// A chat arrives meanwhile and joins.
	chat := floor.call(t, agent, connectsim.ChannelChat)
	updated := d.next(t, "failoverPendingUpdated")
	require.ElementsMatch(t, []any{voice, chat}, updated.data["contactIds"])

	// After-contact work holds: the call has ended, the agent has not cleared it.
	require.NoError(t, floor.EndContact(voice))
	until(t, s, "/v1/agents/"+agent+"/contacts", func(l contract.ContactList) bool {
		for _, c := range l.Items {
			if c.ContactID == voice {
				return c.State == connectsim.StateEnded && c.Blocking
			}
		}
		return false
	})
	f := get[contract.Failover](t, s, "/v1/failovers/"+detected.data["failoverId"].(string))
	require.Equal(t, contract.FailoverStatusPending, f.Status)
	require.Equal(t, []string{voice}, f.InitialContactIds)

	require.NoError(t, floor.ClearContact(voice))
	require.Equal(t, []any{chat}, d.next(t, "failoverPendingUpdated").data["contactIds"])
	require.NoError(t, floor.EndContact(chat))
	require.NoError(t, floor.ClearContact(chat))
	completed := d.next(t, "failoverCompleted")
	require.Equal(t, detected.data["failoverId"], completed.data["failoverId"])
	require.Equal(t, "inferred", completed.data["evidence"])
	s.untilWorksIn(t, agent, west)
}

func TestShiftThatIsTakenBack(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	agent := floor.agent(0)
	voice := floor.call(t, agent, connectsim.ChannelVoice)
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilHolds(t, agent, 1)
	d := follow(t, agent, s)
	d.opened(t)

	floor.shift(t, west)
	first := d.next(t, "failoverDetected")
	d.next(t, "failoverPending")
	floor.shift(t, east)
	cancelled := d.next(t, "failoverCancelled")
	require.Equal(t, first.data["failoverId"], cancelled.data["failoverId"])
	require.Equal(t, east, cancelled.data["activeRegion"])
	require.Equal(t, west, cancelled.data["cancelledRegion"])
	require.Equal(t, east, *get[contract.Agent](t, s, "/v1/agents/"+agent).ActiveRegion)

	// The same change again is a new failover.
	floor.shift(t, west)
	second := d.next(t, "failoverDetected")
	require.NotEqual(t, first.data["failoverId"], second.data["failoverId"])
	d.next(t, "failoverPending")
	require.NoError(t, floor.ClearContact(voice))
	d.next(t, "failoverCompleted")
}

func TestForce(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	agent := floor.agent(0)
	floor.call(t, agent, connectsim.ChannelVoice)
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilHolds(t, agent, 1)
	d := follow(t, agent, s)
	d.opened(t)
	floor.shift(t, west)
	d.next(t, "failoverDetected")
	id := d.next(t, "failoverPending").data["failoverId"].(string)

	status, body := s.request(t, http.MethodPost, "/v1/failovers/"+id+"/force", map[string]string{"reason": "the caller has hung up"})
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	completed := d.next(t, "failoverCompleted")
	require.Equal(t, true, completed.data["forced"])
	require.Equal(t, "forced", completed.data["evidence"])
	f := get[contract.Failover](t, s, "/v1/failovers/"+id)
	require.True(t, f.Forced)
	require.Equal(t, "the caller has hung up", *f.ForcedReason)
	require.Equal(t, west, *get[contract.Agent](t, s, "/v1/agents/"+agent).ActiveRegion)

	status, _ = s.request(t, http.MethodPost, "/v1/failovers/"+id+"/force", map[string]string{"reason": "again"})
	require.Equal(t, http.StatusConflict, status)
	audit := get[contract.AuditList](t, s, "/v1/audit")
	var outcomes []string
	for _, entry := range audit.Items {
		outcomes = append(outcomes, entry.Outcome)
	}
	require.Equal(t, []string{"failover-not-open", "done", "accepted"}, outcomes)
}

// A desktop that reports knows better than an empty contact list: the completion waits for it (R8).
func TestReportingDesktop(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 2})
	agent, other := floor.agent(0), floor.agent(1)
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilWorksIn(t, agent, east)
	d := follow(t, agent, s)
	d.opened(t)
	report := func(region string) {
		status, body := s.request(t, http.MethodPost, "/v1/agents/"+agent+"/reports", map[string]any{
			"activeRegion": region, "standby": map[string]any{"region": west, "ready": true, "reason": ""},
		})
		require.Equal(t, http.StatusAccepted, status, "%s", body)
	}
	report(east)
	until(t, s, "/v1/agents/"+agent, func(a contract.Agent) bool { return a.Standby != nil && *a.Standby.Ready })

	floor.shift(t, west)
	d.next(t, "failoverDetected")
	s.untilWorksIn(t, other, west) // whose desktop does not report
	d.silence(t, 500*time.Millisecond)
	report(west)
	require.Equal(t, "desktop", d.next(t, "failoverCompleted").data["evidence"])
}

func TestShiftWithGlobalRouting(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 2, View: connectsim.Global})
	agent, idle := floor.agent(0), floor.agent(1)
	voice := floor.call(t, agent, connectsim.ChannelVoice)
	c := configuration(floor, postgrestest.NewDatabase(t))
	c.FailoverGroups[0].Routing = "global"
	s := start(t, c)
	s.untilHolds(t, agent, 1)
	d := follow(t, agent, s)
	d.opened(t)
	floor.shift(t, west)
	d.next(t, "failoverDetected")
	require.Equal(t, []any{voice}, d.next(t, "failoverPending").data["contactIds"])
	s.untilWorksIn(t, idle, west)
	require.NoError(t, floor.ClearContact(voice))
	d.next(t, "failoverCompleted")
}
