package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"

	document "changeover/api"
	"changeover/internal/ctl"
)

const (
	id   = "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e5f"
	jane = "87654321-1111-2222-3333-444455556666"
)

// noon is when the commands are run.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// commands are all of them, with the call that each is.
var commands = map[string]string{
	"groups":      "GET /v1/failover-groups",
	"groups main": "GET /v1/failover-groups/main",
	"summary":     "GET /v1/summary",
	"agents --group main --tdg t1 --active-region us-east-1 --state pending --username jane --limit 5 --cursor x": "GET /v1/agents?activeRegion=us-east-1&cursor=x&failoverGroup=main&limit=5&state=pending&tdgId=t1&username=jane",
	"agents " + jane:   "GET /v1/agents/" + jane,
	"contacts " + jane: "GET /v1/agents/" + jane + "/contacts",
	"failovers":        "GET /v1/failovers",
	"failovers --status pending --from us-east-1 --to us-west-2 --since 2026-11-22T12:00:00Z --agent " + jane: "GET /v1/failovers?agentId=" + jane + "&fromRegion=us-east-1&since=2026-11-22T12%3A00%3A00Z&status=pending&toRegion=us-west-2",
	"failovers " + id:    "GET /v1/failovers/" + id,
	"agents --search ja": "GET /v1/agents?search=ja",
	"whoami":             "GET /v1/session",
	"pending --group main --tdg t1 --from us-east-1 --channel VOICE --phase talking --stale --order username --limit 5": "GET /v1/open-failovers?channel=VOICE&failoverGroup=main&fromRegion=us-east-1&limit=5&order=username&phase=talking&stale=true&tdgId=t1",
	"force-many main --failover a --failover b --reason down":                                                           `POST /v1/failovers/force {"failoverGroup":"main","failoverIds":["a","b"],"reason":"down"}`,
	"connections --agent " + jane: "GET /v1/connections?agentId=" + jane,
	"audit --subject olga --action forceFailover --target failovers/f1 --outcome done --since 2026-11-22T12:00:00Z": "GET /v1/audit?action=forceFailover&outcome=done&since=2026-11-22T12%3A00%3A00Z&subject=olga&target=failovers%2Ff1",
	"audit --limit 10":                                  "GET /v1/audit?limit=10",
	"plan main --to us-west-2":                          `POST /v1/failover-groups/main/plan {"toRegion":"us-west-2"}`,
	"plan main --to us-west-2 --outcome waits --tdg t1": `POST /v1/failover-groups/main/plan?outcome=waits {"tdgId":"t1","toRegion":"us-west-2"}`,
	"pause main --reason storm":                         `POST /v1/failover-groups/main/pause {"reason":"storm","ttlSeconds":1800}`,
	"pause main --for 90s --reason storm":               `POST /v1/failover-groups/main/pause {"reason":"storm","ttlSeconds":90}`,
	"resume main":                                       "DELETE /v1/failover-groups/main/pause",
	"force " + id + " --reason agreed":                  "POST /v1/failovers/" + id + `/force {"reason":"agreed"}`,
	"force-many main --from us-east-1 --only-stale --reason down --max-per-second 50": `POST /v1/failovers/force {"failoverGroup":"main","fromRegion":"us-east-1","maxPerSecond":50,"onlyStale":true,"reason":"down"}`,
	"force-many main --tdg t1 --max-fraction 0.1 --reason down":                       `POST /v1/failovers/force {"failoverGroup":"main","maxFraction":0.1,"reason":"down","tdgId":"t1"}`,
	"shifts --group main --tdg t1":                                                    "GET /v1/shifts?failoverGroup=main&tdgId=t1",
	"shifts 42":                                                                       "GET /v1/shifts/42",
	"shifts 42 --csv":                                                                 "GET /v1/shifts/42/failovers.csv",
	"drill main " + jane + " --for 5m --reason rehearsal":                             `POST /v1/failover-groups/main/drills {"agentIds":["` + jane + `"],"reason":"rehearsal","ttlSeconds":300}`,
	"drills --group main":                                                             "GET /v1/drills?failoverGroup=main",
	"drills " + id:                                                                    "GET /v1/drills/" + id,
	"webhooks":                                                                        "GET /v1/webhooks",
	"deliveries pager --status dead":                                                  "GET /v1/webhooks/pager/deliveries?status=dead",
	"replay pager " + id:                                                              "POST /v1/webhooks/pager/deliveries/" + id + "/replay",
}

func run(t *testing.T, endpoint, line string) (string, error) {
	t.Helper()
	var command ctl.Command
	parser, err := kong.New(&command, kong.Name("ctl"), kong.Exit(func(int) { t.Fatalf("%s: it exits", line) }))
	require.NoError(t, err)
	k, err := parser.Parse(append(strings.Fields(line), "--endpoint", endpoint))
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	k.Bind(&ctl.Caller{Out: &out, Now: func() time.Time { return noon }})
	k.BindTo(t.Context(), (*context.Context)(nil))
	err = k.Run()
	return out.String(), err
}

// Each command is one call, and one that the document has, with parameters and body as it wants them.
func TestEveryCommandIsOneDocumentedCall(t *testing.T) {
	t.Setenv("CHANGEOVER_TOKEN", "a-token")
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	require.NoError(t, err)
	doc.Servers = nil
	router, err := legacy.NewRouter(doc)
	require.NoError(t, err)
	var calls []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		target := r.URL.EscapedPath()
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.Query().Encode()
		}
		calls = append(calls, strings.TrimSpace(r.Method+" "+target+" "+canonical(body)))
		var route *routers.Route
		route, params, err := router.FindRoute(r)
		if err == nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
			err = openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
				Request: r, PathParams: params, Route: route,
				Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
			})
		}
		if err != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		if r.Header.Get("Authorization") != "Bearer a-token" {
			t.Errorf("%s: Authorization is %q", r.URL, r.Header.Get("Authorization"))
		}
		if r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/plan") && r.Header.Get("Idempotency-Key") == "" {
			t.Errorf("%s: no Idempotency-Key", r.URL)
		}
		if strings.HasSuffix(r.URL.Path, ".csv") {
			w.Header().Set("Content-Type", "text/csv")
			fmt.Fprint(w, "a,b\r\n")
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprint(w, `{"items":[]}`)
	}))
	defer server.Close()
	used := map[string]bool{}
	for line, want := range commands {
		calls = nil
		out, err := run(t, server.URL, line+" --output json")
		require.NoError(t, err, line)
		require.Equal(t, []string{want}, calls, line)
		if strings.Contains(line, "--csv") {
			require.Equal(t, "a,b\r\n", out)
		} else {
			require.Equal(t, []string{"{", `  "items": []`, "}", ""}, strings.Split(out, "\n"), line)
		}
		used[strings.Fields(line)[0]] = true
	}
	for f := range reflect.TypeFor[ctl.Command]().Fields() {
		if _, ok := f.Tag.Lookup("cmd"); ok {
			name := strings.ToLower(f.Name)
			if f.Name == "ForceMany" {
				name = "force-many"
			}
			require.True(t, used[name], "%s is not tested", name)
		}
	}
}

// canonical is JSON with its members in order.
func canonical(body []byte) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return string(body)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>nginx</html>")
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"type":"urn:x","title":"Refused by a rule","status":422,"detail":"maxFraction: too many","requestId":"r1","errors":[{"field":"reason","in":"body","message":"is too long"}]}`)
	}))
	defer server.Close()
	_, err := run(t, server.URL, "force-many main --reason x")
	require.EqualError(t, err, "Refused by a rule (422): maxFraction: too many: reason is too long [request r1]")
	_, err = run(t, server.URL, "summary")
	require.EqualError(t, err, "the service answered 502 Bad Gateway")
	_, err = run(t, "http://127.0.0.1:1", "summary")
	require.ErrorContains(t, err, "connect")
	for _, line := range []string{"pause main", "force " + id, "plan main", "drill main " + jane, "pause main --reason x --for 90ms", "shifts --csv"} {
		_, err = run(t, server.URL, line)
		require.Error(t, err, line)
	}
}
