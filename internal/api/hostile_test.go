package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/contract"
)

// Each test's comment names the attack.

// Header and log injection: ids with CR, LF or NUL that would end a header line, forge a stream's frame or a log's record, or
// break the database's text type.
func TestIDsWithControlCharacters(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, id := range []string{"a%0d%0aSet-Cookie:%20x=1", "a%0aevent:%20failoverCompleted", "a%00", "%20", "caf%C3%A9", "a%7f", strings.Repeat("a", 257)} {
		for _, path := range []string{"/v1/agents/" + id, "/v1/agents/" + id + "/contacts", "/v1/failovers/" + id, "/v1/traffic-distribution-groups/" + id} {
			a := s.get(path)
			p := read[contract.Problem](t, a, http.StatusBadRequest)
			require.Equal(t, contract.FieldErrorInPath, p.Errors[0].In, path)
			require.Empty(t, a.header.Get("Set-Cookie"))
		}
		a := s.get("/v1/agents/"+id+"/events", "Accept", "text/event-stream")
		require.Equal(t, http.StatusBadRequest, a.status)
		require.Equal(t, http.StatusBadRequest, s.get("/v1/failovers?agentId="+id).status)
		require.Equal(t, http.StatusBadRequest, s.get("/v1/agents?username="+strings.ReplaceAll(id, "%20", "%09")+"%0d").status)
	}
}

// Path traversal: a Region that leaves the folder of logs, or that becomes part of the header that names the file.
func TestLogRegionTraversal(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	base := "/v1/agents/" + jane + "/logs/"
	for _, region := range []string{
		"..%2f..%2fetc%2fpasswd", "%2e%2e", "..", "us-east-1%2f..", "us-east-1%0d%0aX:1", "us-east-1%22", "us-east-1.txt", "US-EAST-1", "us-east-1%00",
		"us-east-1;x", "%2575s-east-1",
	} {
		a := s.get(base + region)
		require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound}, a.status, region)
		require.Empty(t, a.header.Get("Content-Disposition"), region)
	}
	// A well-formed Region that is not the agent's is no file either.
	require.Equal(t, http.StatusNotFound, s.get(base+"eu-west-2").status)
	require.Equal(t, http.StatusOK, s.get(base+east).status)
}

// Routing confusion: an escaped path that is authorised as one thing and served as another. Parameters are unescaped once.
func TestEscapedPaths(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	me := []string{"X-Test-As", "agent:" + joe}
	require.Equal(t, http.StatusOK, s.get("/v1/agents/%38"+joe[1:], me...).status, "an escaped digit of one's own id")
	for _, path := range []string{
		"/v1/agents/" + joe + "%2f..%2f" + jane,
		"/v1/agents/" + joe + "/../" + jane,
		"/v1/agents/" + joe + "%2fcontacts",
		"/v1/agents/%25" + "38" + joe[1:], // unescaped twice it would be joe
		"//v1/agents/" + joe,
		"/v1/agents//" + joe,
		"/v1/agents/" + joe + "/",
	} {
		require.Equal(t, http.StatusNotFound, s.get(path, me...).status, path)
	}
}

// Request smuggling into logs and the audit trail by the request id: only a plain one is echoed.
func TestRequestID(t *testing.T) {
	t.Parallel()
	s := newService(t)
	require.Equal(t, "Order-66_b.1", s.get("/livez", "X-Request-Id", "Order-66_b.1").header.Get("X-Request-Id"))
	for _, id := range []string{"a b", "a\tb", `a"b`, "a,b", "ü", "", strings.Repeat("a", 129)} {
		got := s.get("/livez", "X-Request-Id", id).header.Get("X-Request-Id")
		require.NotEqual(t, id, got)
		require.Len(t, got, 36)
	}
	got := s.get("/livez", "X-Request-Id", "one", "X-Request-Id", "two").header.Get("X-Request-Id")
	require.Len(t, got, 36, "two ids are none")
}

// Memory exhaustion: a body that does not end.
func TestOversizeBodies(t *testing.T) {
	t.Parallel()
	s := newService(t)
	huge := `{"reason":"` + strings.Repeat("x", 70<<10) + `"}`
	p := read[contract.Problem](t, s.post("/v1/failovers/x/force", huge), http.StatusRequestEntityTooLarge)
	require.Equal(t, "urn:changeover:problem:body-too-large", p.Type)
	for _, d := range operations(t, "none") {
		if d.mutates() {
			require.Equal(t, http.StatusRequestEntityTooLarge, s.request(d.method, d.path, huge).status, d.id)
		}
	}

	// Without a length, so that only reading tells.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/failovers/x/force", io.MultiReader(strings.NewReader(huge), endless{}))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(r)
	if err == nil { // else the server has cut the connection, which is right too
		resp.Body.Close()
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "xxxxxxxxxxxxxxxx"), nil }

// Parser differences: JSON that one reader takes for another thing than the next, or that costs more than it says.
func TestJSONTricks(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	path := "/v1/failovers/" + s.leader.openFailover(jane) + "/force"
	for name, c := range map[string]struct{ body, field, message string }{
		"duplicate key":            {`{"reason":"a","reason":"b"}`, "reason", "is there more than once"},
		"duplicate key, escaped":   {`{"reason":"a","re\u0061son":"b"}`, "reason", "is there more than once"},
		"another case of the key":  {`{"reason":"a","Reason":"b"}`, "Reason", "is not a field of this body"},
		"two values":               {`{"reason":"a"}{"reason":"b"}`, "", "holds more than one value"},
		"a value and rubbish":      {`{"reason":"a"}]`, "", "is not valid JSON"},
		"a comment":                {`{"reason":"a"/* b */}`, "", "is not valid JSON"},
		"cut off":                  {`{"reason":"a"`, "", "is not valid JSON"},
		"deep nesting":             {strings.Repeat(`{"reason":`, 5000) + `1` + strings.Repeat(`}`, 5000), "", "is nested deeper than 16 levels"},
		"deep lists":               {strings.Repeat(`[`, 30000), "", "is nested deeper than 16 levels"},
		"U+0000":                   {`{"reason":"a\u0000b"}`, "reason", "must not hold U+0000"},
		"a line break":             {`{"reason":"a\r\nb"}`, "reason", ""},
		"broken UTF-8":             {"{\"reason\":\"a\xff\"}", "", "is not UTF-8"},
		"a byte order mark":        {"\xef\xbb\xbf{\"reason\":\"a\"}", "", "is not valid JSON"},
		"__proto__":                {`{"reason":"a","__proto__":{"admin":true}}`, "__proto__", "is not a field of this body"},
		"a name as long as a book": {`{"reason":"a","` + strings.Repeat("x", 1000) + `":1}`, strings.Repeat("x", 64) + "…", "is not a field of this body"},
	} {
		p := read[contract.Problem](t, s.post(path, c.body), http.StatusBadRequest)
		require.Equal(t, c.field, p.Errors[0].Field, "%s: %v", name, p.Errors)
		if c.message != "" {
			require.Equal(t, c.message, p.Errors[0].Message, name)
		}
	}
	s.leader.openFailover(jane)
	require.Empty(t, read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items)
}

// Cross-site request forgery: a form or a plain-text post, which a browser sends to any origin without asking, must not pass for
// JSON; nor may an encoding hide the size of a body.
func TestContentTypes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	for _, d := range operations(t, "none") {
		if d.body != nil {
			require.Equal(t, http.StatusUnsupportedMediaType, d.request(s, "Content-Type", "text/plain").status, d.id)
		}
	}
	path := "/v1/agents/" + jane + "/reports"
	good := `{"activeRegion":"us-east-1"}`
	for _, media := range []string{
		"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16",
		"application/jsonx", "application/vnd.x+json", "*/*", "garbage", "",
	} {
		p := read[contract.Problem](t, s.post(path, good, "Content-Type", media), http.StatusUnsupportedMediaType)
		require.Equal(t, "urn:changeover:problem:unsupported-media-type", p.Type, media)
	}
	require.Equal(t, http.StatusUnsupportedMediaType, s.post(path, good, "Content-Encoding", "gzip").status)
	require.Equal(t, http.StatusAccepted, s.post(path, good, "Content-Type", `Application/JSON; charset="UTF-8"`).status)
	require.Equal(t, http.StatusBadRequest, s.post("/v1/session", `{"token":"x"}`).status, "a body where none is expected")
	require.Equal(t, http.StatusNotImplemented, s.post("/v1/session", `{}`).status, "an empty object passes for none")
	require.Equal(t, http.StatusBadRequest, s.request(http.MethodGet, "/v1/agents", `{"limit":1}`).status, "a GET with a body")
}

// Parameter pollution: a parameter twice, unescaped separators, broken escapes.
func TestQueryTricks(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, query := range []string{
		"?state=active&state=pending", "?%zz", "?limit=1;limit=2", "?limit", "?LIMIT=1", "?limit[]=1", "?state=ACTIVE", "?cursor=", "?tdgId=",
		"?activeRegion=us-east-1%20", "?failoverGroup=../x", "?" + strings.Repeat("a=1&", 500),
	} {
		a := s.get("/v1/agents" + query)
		p := read[contract.Problem](t, a, http.StatusBadRequest)
		require.NotEmpty(t, p.Errors, query)
		require.Less(t, len(a.body), 8<<10, "%s: an answer does not grow with the request", query)
	}
	require.Equal(t, http.StatusBadRequest, s.get("/v1/failovers?since=yesterday").status)
	require.Equal(t, http.StatusBadRequest, s.get("/v1/failovers?since=2026-11-21").status)
	require.Equal(t, http.StatusBadRequest, s.get("/v1/events?type=nonsense").status)
	require.Equal(t, http.StatusBadRequest, s.get("/v1/events?wait=26").status)
	require.Equal(t, http.StatusBadRequest, s.get("/v1/events?wait=-1").status)
	require.Equal(t, http.StatusBadRequest, s.get("/v1/events?wait=1h").status)
	require.Equal(t, http.StatusBadRequest, s.get("/v1/events?wait=9999999999999999").status)
}

// SQL injection by every text that reaches a query.
func TestQuotesAreJustText(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	evil := "x%27%3BDROP%09TABLE" // printable only: the rest is refused
	evil = strings.ReplaceAll(evil, "%09", "%2F**%2F")
	require.Empty(t, read[contract.AgentList](t, s.get("/v1/agents?tdgId="+evil+"&username="+evil), http.StatusOK).Items)
	require.Equal(t, http.StatusNotFound, s.get("/v1/agents/"+strings.ReplaceAll(evil, "%2F", "")).status)
	require.Len(t, read[contract.AgentList](t, s.get("/v1/agents"), http.StatusOK).Items, 2)
}

// A body that is promised and does not come must not hold the handler when the client goes away.
func TestBodyEndsEarly(t *testing.T) {
	t.Parallel()
	s := newService(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/failovers/x/force HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"rea")
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")), "%s", answer)
}

// A handler that panics answers 500 as a problem, tells nothing, and takes nobody else down.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *api.Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Late") != "" {
				fmt.Fprintln(w, "half of")
			}
			panic("secret of the handler")
		})
	})
	a := (&service{t: t, url: s.url, client: http.DefaultClient}).get("/metrics") // 500 is not in the document there
	p := read[contract.Problem](t, a, http.StatusInternalServerError)
	require.Equal(t, a.header.Get("X-Request-Id"), p.RequestID)
	require.NotContains(t, a.body, "secret")
	require.Contains(t, s.logs.String(), "secret of the handler")

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/metrics", nil)
	require.NoError(t, err)
	r.Header.Set("X-Late", "1")
	resp, err := http.DefaultClient.Do(r)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	require.Error(t, err, "what was begun is broken off, not ended as if it were whole")
	require.Equal(t, http.StatusOK, s.get("/livez").status)
	http.DefaultClient.CloseIdleConnections()
}

// Overflows and confusion of types by query parameters: each of every list with numbers that fit nowhere, times beyond any calendar, cursors that are
// made up, of another list, or hold what none would. It is refused, or it is an empty page; it is never a fault of the service.
func TestQueryValues(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	s.rehearse(drillID)
	values := []string{"9223372036854775808", "%00", "%ff%fe", strings.Repeat("a", 4000), "0000-01-01T00:00:00Z"}
	var cursors []string
	for _, list := range []string{"agents", "agents:username", "failovers", "open:", "changes", "audit", "shifts", "deliveries"} {
		for _, keys := range [][]string{
			{"99999999999999999999"}, {"9223372036854775807", "x"}, {"x", "9223372036854775807", "\u202e"},
		} {
			b, err := json.Marshal(append([]string{list}, keys...))
			require.NoError(t, err)
			cursors = append(cursors, base64.RawURLEncoding.EncodeToString(b))
		}
	}
	for _, d := range operations(t, s.leader.openFailover(jane)) {
		if d.method != http.MethodGet {
			continue
		}
		for _, p := range d.op.Parameters {
			if p.Value.In != "query" || p.Value.Name == "wait" || p.Value.Name == "ticket" {
				continue
			}
			ask := values
			if p.Value.Name == "cursor" || p.Value.Name == "after" {
				ask = slices.Concat(values, cursors)
			}
			for _, v := range ask {
				a := s.get(d.path+"?"+p.Value.Name+"="+v, "Accept", "application/json")
				if a.status >= http.StatusInternalServerError {
					t.Errorf("%s?%s=%s: %s", d.path, p.Value.Name, v, a.body)
				}
			}
		}
	}
}
