package watch

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	changeover "changeover/clients/go"
)

// TestLines has a line for every event of the document; data itself is printed for events that nobody knows yet.
func TestLines(t *testing.T) {
	text, err := os.ReadFile("../../api/openapi.yaml")
	require.NoError(t, err)
	var document struct {
		Components struct {
			Schemas struct {
				EventName struct{ Enum []string } `yaml:"EventName"`
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &document))
	names := document.Components.Schemas.EventName.Enum
	require.Greater(t, len(names), 10)
	data := json.RawMessage(`{"agentId":"anna","time":"2026-11-22T10:00:00Z","failoverId":"f1","nextActiveRegion":"us-west-2","activeRegion":"us-east-1",
		"activeCcpUrl":null,"previousRegion":"us-west-2","cancelledRegion":"us-west-2","contactIds":["c1","c2"],"state":"pending","forced":false,"evidence":"inferred",
		"code":"ACCESS_DENIED","message":"no","reason":"pruned","until":"2026-11-22T10:15:00Z","drill":true,"drillId":"d1","clear":[],
		"configureErrors":[{"code":"ACCESS_DENIED","message":"no"}]}`)
	got := map[string]string{}
	for _, name := range append(names, "fromTheFuture") {
		if name == "draining" { // the client's own
			continue
		}
		shown, err := line(changeover.Event{ID: "1", Type: changeover.EventType(name), AgentID: "anna", Data: data})
		require.NoError(t, err)
		got[name] = regexp.MustCompile(`^\S+ +anna +`+name+` +`).ReplaceAllString(shown, "")
		if name != "fromTheFuture" {
			require.NotContains(t, got[name], "{", name)
		}
	}
	require.Equal(t, string(data), got["fromTheFuture"])
	for name, want := range map[string]string{
		"snapshot":              "pending in us-east-1, goes to us-west-2, held by c1, c2, ACCESS_DENIED",
		"failoverPending":       "goes to us-west-2, held by c1, c2",
		"failoverCompleted":     "works in us-east-1 now (inferred)",
		"failoverCancelled":     "stays in us-east-1",
		"failoverStalled":       "is seen in us-east-1 instead",
		"configureError":        "ACCESS_DENIED: no",
		"reset":                 "pruned: what was shown may be incomplete",
		"drillCompleted":        "a drill: nothing real has happened",
		"failoverResumed":       "goes to us-west-2",
		"failoverDetected":      "goes to us-west-2",
		"configureErrorCleared": "ACCESS_DENIED",
	} {
		require.Equal(t, want, got[name], name)
	}
}
