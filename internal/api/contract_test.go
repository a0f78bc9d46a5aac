package api_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
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

// shiftID is that of the first shift of a database: what was known first is no shift, and has the number before.
const shiftID = "2"

// deliveryID is that of a delivery which [service.deliver] makes.
const deliveryID = "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e5f"

// drillID is that of a drill which [service.rehearse] makes.
const drillID = "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e70"

// bodies are good bodies by operation.
var bodies = map[string]any{
	"reportObservation":  map[string]any{"activeRegion": east},
	"forceFailover":      map[string]any{"reason": "test"},
	"forceFailovers":     map[string]any{"failoverGroup": "main", "reason": "test", "onlyStale": true},
	"pauseFailoverGroup": map[string]any{"reason": "test"},
	"startDrill":         map[string]any{"agentIds": []string{joe}, "reason": "test"},
	"planFailoverGroup":  map[string]any{"toRegion": west},
}

// operations lists every operation of the document. failoverID stands in for paths that need one.
func operations(t testing.TB, failoverID string) (list []documented) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	path := strings.NewReplacer("{agentId}", jane, "{failoverId}", failoverID, "{tdgId}", tdgID, "{region}", east, "{name}", "main", "{shiftId}", shiftID, "{webhook}", "pager", "{deliveryId}", deliveryID, "{drillId}", drillID)
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
	require.Equal(t, 41, len(list)) //nolint:testifylint // the list itself says nothing
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
	s.deliver(deliveryID)
	s.rehearse(drillID)
	s.leader.answer()
	special := map[string]int{
		"createSession": 501, "deleteSession": 501, "createStreamTicket": 501,
		"reportObservation": 202, "forceFailover": 202, "forceFailovers": 202,
		"pauseFailoverGroup": 202, "resumeFailoverGroup": 202, "replayWebhookDelivery": 202, "startDrill": 202,
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
		require.Equal(t, d.method != http.MethodGet && d.id != "planFailoverGroup", d.mutates(), d.id) // a plan changes nothing
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
			p := read[contract.Problem](t, s.request(d.method, d.path+"?limit="+limit, d.body), http.StatusBadRequest)
			require.Equal(t, "limit", p.Errors[0].Field, "%s limit=%s", d.id, limit)
		}
		require.Equal(t, http.StatusOK, s.request(d.method, d.path+"?limit=1000", d.body).status, d.id)
		require.Equal(t, http.StatusBadRequest, s.request(d.method, d.path+"?limit=1&limit=2", d.body).status, "%s: a limit twice", d.id)
		if d.op.Parameters.GetByInAndName("query", "cursor") == nil {
			continue
		}
		lists++
		for _, cursor := range []string{"x", "!!!", "WyJub25lIiwiYSJd", "contacts.", "groups", "%00", strings.Repeat("A", 2000)} {
			p := read[contract.Problem](t, s.request(d.method, d.path+"?cursor="+cursor, d.body), http.StatusBadRequest)
			require.Equal(t, "cursor", p.Errors[0].Field, "%s cursor=%s", d.id, cursor)
		}
	}
	require.Equal(t, 13, lists)
}

// permissions is the whole table of who may do what, written out for people to check: x-roles of the document has to come to it.
// Each operation has what an agent, a viewer, an operator and an admin may do it to: a everybody's things, o one's own, - nothing.
var permissions = map[string]string{
	"listFailoverGroups": "-aaa", "getFailoverGroup": "-aaa",
	"listTrafficDistributionGroups": "-aaa", "getTrafficDistributionGroup": "-aaa", "listDistributionChanges": "-aaa",
	"listAgents": "-aaa", "getAgent": "oaaa", "listAgentContacts": "oaaa", "getAgentEvents": "oaaa", "getAgentLog": "oaaa",
	"createStreamTicket": "o-aa", "reportObservation": "o---",
	"listFailovers": "-aaa", "listOpenFailovers": "-aaa", "getShiftProgress": "-aaa", "getFailover": "oaaa", "forceFailover": "o-aa", "forceFailovers": "--aa",
	"pauseFailoverGroup": "--aa", "resumeFailoverGroup": "--aa", "planFailoverGroup": "-aaa",
	"startDrill": "--aa", "listDrills": "-aaa", "getDrill": "-aaa",
	"listWebhooks": "-aaa", "listWebhookDeliveries": "-aaa", "replayWebhookDelivery": "--aa",
	"listShifts": "-aaa", "getShift": "-aaa", "getShiftFailovers": "-aaa",
	"getEvents": "-aaa", "getSummary": "-aaa", "listConnections": "-aaa", "listAudit": "---a",
	"getSession": "aaaa", "createSession": "aaaa", "deleteSession": "aaaa", // one's own by their nature
	"livez": "public", "readyz": "public", "metrics": "public", "openapi": "public",
}

var allRoles = []auth.Role{auth.Agent, auth.Viewer, auth.Operator, auth.Admin}

// Every operation, every set of roles, and whose things they are: one's own, somebody else's, those of nobody who exists. Whoever has
// several roles may do what one of them may.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles, func(o *api.Options) { o.Sessions = noSessions{} })
	s.leader.floor()
	s.leader.shift()
	s.deliver(deliveryID)
	s.rehearse(drillID)
	s.leader.answer()
	const nobody, none = "87654321-1111-2222-3333-999999999999", "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e5f"
	janes := s.leader.openFailover(jane)
	ops := operations(t, janes)
	require.Len(t, permissions, len(ops))
	checked := 0
	for _, d := range ops {
		may, ok := permissions[d.id]
		require.True(t, ok, d.id)
		require.Equal(t, may == "public", d.public, d.id)
		if d.public {
			require.NotEqual(t, http.StatusUnauthorized, d.request(s).status, d.id)
			continue
		}
		refused := d.request(s)
		require.Equal(t, http.StatusUnauthorized, refused.status, d.id)
		require.Equal(t, `Bearer realm="changeover"`, refused.header.Get("WWW-Authenticate"))

		if d.id == "forceFailovers" || d.id == "pauseFailoverGroup" || d.id == "startDrill" {
			d.body = map[string]any{} // 400 for who may: with nothing to force the leader's answer takes a quarter of a second
		}
		missing := d
		missing.path = strings.NewReplacer(jane, nobody, janes, none).Replace(d.path)
		ofAnAgent := missing.path != d.path
		for set := range 1 << len(allRoles) {
			var names []string
			everybodys, own := false, false
			for n, role := range allRoles {
				if set&(1<<n) != 0 {
					names = append(names, string(role))
					everybodys = everybodys || may[n] == 'a'
					own = own || may[n] == 'o'
				}
			}
			roles := strings.Join(names, "+")
			// Whoever is an agent is jane, whose things these are, or joe; the others have no agent, or one and not the role.
			for caller, owner := range map[string]bool{"": false, ":" + joe: false, ":" + jane: set&1 != 0} {
				checked++
				who := cmp.Or(roles, "nobody") + caller
				a := d.request(s, "X-Test-As", who, "X-Request-Id", "same")
				switch {
				case everybodys || own && owner:
					require.NotContains(t, []int{401, 403, 404}, a.status, "%s as %s: %s", d.id, who, a.body)
					require.Less(t, a.status, 500, "%s as %s: %s", d.id, who, a.body)
				case own: // for a desktop there are no other agents
					require.Equal(t, http.StatusNotFound, a.status, "%s as %s", d.id, who)
				default:
					require.Equal(t, http.StatusForbidden, a.status, "%s as %s", d.id, who)
				}
				if !ofAnAgent {
					continue
				}
				b := missing.request(s, "X-Test-As", who, "X-Request-Id", "same")
				switch {
				case everybodys && d.id == "createStreamTicket":
					require.Less(t, b.status, 300, "%s as %s: it may be wanted for an agent who is not known yet", d.id, who)
				case everybodys || own:
					require.Equal(t, http.StatusNotFound, b.status, "%s as %s", d.id, who)
				default:
					require.Equal(t, http.StatusForbidden, b.status, "%s as %s", d.id, who)
				}
				if !everybodys && !(own && owner) {
					// Attack: probing for ids. What exists and what does not differ in nothing but the id.
					require.Equal(t, b.status, a.status)
					require.Equal(t, strings.NewReplacer(nobody, jane, none, janes).Replace(b.body), a.body, "%s as %s", d.id, who)
					a.header.Del("Date")
					b.header.Del("Date")
					require.Equal(t, b.header, a.header, "%s as %s", d.id, who)
				}
			}
		}
	}
	require.Equal(t, 37*16*3, checked)
}

// noSessions are sessions without tokens behind them.
type noSessions struct{}

func (noSessions) NewSession(*http.Request) (*http.Cookie, error) {
	return &http.Cookie{Name: auth.CookieName, Value: "x"}, nil
}
func (noSessions) EndSession() *http.Cookie { return &http.Cookie{Name: auth.CookieName, MaxAge: -1} }

var update = flag.Bool("update", false, "write docs/permissions.md again")

// TestPermissionsPage keeps docs/permissions.md what the document says; -update writes it.
func TestPermissionsPage(t *testing.T) {
	t.Parallel()
	page := strings.Builder{}
	page.WriteString(`<!-- Generated by internal/api from x-roles of api/openapi.yaml; do not edit. Run make generate. -->

# Who may do what

Whoever has several roles may do what one of them may. *own*: an agent's own things; somebody else's are answered as if they did not exist. *open*:
to anybody, without a token. How one gets a role is in [security.md](security.md#tokens).

| operation | | agent | viewer | operator | admin |
|---|---|---|---|---|---|
`)
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	require.NoError(t, err)
	type row struct {
		path, method string
		op           *openapi3.Operation
	}
	var rows []row
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			rows = append(rows, row{path, method, op})
		}
	}
	group := func(r row) int {
		return slices.IndexFunc(doc.Tags, func(tag *openapi3.Tag) bool { return tag.Name == r.op.Tags[0] })
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(group(a), group(b)), cmp.Compare(a.path, b.path), -cmp.Compare(a.method, b.method))
	})
	for _, r := range rows {
		roles, ok := r.op.Extensions["x-roles"].([]any)
		require.True(t, ok)
		fmt.Fprintf(&page, "| %s | `%s %s` |", r.op.Summary, r.method, r.path)
		for _, role := range allRoles {
			cell := " "
			switch {
			case len(roles) == 0:
				cell = " open "
			case !slices.Contains(roles, any(string(role))):
			case role == auth.Agent && strings.HasPrefix(r.path, "/v1/agents/"), role == auth.Agent && strings.HasPrefix(r.path, "/v1/failovers/"):
				cell = " own "
			default:
				cell = " yes "
			}
			page.WriteString(cell + "|")
		}
		page.WriteByte('\n')
	}
	if *update {
		require.NoError(t, os.WriteFile("../../docs/permissions.md", []byte(page.String()), 0o644))
	}
	have, err := os.ReadFile("../../docs/permissions.md")
	require.NoError(t, err)
	require.Equal(t, page.String(), string(have), "stale; run make generate")
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
	// All tables are there, and are others: what is not there at all may be a database that nobody has migrated yet.
	_, err = conn.Exec(t.Context(), `ALTER SCHEMA public RENAME TO elsewhere; CREATE SCHEMA public; DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'elsewhere' LOOP EXECUTE format('CREATE TABLE public.%I (nothing int)', name); END LOOP; END $$`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	for _, d := range operations(t, "none") {
		if _, ok := d.op.Responses.Map()["500"]; !ok {
			continue
		}
		a := d.request(s)
		switch d.id {
		case "getSession", "createSession", "deleteSession", "createStreamTicket", "getEvents", "getAgentEvents":
			continue // they need no database here
		}
		require.Equal(t, http.StatusInternalServerError, a.status, "%s: %s", d.id, a.body)
		require.NotContains(t, a.body, "column")
		require.NotContains(t, a.body, "SQLSTATE")
		require.Contains(t, s.logs.String(), a.header.Get("X-Request-Id"), "%s: the log has what the caller is not told", d.id)
	}
}

func TestMethodNotAllowed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for path, allow := range map[string]string{
		"/v1/agents": "GET", "/v1/session": "DELETE, GET, POST", "/v1/failovers/force": "GET, POST", "/livez": "GET",
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
