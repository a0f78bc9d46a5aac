package connectsim

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestControlAPI does by HTTP what the methods do.
func TestControlAPI(t *testing.T) {
	sim := newChecked(t, Config{Agents: 3, Latency: -1, MoveDelay: -1, TDGs: []TDGConfig{{Name: "default", Agents: 1}, {Name: "second"}}})
	url := serve(t, sim)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	do := func(method, path, body string, status int, into any) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+"/_control/"+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := tr.RoundTrip(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, status, resp.StatusCode, "%s %s: %s", method, path, b)
		if into != nil {
			require.NoError(t, json.Unmarshal(b, into))
		}
		return string(b)
	}

	var list struct {
		Total int
		Items []AgentInfo
	}
	do("GET", "agents?limit=2&offset=1", "", 200, &list)
	require.Equal(t, 3, list.Total)
	require.Equal(t, []string{"agent00002", "agent00003"}, []string{list.Items[0].Username, list.Items[1].Username})

	var a AgentInfo
	do("POST", "agents", `{"username":"grace","tdg":"second"}`, 201, &a)
	require.Equal(t, "grace", a.Username)
	do("PUT", "agents/grace/status", `{"status":"Lunch"}`, 204, nil)
	do("GET", "agents?status=Lunch", "", 200, &list)
	require.Equal(t, 1, list.Total)
	do("GET", "agents/"+a.ID, "", 200, &a)
	require.Equal(t, "Lunch", a.Status)
	do("DELETE", "agents/grace", "", 204, nil)
	do("GET", "agents/grace", "", 404, nil)

	var contact struct{ ContactID string }
	do("POST", "agents/agent00001/contacts", `{"channel":"VOICE"}`, 201, &contact)
	do("POST", "agents/agent00002/contacts", `{"channel":"CHAT","region":"us-west-2","state":"INCOMING"}`, 201, &contact)
	do("PUT", "contacts/"+contact.ContactID, `{"state":"CONNECTED"}`, 204, nil)
	do("POST", "contacts/"+contact.ContactID+"/end", "", 204, nil)
	var st State
	do("POST", "shift", `{"to":"us-west-2"}`, 200, &st)
	require.Equal(t, []Share{{east, 0}, {west, 100}}, st.TDGs[0].InEffect.Agents)
	do("GET", "agents?waiting=true&activeRegion=us-east-1", "", 200, &list)
	require.Equal(t, 1, list.Total)
	require.Equal(t, "agent00001", list.Items[0].Username)
	do("POST", "agents/agent00001/force", "", 204, nil)
	do("POST", "agents/agent00001/force", "", 409, nil)
	do("POST", "contacts/"+contact.ContactID+"/clear", "", 204, nil)
	do("POST", "contacts/"+contact.ContactID+"/clear", "", 400, nil)
	do("POST", "shift", `{"to":"us-east-1","tdg":"second","percent":30}`, 200, &st)
	require.Equal(t, []Share{{east, 30}, {west, 70}}, st.TDGs[1].InEffect.Agents)

	var rules []FaultRule
	do("PUT", "faults", `{"fault":"500"}`, 200, &rules)
	do("PUT", "faults", `{"region":"us-east-1","operation":"ListInstances","fault":"hang"}`, 200, &rules)
	require.Equal(t, []FaultRule{{"*", "*", FaultInternal}, {east, "ListInstances", FaultHang}}, rules)
	require.Equal(t, 500, send(t, sim, west, "GET", "/instance", "").status)
	do("DELETE", "faults?region=us-east-1&operation=ListInstances", "", 204, nil)
	do("GET", "faults", "", 200, &rules)
	require.Equal(t, []FaultRule{{"*", "*", FaultInternal}}, rules)
	do("PUT", "latency", `{"region":"us-east-1","latency":"1h"}`, 204, nil)
	do("DELETE", "faults", "", 204, nil)
	require.Equal(t, 200, send(t, sim, east, "GET", "/instance", "").status, "latencies are gone too")
	do("PUT", "regions/us-west-2", `{"down":"503"}`, 204, nil)
	require.Equal(t, 503, send(t, sim, west, "GET", "/instance", "").status)
	do("PUT", "regions/us-west-2", `{"down":""}`, 204, nil)
	require.Equal(t, 200, send(t, sim, west, "GET", "/instance", "").status)
	do("PUT", "regions/us-west-2/ccp", `{"fault":"silent"}`, 204, nil)
	do("PUT", "regions/us-east-1/views/default", `{"frozen":true}`, 204, nil)
	do("POST", "shift", `{"to":"us-west-2","percent":50}`, 200, &st)
	require.Equal(t, 100, answeredPercent(t, sim, east))
	require.Equal(t, 50, answeredPercent(t, sim, west))
	require.True(t, st.TDGs[0].Views[east].Frozen)
	do("PUT", "regions/us-east-1/views/default", `{"frozen":false}`, 204, nil)
	require.Equal(t, 50, answeredPercent(t, sim, east))

	var f Floor
	do("PUT", "floor", `{"callsPerHour":12,"talk":"90s"}`, 200, &f)
	require.InDelta(t, 12, f.CallsPerHour, 0)
	require.Equal(t, Duration(90*time.Second), f.Talk)
	require.Contains(t, do("GET", "floor", "", 200, nil), `"talk": "1m30s"`)

	var calls struct {
		Counts map[string]map[string]int
		Recent []Call
	}
	do("GET", "calls?recent=2", "", 200, &calls)
	require.Equal(t, 3, calls.Counts[west]["ListInstances"])
	require.Len(t, calls.Recent, 2)
	do("DELETE", "calls", "", 204, nil)
	do("GET", "calls", "", 200, nil)
	require.Empty(t, sim.Calls())

	do("GET", "state", "", 200, &st)
	require.Equal(t, 3, st.Agents)
	require.Equal(t, "https://changeover-us-west-2.my.connect.aws", st.Regions[1].AccessURL)

	for _, wrong := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "nonsense", "", 404, "not part of the control API"},
		{"PATCH", "floor", "", 404, "not part of the control API"},
		{"GET", "agents?limit=x", "", 400, "limit"},
		{"GET", "agents?offset=-1", "", 400, "offset"},
		{"GET", "agents?activeRegion=eu-west-2", "", 404, "eu-west-2"},
		{"GET", "calls?recent=x", "", 400, "recent"},
		{"POST", "agents", `{"name":"x"}`, 400, "unknown field"},
		{"POST", "agents", `{"tdg":"third"}`, 404, `"third"`},
		{"PUT", "agents/nobody/status", `{"status":"Lunch"}`, 404, `"nobody"`},
		{"PUT", "agents/agent00001/status", `{`, 400, "EOF"},
		{"POST", "agents/agent00001/contacts", `{"channel":"FAX"}`, 400, "FAX"},
		{"POST", "agents/agent00001/contacts", `{"channel":"VOICE","state":"LOST"}`, 400, "LOST"},
		{"POST", "agents/agent00001/contacts", `[]`, 400, "body"},
		{"PUT", "contacts/nothing", `{"state":"ENDED"}`, 404, "nothing"},
		{"PUT", "contacts/nothing", ``, 400, "EOF"},
		{"POST", "shift", `{"to":"us-west-2","percent":55}`, 400, "increments of 10"},
		{"POST", "shift", `x`, 400, "body"},
		{"PUT", "faults", `{"fault":"x"}`, 400, `"x"`},
		{"PUT", "faults", `{"fault":1}`, 400, "body"},
		{"PUT", "latency", `{"latency":"fast"}`, 400, "fast"},
		{"PUT", "regions/us-west-2", `{"down":"half"}`, 400, "half"},
		{"PUT", "regions/us-west-2/ccp", `{"fault":"half"}`, 400, "half"},
		{"PUT", "regions/us-west-2/ccp", `{"down":"half"}`, 400, "down"},
		{"PUT", "regions/us-west-2", `{"up":true}`, 400, "up"},
		{"PUT", "regions/us-west-2/views/default", `{"cold":true}`, 400, "cold"},
		{"PUT", "floor", `{"callsPerHour":-1}`, 400, "callsPerHour"},
		{"PUT", "floor", `{"calls":1}`, 400, "calls"},
	} {
		require.Contains(t, do(wrong.method, wrong.path, wrong.body, wrong.status, nil), strings.ReplaceAll(wrong.text, `"`, `\"`), "%s %s", wrong.method, wrong.path)
	}
}
