package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

// Contacts are named in the log of their own Region alone, however they come into a record: as the contacts of an event, of a
// failover, of the list, or in somebody's words.
func TestAgentLogKeepsRegionsApart(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.answer()
	s.leader.floor()
	s.leader.shift() // jane: from us-east-1, held by call
	id := s.leader.openFailover(jane)
	require.Equal(t, http.StatusAccepted, s.post("/v1/failovers/"+id+"/force", reason("contact "+call+" is lost\" forged=1")).status)
	const callback = "4f3e2d1c-0000-4000-8000-000000000009" // her call in us-west-2
	s.leader.step(failover.UserData{Group: "main", Region: west, StartedAt: s.leader.now, Users: []failover.UserRecord{
		{ID: jane, RoutingProfile: "rp", Contacts: []failover.Contact{{ID: callback, Channel: "VOICE", State: "CONNECTED", StateSince: s.leader.now, Began: s.leader.now}}},
	}})
	s.leader.distribute(100) // and back: held by callback in us-west-2
	s.leader.step(failover.UserData{Group: "main", Region: west, StartedAt: s.leader.now, Users: []failover.UserRecord{
		{ID: jane, RoutingProfile: "rp", Contacts: []failover.Contact{{ID: callback, Channel: "VOICE", State: "CONNECTED", StateSince: s.leader.now, Began: s.leader.now}}},
	}})
	require.Equal(t, http.StatusAccepted, s.post("/v1/agents/"+jane+"/reports", map[string]any{
		"configureError": map[string]any{"code": "LOGIN_URL_MISSING", "message": "seen during " + call + " and " + callback},
	}).status)
	require.Eventually(t, func() bool { return len(s.leader.agent(jane).Errors) > 0 }, 5*time.Second, time.Millisecond)

	logs := make(map[string]string)
	for _, region := range []string{east, west} {
		a := s.get("/v1/agents/" + jane + "/logs/" + region)
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, `attachment; filename="`+region+`-agent-log.txt"`, a.header.Get("Content-Disposition"))
		require.True(t, strings.HasPrefix(a.header.Get("Content-Type"), "text/plain"))
		logs[region] = a.body
	}
	require.Contains(t, logs[east], call)
	require.NotContains(t, logs[east], callback)
	require.Contains(t, logs[west], callback)
	require.NotContains(t, logs[west], call)
	require.NotContains(t, logs[west], "forcedReason", "the reason belongs to the Region that was left")

	require.Contains(t, logs[east], "failoverPending failoverId="+id+" from=us-east-1 to=us-west-2 nextActiveRegion=us-west-2 contactIds="+call+"\n")
	require.Contains(t, logs[west], "failoverPending failoverId="+id+" from=us-east-1 to=us-west-2 nextActiveRegion=us-west-2\n")
	require.Contains(t, logs[east], `forcedReason="contact `+call+` is lost\" forged=1"`)
	require.Contains(t, logs[east], `message="seen during `+call+` and (contact of the other Region)"`)
	require.Contains(t, logs[west], `message="seen during (contact of the other Region) and `+callback+`"`)
	require.Contains(t, logs[east], " contact contactId="+call)
	require.Contains(t, logs[west], " contact contactId="+callback)
	// The baseline concerns the Region that it names.
	require.Contains(t, logs[east], " snapshot activeRegion=us-east-1")
	require.NotContains(t, logs[west], " snapshot activeRegion=us-east-1")
	for _, log := range logs {
		for line := range strings.Lines(log) {
			require.True(t, line == "\n" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "20"), line)
		}
	}
}
