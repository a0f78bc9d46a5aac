package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/ctl"
	"changeover/internal/postgres/postgrestest"
)

// command runs `server ctl` with these arguments against a service, and decodes what it prints.
func command[T any](t *testing.T, s *service, arguments ...string) (v T) {
	t.Helper()
	var c ctl.Command
	parser, err := kong.New(&c)
	require.NoError(t, err)
	k, err := parser.Parse(append(arguments, "--output", "json", "--endpoint", "http://"+s.Addr()))
	require.NoError(t, err)
	var out bytes.Buffer
	k.Bind(&ctl.Caller{Out: &out, Now: time.Now})
	k.BindTo(t.Context(), (*context.Context)(nil))
	require.NoError(t, k.Run(), arguments)
	require.NoError(t, json.Unmarshal(out.Bytes(), &v), out.String())
	return v
}

// TestControls is a shift as an operator makes it: a plan, a drill, the shift, a pause in the middle, the report; and a pager that
// hears of it. The leader and the replica that is asked are not the same for all of it.
func TestControls(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	heard := map[string]int{}
	pager := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		for _, name := range []string{"failoverDetected", "failoverCompleted", "drillDetected"} {
			heard[name] += strings.Count(string(body), `"event":"`+name+`"`)
		}
	}))
	t.Cleanup(pager.Close)

	floor := newFloor(t, connectsim.Config{Agents: 3})
	busy, idle := floor.agent(0), floor.agent(1)
	voice := floor.call(t, busy, connectsim.ChannelVoice)
	c := configuration(floor, postgrestest.NewDatabase(t))
	c.Webhooks = []config.Webhook{{Name: "pager", URL: config.Secret(pager.URL), SigningKey: "a key of twenty-four characters"}}
	first := start(t, c)
	first.untilHolds(t, busy, 1)
	second := start(t, c)
	require.Eventually(t, func() bool {
		return command[contract.Plan](t, second, "plan", "main", "--to", west).Counts == contract.PlanCounts{AtOnce: 2, Waits: 1}
	}, patience, time.Second)

	drill := command[contract.Drill](t, second, "drill", "main", busy, idle, "--reason", "rehearsal")
	require.Equal(t, 1, drill.Counts.Pending)
	require.Equal(t, 1, drill.Counts.Completed)

	command[contract.FailoverGroup](t, second, "pause", "main", "--for", "1h", "--reason", "payment system is down")
	floor.shift(t, west)
	require.Eventually(t, func() bool {
		s := command[contract.Summary](t, second, "summary").Items[0]
		return s.Pause != nil && s.Held == 2 && s.Pending == 1
	}, patience, 50*time.Millisecond)
	require.Equal(t, 1, command[contract.Drill](t, second, "drills", drill.DrillID).Counts.Cancelled, "it gave way to what is real")
	first.stop(t) // the pause is the next leader's too
	require.Eventually(t, second.Leading, patience, 10*time.Millisecond)
	third := start(t, c)
	for _, s := range []*service{second, third} { // one has heard of it, the other one reads what is stored
		history := until(t, s, "/v1/agents/"+idle+"/events?after=-", func(h contract.EventList) bool { return len(h.Items) == 2 })
		data, err := json.Marshal(history.Items[1])
		require.NoError(t, err)
		require.Contains(t, string(data), `"paused":{"reason":"payment system is down","until":"`)
	}
	main := command[contract.Summary](t, second, "summary").Items[0]
	require.Equal(t, 3, main.Detected+main.Pending, "nobody went")

	require.Nil(t, command[contract.FailoverGroup](t, second, "resume", "main").Pause)
	second.untilWorksIn(t, idle, west)
	require.NoError(t, floor.ClearContact(voice))
	second.untilWorksIn(t, busy, west)

	shifts := command[contract.ShiftList](t, second, "shifts").Items
	require.Len(t, shifts, 1)
	report := command[contract.ShiftReport](t, second, "shifts", shifts[0].ShiftID)
	require.Equal(t, 3, report.Shift.Completed)
	require.Equal(t, 1, report.Phases.Pending.Count)

	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return heard["failoverDetected"] >= 3 && heard["failoverCompleted"] >= 3
	}, patience, 10*time.Millisecond)
	mu.Lock()
	require.Zero(t, heard["drillDetected"])
	mu.Unlock()
	require.Zero(t, command[contract.WebhookList](t, second, "webhooks").Items[0].Dead)
}
