package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	document "changeover/api"
	"changeover/internal/api"
	"changeover/internal/api/apitest"
	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
)

// documented is an operation of the document with a request that is good for it.
type documented struct {
	id, method, path string
	roles            []string
	public           bool
	body             any
	op               *openapi3.Operation
}

// bodies are good bodies by operation.
var bodies = map[string]any{
	"reportObservation": map[string]any{"activeRegion": east},
	"forceFailover":     map[string]any{"reason": "test"},
	"forceFailovers":    map[string]any{"failoverGroup": "main", "reason": "test"},
}

// operations lists every operation of the document. failoverID stands in for paths that need one.
func operations(t testing.TB, failoverID string) (list []documented) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	path := strings.NewReplacer("{agentId}", jane, "{failoverId}", failoverID, "{tdgId}", tdgID, "{region}", east, "{name}", "main")
	for pattern, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			d := documented{id: op.OperationID, method: method, path: path.Replace(pattern), op: op, body: bodies[op.OperationID]}
			d.public = op.Security != nil && len(*op.Security) == 0
			for _, r := range op.Extensions["x-roles"].([]any) {
				d.roles = append(d.roles, r.(string))
			}
			require.Equal(t, op.RequestBody != nil, d.body != nil, "give %s a body in this test", d.id)
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b documented) int { return strings.Compare(a.id, b.id) })
	require.Equal(t, 26, len(list)) //nolint:testifylint // the list itself says nothing
	return list
}

func (d documented) request(s *service, headers ...string) answer {
	s.t.Helper()
	return s.request(d.method, d.path, d.body, headers...)
}

// mutates says whether the operation takes an Idempotency-Key, as every mutation does and nothing else.
func (d documented) mutates() bool {
	return d.op.Parameters.GetByInAndName("header", "Idempotency-Key") != nil
}

// Every operation answers as the document says; the transport checks each answer's body, type and headers.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *api.Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			fmt.Fprintln(w, "changeover_leader 1")
		})
	})
	s.leader.floor()
	s.leader.shift()
	s.leader.answer()
	special := map[string]int{
		"createSession": 501, "deleteSession": 501, "createStreamTicket": 501,
		"reportObservation": 202, "forceFailover": 202, "forceFailovers": 202,
	}
	for _, d := range operations(t, s.leader.openFailover(jane)) {
		want := special[d.id]
		if want == 0 {
			want = 200
		}
		a := d.request(s)
		require.Equal(t, want, a.status, "%s: %s", d.id, a.body)
	}
}

// Every mutation takes an Idempotency-Key, and refuses one that was used for something else. What answers with a credential
// takes the header and keeps nothing: no proof of identity may be stored.
func TestEveryMutationTakesAKey(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, err := s.leader.store.BeginIdempotent(t.Context(), "local", "taken", []byte("another request"))
	require.NoError(t, err)
	for _, d := range operations(t, "none") {
		require.Equal(t, d.method != http.MethodGet, d.mutates(), d.id)
		switch d.id {
		case "createSession", "deleteSession", "createStreamTicket":
			require.Equal(t, http.StatusNotImplemented, d.request(s, "Idempotency-Key", "taken").status, d.id)
			continue
		}
		if d.mutates() {
			p := read[contract.Problem](t, d.request(s, "Idempotency-Key", "taken"), http.StatusUnprocessableEntity)
			require.Equal(t, "urn:changeover:problem:idempotency-key-reused", p.Type, d.id)
		}
	}
}

// Whatever the operation, what it does not know is refused and named.
func TestUnknownParametersAreNamed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, d := range operations(t, "none") {
		a := s.request(d.method, d.path+"?limt=5", d.body)
		p := read[contract.Problem](t, a, http.StatusBadRequest)
		require.Equal(t, "urn:changeover:problem:invalid-request", p.Type, d.id)
		require.Equal(t, []contract.FieldError{{Field: "limt", In: "query", Message: "is not a parameter of this operation"}}, p.Errors, d.id)
	}
}

func TestUnknownFieldsAreNamed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, d := range operations(t, "none") {
		if d.body == nil {
			continue
		}
		body := map[string]any{"reasn": "x"}
		for k, v := range d.body.(map[string]any) {
			body[k] = v
		}
		p := read[contract.Problem](t, s.request(d.method, d.path, body), http.StatusBadRequest)
		require.Equal(t, []contract.FieldError{{Field: "reasn", In: "body", Message: "is not a field of this body"}}, p.Errors, d.id)
	}
}

// A limit is a number from 1 to 1000 and a cursor is the list's own, in every list.
func TestPagingParameters(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	lists := 0
	for _, d := range operations(t, "none") {
		if d.op.Parameters.GetByInAndName("query", "limit") == nil {
			continue
		}
		for _, limit := range []string{"0", "1001", "-1", "x", "1.5", "", "1e2", "9999999999999999999999"} {
			p := read[contract.Problem](t, s.get(d.path+"?limit="+limit), http.StatusBadRequest)
			require.Equal(t, "limit", p.Errors[0].Field, "%s limit=%s", d.id, limit)
		}
		require.Equal(t, http.StatusOK, s.get(d.path+"?limit=1000").status, d.id)
		require.Equal(t, http.StatusBadRequest, s.get(d.path+"?limit=1&limit=2").status, "%s: a limit twice", d.id)
		if d.op.Parameters.GetByInAndName("query", "cursor") == nil {
			continue
		}
		lists++
		for _, cursor := range []string{"x", "!!!", "WyJub25lIiwiYSJd", "contacts.", "groups", "%00", strings.Repeat("A", 2000)} {
			p := read[contract.Problem](t, s.get(d.path+"?cursor="+cursor), http.StatusBadRequest)
			require.Equal(t, "cursor", p.Errors[0].Field, "%s cursor=%s", d.id, cursor)
		}
	}
	require.Equal(t, 8, lists)
}

// Every operation, every role, one's own things and somebody else's: the whole table of permissions. x-roles of the document
// is that table; what it comes to is written out here for people to check.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	s.leader.shift()
	s.leader.answer()
	failover := s.leader.openFailover(jane)

	const everybody, own, no = "everybody's", "own", "no"
	viewers := map[string]string{"agent": no, "viewer": everybody, "operator": everybody, "admin": everybody}
	viewersOrAgent := map[string]string{"agent": own, "viewer": everybody, "operator": everybody, "admin": everybody}
	operators := map[string]string{"agent": no, "viewer": no, "operator": everybody, "admin": everybody}
	operatorsOrAgent := map[string]string{"agent": own, "viewer": no, "operator": everybody, "admin": everybody}
	anybody := map[string]string{"agent": everybody, "viewer": everybody, "operator": everybody, "admin": everybody}
	table := map[string]map[string]string{
		"listFailoverGroups": viewers, "getFailoverGroup": viewers, "listTrafficDistributionGroups": viewers,
		"getTrafficDistributionGroup": viewers, "listDistributionChanges": viewers, "listAgents": viewers,
		"getAgent": viewersOrAgent, "listAgentContacts": viewersOrAgent, "getAgentEvents": viewersOrAgent, "getAgentLog": viewersOrAgent,
		"createStreamTicket": operatorsOrAgent, "reportObservation": {"agent": own, "viewer": no, "operator": no, "admin": no},
		"listFailovers": viewers, "getFailover": viewersOrAgent, "forceFailover": operatorsOrAgent, "forceFailovers": operators,
		"getEvents": viewers, "createSession": anybody, "deleteSession": anybody, "getSummary": viewers, "listConnections": viewers,
		"listAudit": {"agent": no, "viewer": no, "operator": no, "admin": everybody},
	}
	for _, d := range operations(t, failover) {
		if d.public {
			require.Contains(t, []string{"livez", "readyz", "metrics", "openapi"}, d.id)
			require.NotEqual(t, http.StatusUnauthorized, d.request(s).status, d.id)
			continue
		}
		require.Contains(t, table, d.id)
		refused := d.request(s)
		require.Equal(t, http.StatusUnauthorized, refused.status, d.id)
		require.Equal(t, `Bearer realm="changeover"`, refused.header.Get("WWW-Authenticate"))
		require.Equal(t, http.StatusForbidden, d.request(s, "X-Test-As", "nobody").status, d.id)

		for role, may := range table[d.id] {
			callers := map[string]bool{role: may == everybody, role + ":" + joe: may == everybody}
			if role == "agent" {
				callers[role+":"+jane] = may != no
			}
			for caller, allowed := range callers {
				a := d.request(s, "X-Test-As", caller)
				switch {
				case allowed:
					require.NotContains(t, []int{401, 403, 404}, a.status, "%s as %s: %s", d.id, caller, a.body)
				case may == own:
					require.Equal(t, http.StatusNotFound, a.status, "%s as %s", d.id, caller)
				default:
					require.Equal(t, http.StatusForbidden, a.status, "%s as %s", d.id, caller)
				}
			}
		}
	}
}

// Probing for ids: an agent must not learn from an answer whether an agent or a failover exists.
func TestForeignAndMissingAnswerAlike(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	s.leader.shift()
	me := []string{"X-Test-As", "agent:" + joe, "X-Request-Id", "same"}
	reason := map[string]any{"reason": "x"}
	alike := func(foreign, missing answer, foreignID, missingID string) {
		t.Helper()
		require.Equal(t, http.StatusNotFound, foreign.status)
		require.Equal(t, missing.status, foreign.status)
		require.Equal(t, strings.ReplaceAll(missing.body, missingID, foreignID), foreign.body)
	}
	const nobody = "87654321-1111-2222-3333-999999999999"
	for _, suffix := range []string{"", "/contacts", "/events", "/events?wait=1", "/logs/us-east-1", "/logs/nowhere-1"} {
		alike(s.get("/v1/agents/"+jane+suffix, me...), s.get("/v1/agents/"+nobody+suffix, me...), jane, nobody)
	}
	stream := append([]string{"Accept", "text/event-stream"}, me...)
	alike(s.get("/v1/agents/"+jane+"/events", stream...), s.get("/v1/agents/"+nobody+"/events", stream...), jane, nobody)
	alike(s.post("/v1/agents/"+jane+"/reports", "{", me...), s.post("/v1/agents/"+nobody+"/reports", "{", me...), jane, nobody)

	const none = "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e5f"
	id := s.leader.openFailover(jane)
	alike(s.get("/v1/failovers/"+id, me...), s.get("/v1/failovers/"+none, me...), id, none)
	alike(s.post("/v1/failovers/"+id+"/force", reason, me...), s.post("/v1/failovers/"+none+"/force", reason, me...), id, none)
	require.Equal(t, id, s.leader.openFailover(jane), "it is not forced")
}

// What was refused on a mutation is in the audit too, with who tried.
func TestRefusalsAreAudited(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	s.leader.shift()
	id := s.leader.openFailover(jane)
	path := "/v1/failovers/" + id + "/force"
	require.Equal(t, http.StatusForbidden, s.post(path, reason("x"), "X-Test-As", "viewer").status)
	require.Equal(t, http.StatusNotFound, s.post(path, reason("mine now"), "X-Test-As", "agent:"+joe).status)
	require.Equal(t, http.StatusNotFound, s.post("/v1/agents/"+jane+"/reports", bodies["reportObservation"], "X-Test-As", "agent:"+joe).status)
	require.Equal(t, http.StatusForbidden, s.get("/v1/agents", "X-Test-As", "agent:"+joe).status, "reading is not audited")
	var got [][3]string
	for _, e := range read[contract.AuditList](t, s.get("/v1/audit", "X-Test-As", "admin"), http.StatusOK).Items {
		got = append(got, [3]string{e.Subject, e.Target, e.Outcome})
	}
	require.Equal(t, [][3]string{
		{"agent:" + joe, "agents/" + jane + "/reports", "not-found"},
		{"agent:" + joe, "failovers/" + id, "not-found"},
		{"viewer", "failovers/" + id + "/force", "forbidden"},
	}, got)
}

// A fault that is not the database's absence is a 500 that says nothing of itself to the caller.
func TestInternalErrorsStayInside(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	conn, err := pgx.Connect(t.Context(), s.db.url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `ALTER SCHEMA public RENAME TO elsewhere`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	for _, d := range operations(t, "none") {
		if _, ok := d.op.Responses.Map()["500"]; !ok {
			continue
		}
		a := d.request(s)
		switch d.id {
		case "createSession", "deleteSession", "createStreamTicket", "getEvents", "getAgentEvents":
			continue // they need no database here
		}
		require.Equal(t, http.StatusInternalServerError, a.status, "%s: %s", d.id, a.body)
		require.NotContains(t, a.body, "relation")
		require.NotContains(t, a.body, "SQLSTATE")
		require.Contains(t, s.logs.String(), a.header.Get("X-Request-Id"), "%s: the log has what the caller is not told", d.id)
	}
}

func TestMethodNotAllowed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for path, allow := range map[string]string{
		"/v1/agents": "GET", "/v1/session": "DELETE, POST", "/v1/failovers/force": "GET, POST", "/livez": "GET",
	} {
		a := s.request(http.MethodPut, path, nil)
		require.Equal(t, "urn:changeover:problem:method-not-allowed", read[contract.Problem](t, a, http.StatusMethodNotAllowed).Type)
		require.Equal(t, allow, a.header.Get("Allow"), path)
	}
	require.Equal(t, http.StatusMethodNotAllowed, s.request("BREW", "/v1/agents", nil).status)
}

func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a := s.get("/openapi.yaml")
	require.Equal(t, string(document.Document), a.body)
	require.Equal(t, "application/yaml", a.header.Get("Content-Type"))
}

// Each example of the document matches its schema.
func TestExamplesOfTheDocument(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	require.NoError(t, err)
	n := 0
	for name, ref := range doc.Components.Schemas {
		for _, example := range ref.Value.Examples {
			n++
			require.NoError(t, ref.Value.VisitJSON(example, openapi3.EnableJSONSchema2020()), name)
		}
	}
	require.Greater(t, n, 10)
}

// Requests are validated by kin-openapi's own validator, which ignores what only JSON Schema 2020-12 has. No schema of a request
// may rely on that.
func TestRequestSchemasNeedNo2020(t *testing.T) {
	t.Parallel()
	check := func(where string, ref *openapi3.SchemaRef) {
		err := openapi3.NewSchemaRef("", ref.Value).WalkSubtree(func(path string, s *openapi3.SchemaRef) error {
			v := s.Value
			if v.Const != nil || len(v.PrefixItems) > 0 || v.Contains != nil || len(v.PatternProperties) > 0 || v.PropertyNames != nil ||
				v.If != nil || len(v.DependentRequired) > 0 || len(v.DependentSchemas) > 0 ||
				v.UnevaluatedProperties.Has != nil || v.UnevaluatedItems.Has != nil {
				return fmt.Errorf("%s uses a keyword of JSON Schema 2020-12", path)
			}
			return nil
		})
		require.NoError(t, err, where)
	}
	for _, d := range operations(t, "none") {
		for _, p := range d.op.Parameters {
			check(d.id+" "+p.Value.Name, p.Value.Schema)
		}
		if d.op.RequestBody != nil {
			check(d.id+" body", d.op.RequestBody.Value.Content.Get("application/json").Schema)
		}
	}
}

// Every event of the core has its schema, and its data has nothing else.
func TestEventsMatchTheirSchemas(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	s.leader.distribute(100) // jane's is cancelled
	s.leader.distribute(0)
	s.leader.contacts()
	s.caughtUp()
	items := read[contract.EventList](t, s.get("/v1/events?limit=1000"), http.StatusOK).Items // checked by the transport
	seen := make(map[string]bool)
	for _, i := range items {
		seen[i.Event] = true
		require.NoError(t, apitest.CheckEvent(i.Event, i.Data))
	}
	for _, name := range []string{"snapshot", "failoverDetected", "failoverPending", "failoverCompleted", "failoverCancelled"} {
		require.True(t, seen[name], "%s was not seen among %v", name, seen)
	}
}

// The document's security and the authenticator's roles speak of the same things.
func TestEveryRoleIsKnown(t *testing.T) {
	t.Parallel()
	known := []auth.Role{auth.Agent, auth.Viewer, auth.Operator, auth.Admin}
	used := make(map[auth.Role]bool)
	for _, d := range operations(t, "none") {
		for _, r := range d.roles {
			require.Contains(t, known, auth.Role(r))
			used[auth.Role(r)] = true
		}
	}
	require.Len(t, used, len(known))
	b, err := json.Marshal(contract.Problem{})
	require.NoError(t, err)
	require.NotContains(t, string(b), "errors")
}
