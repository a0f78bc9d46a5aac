package ctl_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"

	document "changeover/api"
)

var update = flag.Bool("update", false, "write testdata/tables.txt again")

// answers to GET and POST requests, as the document allows them: what is in them is what the tables are about.
var answers = map[string]string{
	"failover-groups":      `{"items": [GROUP], "nextCursor": "abc"}`,
	"failover-groups/main": `GROUP`,
	"summary": `{"items": [{"failoverGroup": "main", "agents": 2000, "byState": {"unknown": 1, "active": 1900, "detected": 9, "pending": 90},
		"byActiveRegion": [{"activeRegion": null, "state": "unknown", "count": 1}, {"activeRegion": "us-east-1", "state": "pending", "count": 99}, {"activeRegion": "us-west-2", "state": "active", "count": 1900}],
		"detected": 9, "pending": 90, "stale": 0, "oldestPendingAt": "2026-11-22T11:57:00Z", "pause": {"by": "olga", "reason": "storm", "since": "2026-11-22T11:58:00Z", "until": "2026-11-22T12:28:00Z"}, "held": 4,
		"shifts": [{"shiftId": "42", "tdgId": "t1", "agent": [{"region": "us-east-1", "percent": 0}, {"region": "us-west-2", "percent": 100}], "startedAt": "2026-11-22T11:56:00Z", "failovers": 1999, "detected": 9, "pending": 90, "completed": 1898, "cancelled": 2, "forced": 1, "stalled": 0}]}]}`,
	"agents":                       `{"items": [AGENT]}`,
	"agents/" + jane:               `AGENT`,
	"agents/" + jane + "/contacts": `{"items": [{"contactId": "c1", "agentId": "` + jane + `", "region": "us-east-1", "channel": "VOICE", "state": "ENDED", "stateSince": "2026-11-22T11:59:30Z", "blocking": true, "surfaced": true, "observedAt": "2026-11-22T11:59:59Z", "stale": false}]}`,
	"failovers":                    `{"items": [FAILOVER]}`,
	"failovers/" + id:              `FAILOVER`,
	"failovers/" + id + "/force":   `FAILOVER`,
	"open-failovers": `{"totals": {"failovers": 2, "pending": 1, "live": 1, "afterContactWork": 1}, "items": [{"failoverId": "` + id + `", "agentId": "` + jane + `", "username": "jane", "failoverGroup": "main", "tdgId": "t1",
		"fromRegion": "us-east-1", "toRegion": "us-west-2", "status": "pending", "detectedAt": "2026-11-22T11:56:00Z", "pendingAt": "2026-11-22T11:56:01Z", "staleSince": null,
		"contacts": [{"contactId": "c1", "channel": "VOICE", "state": "CONNECTED", "stateSince": null}, {"contactId": "c2", "channel": "CHAT", "state": "ENDED", "stateSince": null}]}]}`,
	"session":         `{"subject": "olga@acme.example", "name": "Olga", "roles": ["viewer", "operator"], "agentId": null, "expiresAt": "2026-11-22T13:00:00Z", "tokens": true}`,
	"failovers/force": `{"matched": 90, "forced": 20}`,
	"connections":     `{"items": [{"connectionId": "k1", "agentId": null, "replica": "r1", "since": "2026-11-22T10:00:00Z", "lastEventId": null, "remoteAddress": "10.0.0.1"}]}`,
	"audit": `{"items": [{"auditId": "7", "time": "2026-11-22T11:58:00Z", "subject": "olga", "roles": ["operator"], "action": "pauseFailoverGroup", "target": "failover-groups/main", "reason": "storm\u001b[2J",
		"requestId": "r1", "outcome": "done", "details": null, "before": null, "after": null}]}`,
	"failover-groups/main/plan": `{"failoverGroup": "main", "toRegion": "us-west-2", "at": "2026-11-22T12:00:00Z", "counts": {"there": 0, "atOnce": 1900, "waits": 99, "unknown": 1},
		"items": [{"agentId": "` + jane + `", "username": "jane", "tdgId": "t1", "fromRegion": "us-east-1", "outcome": "waits", "evidence": null,
			"contacts": [{"contactId": "c1", "channel": "VOICE", "state": "CONNECTED", "stateSince": null}], "readAt": "2026-11-22T11:59:58Z", "stale": false, "streaming": true, "reports": false}], "nextCursor": "abc"}`,
	"failover-groups/main/pause":  `GROUP`,
	"failover-groups/main/drills": `DRILL`,
	"drills":                      `{"items": [DRILL]}`,
	"drills/" + id:                `DRILL`,
	"shifts":                      `{"items": [SHIFT]}`,
	"shifts/42": `{"shift": SHIFT, "phases": {"detection": {"count": 2, "p50Seconds": 6.3, "p95Seconds": 6.3, "maxSeconds": 6.3}, "release": {"count": 1, "p50Seconds": 0.4, "p95Seconds": 0.4, "maxSeconds": 0.4},
		"pending": {"count": 1, "p50Seconds": 184.2, "p95Seconds": 184.2, "maxSeconds": 184.2}, "total": {"count": 2, "p50Seconds": 92.4, "p95Seconds": 175.1, "maxSeconds": 184.3}, "confirmation": {"count": 0, "p50Seconds": null, "p95Seconds": null, "maxSeconds": null}},
		"byEvidence": [{"evidence": "inferred", "count": 1}, {"evidence": "forced", "count": 1}], "forcedBy": [{"by": "olga", "count": 1}]}`,
	"webhooks":                  `{"items": [{"name": "pager", "origin": "https://pager.example.com", "events": ["failoverDetected"], "failoverGroups": [], "behind": 0, "pending": 1, "dead": 2, "lastSuccessAt": null, "lastError": "503", "lastErrorAt": "2026-11-22T11:00:00Z"}]}`,
	"webhooks/pager/deliveries": `{"items": [DELIVERY]}`,
	"webhooks/pager/deliveries/" + id + "/replay": `DELIVERY`,
}

var things = strings.NewReplacer(
	"GROUP", `{"name": "main", "routing": "regional", "pause": {"by": "olga", "reason": "storm", "since": "2026-11-22T11:58:00Z", "until": "2026-11-22T12:28:00Z"},
		"instances": [{"region": "us-east-1", "instanceId": "i", "ccpUrl": null, "source": true}, {"region": "us-west-2", "instanceId": "i", "ccpUrl": null, "source": false}],
		"health": [{"region": "us-east-1", "state": "down", "since": "2026-11-22T11:00:00Z", "lastSuccess": "2026-11-22T10:59:58Z", "lastError": "no answer", "lastErrorAt": "2026-11-22T11:59:59Z", "observedAt": "2026-11-22T12:00:00Z"},
			{"region": "us-west-2", "state": "healthy", "since": "2026-11-22T08:00:00Z", "lastSuccess": "2026-11-22T11:59:59Z", "lastError": null, "lastErrorAt": null, "observedAt": "2026-11-22T12:00:00Z"}],
		"configureErrors": [{"code": "TDG_NOT_FOUND", "message": "The traffic distribution group t2 does not exist.", "since": null}]}`,
	"AGENT", `{"agentId": "`+jane+`", "username": "jane", "failoverGroup": "main", "regions": ["us-east-1", "us-west-2"], "tdgId": "t1", "activeRegion": "us-east-1", "activeCcpUrl": null, "regionSource": "distribution",
		"observedAt": "2026-11-22T11:59:58Z", "state": "pending", "nextActiveRegion": "us-west-2", "failoverId": "`+id+`", "openContacts": 1, "standby": {"region": "us-west-2", "ready": false, "reason": "popup blocked", "reportedAt": "2026-11-22T11:00:00Z"},
		"configureErrors": [{"code": "STANDBY_NOT_INITIALIZED", "message": "The other CCP does not come up.", "since": null}], "connections": 1}`,
	"FAILOVER", `{"failoverId": "`+id+`", "agentId": "`+jane+`", "failoverGroup": "main", "tdgId": "t1", "fromRegion": "us-east-1", "toRegion": "us-west-2", "status": "completed", "cause": "distribution",
		"detectedAt": "2026-11-22T11:56:00Z", "pendingAt": "2026-11-22T11:56:01Z", "completedAt": "2026-11-22T11:59:00Z", "cancelledAt": null, "confirmedAt": null, "stalledAt": null, "staleSince": null,
		"evidence": "forced", "forced": true, "forcedBy": "olga", "forcedReason": "agreed", "contactIds": ["c1"], "initialContactIds": ["c1"]}`,
	"DRILL", `{"drillId": "`+id+`", "failoverGroup": "main", "by": "olga", "reason": "rehearsal", "startedAt": "2026-11-22T11:50:00Z", "until": "2026-11-22T12:00:00Z", "endedAt": null,
		"counts": {"detected": 0, "pending": 1, "completed": 0, "cancelled": 0, "skipped": 0, "notStreaming": 1, "standbyNotReady": 1},
		"agents": [{"agentId": "`+jane+`", "username": "jane", "fromRegion": "us-east-1", "toRegion": "us-west-2", "outcome": "pending", "detail": null, "streaming": false, "standbyReady": false, "contactIds": ["c1"], "pendingAt": null, "completedAt": null, "cancelledAt": null}]}`,
	"SHIFT", `{"shiftId": "42", "failoverGroup": "main", "tdgId": "t1", "before": [{"region": "us-east-1", "percent": 100}, {"region": "us-west-2", "percent": 0}], "after": [{"region": "us-east-1", "percent": 0}, {"region": "us-west-2", "percent": 100}],
		"startedAt": "2026-11-22T11:56:00Z", "endedAt": null, "observedBy": "us-west-2", "conflict": false, "failovers": 2, "detected": 0, "pending": 0, "completed": 2, "cancelled": 0, "forced": 1, "stalled": 0}`,
	"DELIVERY", `{"deliveryId": "`+id+`", "webhook": "pager", "status": "dead", "attempts": 300, "events": 2, "createdAt": "2026-11-21T10:00:00Z", "nextAttemptAt": null, "deliveredAt": null, "lastError": "503"}`,
)

// TestTables holds what people see, of answers that the document allows, against testdata/tables.txt; -update writes it again.
func TestTables(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	require.NoError(t, err)
	doc.Servers = nil
	router, err := legacy.NewRouter(doc)
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, known := answers[strings.TrimPrefix(r.URL.Path, "/v1/")]
		if !known {
			t.Errorf("there is no answer to %s", r.URL.Path)
		}
		body = things.Replace(body)
		status := http.StatusOK
		if r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/plan") {
			status = http.StatusAccepted
		}
		route, params, err := router.FindRoute(r)
		if err == nil {
			options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
			answer := &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options},
				Status:                 status, Header: http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"r1"}}, Options: options,
			}
			answer.SetBodyBytes([]byte(body))
			err = openapi3filter.ValidateResponse(r.Context(), answer)
		}
		if err != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer server.Close()

	var got bytes.Buffer
	for _, line := range []string{
		"groups", "groups main", "summary", "agents", "agents " + jane, "contacts " + jane, "failovers", "failovers " + id, "pending", "whoami", "connections", "audit",
		"plan main --to us-west-2", "pause main --reason storm", "resume main", "force " + id + " --reason agreed", "force-many main --reason down",
		"shifts", "shifts 42", "drill main " + jane + " --reason rehearsal", "drills", "drills " + id, "webhooks", "deliveries pager", "replay pager " + id,
	} {
		out, err := run(t, server.URL, line)
		require.NoError(t, err, line)
		fmt.Fprintf(&got, "$ server ctl %s\n%s\n", line, out)
	}
	const file = "testdata/tables.txt"
	if *update {
		require.NoError(t, os.WriteFile(file, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
	require.NotContains(t, got.String(), "\x1b", "a text of somebody's reaches the terminal as a command")
}

// An answer with nothing in it is told as such, and every command has a table.
func TestEmptyTables(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"items":[]}`)
	}))
	defer server.Close()
	for line := range commands {
		if strings.Contains(line, "--csv") {
			continue
		}
		out, err := run(t, server.URL, line)
		require.NoError(t, err, line)
		require.False(t, json.Valid([]byte(out)) && out != "", "%s prints JSON", line)
	}
	for _, line := range []string{"agents", "failovers", "shifts", "audit", "webhooks"} {
		out, err := run(t, server.URL, line)
		require.NoError(t, err)
		require.Equal(t, "(none)\n", out)
	}
	_, err := run(t, server.URL, "agents --output yaml")
	require.ErrorContains(t, err, "--output")
}
