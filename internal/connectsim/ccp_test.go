package connectsim

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ccpCaller sends requests to the Contact Control Panel of a Region. What the page itself does is tested in a browser, with
// amazon-connect-streams: web/desktop.
func ccpCaller(t *testing.T, sim *Sim, region string) func(method, path, body string, status int) ccpState {
	h, err := sim.CCP(region)
	require.NoError(t, err)
	return func(method, path, body string, status int) (state ccpState) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, "/ccp-v2/"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, "%s", w.Body)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
		if w.Header().Get("Content-Type") == "application/json" {
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &state))
		}
		return state
	}
}

func TestCCP(t *testing.T) {
	sim := New(Config{Agents: 2, MoveDelay: -1, Latency: -1})
	eastCCP, westCCP := ccpCaller(t, sim, east), ccpCaller(t, sim, west)
	_, err := sim.CCP("eu-west-2")
	require.ErrorContains(t, err, "eu-west-2")

	eastCCP("GET", "", "", 200)
	eastCCP("GET", "ccp.js", "", 200)
	eastCCP("GET", "agent", "", 404)
	call, err := sim.StartContact("agent00001", ChannelVoice)
	require.NoError(t, err)
	s := eastCCP("GET", "agent?agent=agent00001", "", 200)
	require.Equal(t, []string{east, east, ""}, []string{s.Region, s.ActiveRegion, s.NextActiveRegion})
	require.Equal(t, "routable", s.Agent.Snapshot.State.Type)
	require.Contains(t, s.Agent.Configuration.ARN, "arn:aws:connect:us-east-1:")
	require.Len(t, s.Agent.Snapshot.Contacts, 1)
	contact := s.Agent.Snapshot.Contacts[0]
	require.Equal(t, []string{call, "voice", "connected"}, []string{contact.ID, contact.Type, contact.State.Type})
	require.NoError(t, sim.SetContactState(call, StateOnHold))
	contact = eastCCP("GET", "agent?agent=agent00001", "", 200).Agent.Snapshot.Contacts[0]
	require.Equal(t, []string{"connected", "connected", "hold"}, []string{contact.State.Type, contact.Connections[0].State.Type, contact.Connections[1].State.Type})

	s = westCCP("GET", "agent?agent=agent00001", "", 200)
	require.Equal(t, []string{west, east, "offline"}, []string{s.Region, s.ActiveRegion, s.Agent.Snapshot.State.Type})
	require.Contains(t, s.Agent.Configuration.ARN, "arn:aws:connect:us-west-2:")
	require.Empty(t, s.Agent.Snapshot.Contacts)

	eastCCP("POST", "agent?agent=agent00001", `{"method":"forceFailover"}`, 409)
	require.NoError(t, sim.Shift("", west, 100))
	require.Equal(t, west, eastCCP("GET", "agent?agent=agent00001", "", 200).NextActiveRegion)
	require.Equal(t, west, eastCCP("GET", "agent?agent=agent00002", "", 200).ActiveRegion, "without a contact the agent goes at once")

	eastCCP("POST", "agent?agent=agent00002", `{"method":"clearContact","contactId":"`+call+`"}`, 404) // another's
	eastCCP("POST", "agent?agent=agent00001", `{"method":"sendDigits","contactId":"`+call+`"}`, 400)
	s = eastCCP("POST", "agent?agent=agent00001", `{"method":"destroyConnection","contactId":"`+call+`"}`, 200)
	require.Equal(t, "ended", s.Agent.Snapshot.Contacts[0].State.Type)
	require.Equal(t, west, s.NextActiveRegion, "after-contact work holds")
	s = eastCCP("POST", "agent?agent=agent00001", `{"method":"clearContact","contactId":"`+call+`"}`, 200)
	require.Equal(t, []string{west, ""}, []string{s.ActiveRegion, s.NextActiveRegion})

	chat, err := sim.StartContact("agent00001", ChannelChat)
	require.NoError(t, err)
	require.NoError(t, sim.SetContactState(chat, StateIncoming))
	s = westCCP("POST", "agent?agent=agent00001", `{"method":"acceptContact","contactId":"`+chat+`"}`, 200)
	require.Equal(t, "connected", s.Agent.Snapshot.Contacts[0].State.Type)
	require.NoError(t, sim.Shift("", east, 100))
	westCCP("POST", "agent?agent=agent00001", `{"method":"forceFailover"}`, 200)
	require.Equal(t, east, eastCCP("GET", "agent?agent=agent00001", "", 200).ActiveRegion)
	require.Len(t, westCCP("GET", "agent?agent=agent00001", "", 200).Agent.Snapshot.Contacts, 1, "the contact stays where it is")
	eastCCP("POST", "agent?agent=agent00001", `{"method":"putAgentState","status":"Offline"}`, 200)
	require.Equal(t, "offline", eastCCP("GET", "agent?agent=agent00001", "", 200).Agent.Snapshot.State.Type)

	require.Error(t, sim.SetCCPFault(east, "tired"))
	require.Error(t, sim.SetCCPFault("eu-west-2", CCPSilent))
	require.NoError(t, sim.SetCCPFault(east, CCPSignInMissing))
	require.Equal(t, CCPSignInMissing, eastCCP("GET", "agent?agent=agent00001", "", 200).Fault)
	require.Empty(t, westCCP("GET", "agent?agent=agent00001", "", 200).Fault)
	require.NoError(t, sim.SetCCPFault(east, CCPUnavailable))
	eastCCP("GET", "", "", 503)

	// A form of another page could send this: browsers ask first only for other types.
	h, err := sim.CCP(west)
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/ccp-v2/agent?agent=agent00001", strings.NewReader(`{"method":"putAgentState","status":"Offline"}`))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
}
