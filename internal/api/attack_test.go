package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// Each test's comment names the attack; hostile_test.go has those that are about the form of a request.

// Another agent's events by a cursor of theirs: it says where to go on in the log, never whose events.
func TestAnotherAgentsCursor(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	s.leader.shift()
	s.caughtUp()
	janes := read[contract.EventList](t, s.get("/v1/agents/"+jane+"/events", "X-Test-As", "agent:"+jane), http.StatusOK).Items
	require.NotEmpty(t, janes)
	for _, i := range janes {
		list := read[contract.EventList](t, s.get("/v1/agents/"+joe+"/events?after="+i.ID, "X-Test-As", "agent:"+joe), http.StatusOK)
		for _, own := range list.Items {
			require.Contains(t, string(own.Data), joe)
			require.NotContains(t, string(own.Data), jane)
			require.NotContains(t, string(own.Data), call)
		}
		require.Equal(t, http.StatusNotFound, s.get("/v1/agents/"+jane+"/events?after="+i.ID, "X-Test-As", "agent:"+joe).status)
		require.Equal(t, http.StatusNotFound, s.get("/v1/agents/"+jane+"/events?lastEventId="+i.ID, "X-Test-As", "agent:"+joe, "Accept", "text/event-stream").status)
	}
}

// Ids that look like one's own, or that another part would take for it: in other letters, as other characters that look or normalise
// alike, with what paths and URLs make of dots, semicolons and backslashes.
func TestIDsThatLookAlike(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	const mine, theirs = "abcdef01-1111-2222-3333-00000000000a", "abcdef01-1111-2222-3333-00000000000b"
	s.leader.floor()
	s.leader.step(
		failover.UsersListed{Group: "main", Region: east, Users: []failover.User{{ID: jane, Username: "jane.doe"}, {ID: joe, Username: "joe.bloggs"}, {ID: mine, Username: "me"}, {ID: theirs, Username: "them"}}},
		failover.RosterPage{Group: "main", TDG: tdgID, Pass: 2, Last: true, UserIDs: []string{jane, joe, mine, theirs}},
	)
	s.caughtUp()
	get := func(path, agent string) answer { return s.get(path, "X-Test-As", "agent:"+agent) }
	require.Equal(t, http.StatusOK, get("/v1/agents/"+mine, mine).status)
	require.Equal(t, http.StatusOK, get("/v1/agents/"+theirs, theirs).status)

	for _, agent := range []string{strings.ToUpper(mine), strings.ToUpper(mine[:1]) + mine[1:], strings.Replace(mine, "a", "\u0430", 1), mine + ".", mine + "/"} {
		require.Equal(t, http.StatusNotFound, get("/v1/agents/"+mine, agent).status, "a token that names %q", agent)
	}
	for _, id := range []string{
		strings.ToUpper(mine), strings.ToUpper(theirs), mine + "%20", mine + "%00", mine + "%0a", mine + "%e2%80%8b", mine + "%c2%ad", mine + ".", mine + ";x=" + theirs, mine + "%3b",
		mine + "%5c..%5c" + theirs, mine + `\..\` + theirs, mine + "%2f..%2f" + theirs, mine + "/%2e%2e/" + theirs, mine + "/.%2e/" + theirs, "./" + theirs, "%2e/" + theirs, "x/../" + theirs,
		strings.Replace(mine, "a", "%d0%b0", 1), strings.Replace(mine, "a", "a%cc%81", 1), strings.Replace(mine, "1", "%ef%bc%91", 1), mine + "%23", mine + "%3f", mine + ",", mine + "," + theirs, "*", "%25", mine + "@" + theirs,
		"me", "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012/agent/" + mine,
	} {
		for _, suffix := range []string{"", "/contacts", "/events"} {
			a := get("/v1/agents/"+id+suffix, mine)
			require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound}, a.status, "%s%s: %s", id, suffix, a.body)
		}
	}
	for _, path := range []string{"//v1/agents/" + mine, "/v1//agents/" + mine, "/V1/agents/" + mine, "/v1/Agents/" + mine, "/v1/agents/" + mine + "/", "/v1/x/../agents/" + theirs, "/v1/%2e%2e/v1/agents/" + theirs, "/v1/agents;x/" + theirs, "/./v1/agents/" + theirs} {
		require.Equal(t, http.StatusNotFound, get(path, mine).status, path)
	}
}

// Methods in disguise: a header or parameter that makes a GET a mutation somewhere, and methods that nobody asks for.
func TestMethodsInDisguise(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	s.leader.shift()
	path := "/v1/failovers/" + s.leader.openFailover(jane) + "/force"
	for _, header := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"} {
		require.Equal(t, http.StatusMethodNotAllowed, s.get(path, header, "POST", "X-Test-As", "operator").status)
		require.Equal(t, http.StatusOK, s.get("/v1/agents", header, "DELETE", "X-Test-As", "operator").status)
	}
	require.Equal(t, http.StatusMethodNotAllowed, s.get(path+"?_method=POST", "X-Test-As", "operator").status)
	for _, method := range []string{"PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "get"} {
		require.Equal(t, http.StatusMethodNotAllowed, s.request(method, "/v1/agents/"+jane, nil, "X-Test-As", "operator").status, method)
	}
	s.leader.openFailover(jane)
}

// What was in a URL comes back: into a page, a Referer, somebody's bug report. An answer repeats no ticket, whatever is wrong.
func TestAnswersRepeatNoTicket(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	ticket := strings.Repeat("Ticket0", 7)[:43]
	for _, path := range []string{
		"/v1/agents/" + jane + "/events?ticket=" + ticket, "/v1/agents/" + jane + "/events?ticket=" + ticket + "&limt=1", "/v1/agents/nobody/events?ticket=" + ticket,
		"/v1/events?ticket=" + ticket, "/v1/agents?ticket=" + ticket, "/nothing?ticket=" + ticket, "/v1/agents/" + jane + "/events?ticket=" + ticket + "&ticket=" + ticket,
		"/v1/agents/" + jane + "/events?wait=x&ticket=" + ticket,
	} {
		for _, who := range []string{"", "viewer", "agent:" + jane} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
			require.NoError(t, err)
			r.Header.Set("X-Test-As", who)
			resp, err := http.DefaultClient.Do(r) // not every one of these is in the document
			require.NoError(t, err)
			var text strings.Builder
			require.NoError(t, resp.Header.Write(&text))
			body := make([]byte, 1<<20)
			n, _ := resp.Body.Read(body)
			resp.Body.Close()
			require.NotContains(t, text.String()+string(body[:n]), ticket, "%s as %q", path, who)
		}
	}
	require.NotContains(t, s.logs.String(), ticket)
	http.DefaultClient.CloseIdleConnections()
}

// lookups counts what is asked of the database for an id.
type lookups struct {
	*store.Store
	n atomic.Int64
}

func (l *lookups) AgentByAlias(ctx context.Context, alias, agentID string) (string, error) {
	l.n.Add(1)
	return l.Store.AgentByAlias(ctx, alias, agentID)
}

func (l *lookups) Agent(ctx context.Context, id string) (store.AgentRow, error) {
	l.n.Add(1)
	return l.Store.Agent(ctx, id)
}

// Probing for ids with a stopwatch: for a foreign id the same is looked up as for one that nobody has.
func TestForeignAndMissingCostAlike(t *testing.T) {
	t.Parallel()
	counted := &lookups{}
	s := newService(t, withRoles, func(o *api.Options) {
		counted.Store = o.Store.(*store.Store)
		o.Store = counted
	})
	s.leader.floor()
	s.caughtUp()
	cost := func(id string) int64 {
		before := counted.n.Load()
		require.Equal(t, http.StatusNotFound, s.get("/v1/agents/"+id, "X-Test-As", "agent:"+joe).status)
		return counted.n.Load() - before
	}
	for range 2 { // and when the answer is remembered
		require.Equal(t, cost("87654321-1111-2222-3333-999999999999"), cost(jane))
	}
}

// A desktop in a loop, or one that means it: every mutation leaves an entry in the audit, so it is told to slow down, whether what it asks
// is taken, refused or not its own. Nobody else is.
func TestADesktopInALoop(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles)
	s.leader.floor()
	s.leader.shift()
	loop := func(n int, f func(i int) answer) (taken int) {
		for i := range n {
			a := f(i)
			if a.status != http.StatusTooManyRequests {
				taken++
				continue
			}
			after, err := strconv.Atoi(a.header.Get("Retry-After"))
			require.NoError(t, err)
			require.Positive(t, after)
			require.LessOrEqual(t, after, 2)
		}
		return taken
	}
	began := time.Now()
	report := func(who, id string) answer {
		return s.post("/v1/agents/"+id+"/reports", map[string]any{"activeRegion": east}, "X-Test-As", who)
	}
	taken := loop(200, func(i int) answer {
		switch i % 3 {
		case 0:
			return report("agent:"+jane, jane)
		case 1:
			return report("agent:"+jane, joe)
		}
		return s.post(fmt.Sprintf("/v1/failovers/none-%d/force", i), reason("x"), "X-Test-As", "agent:"+jane, "Idempotency-Key", fmt.Sprint(i))
	})
	require.GreaterOrEqual(t, taken, 60)
	require.LessOrEqual(t, taken, 62+int(time.Since(began)/time.Second))
	require.Len(t, read[contract.AuditList](t, s.get("/v1/audit?limit=1000", "X-Test-As", "admin"), http.StatusOK).Items, taken)

	require.Equal(t, http.StatusOK, s.get("/v1/agents/"+jane, "X-Test-As", "agent:"+jane).status, "reading goes on")
	require.Equal(t, http.StatusAccepted, report("agent:"+joe, joe).status)
	require.Equal(t, 100, loop(100, func(int) answer { return s.post("/v1/failovers/none/force", reason("x"), "X-Test-As", "operator") }))
}
