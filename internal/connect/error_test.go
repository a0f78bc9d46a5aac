package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const html503 = "<html><head><title>503 Service Temporarily Unavailable</title></head><body></body></html>"

// shapes are the forms in which Amazon Connect, or what stands before it, fails. Each is played by a real server.
var shapes = []struct {
	name    string
	handler http.HandlerFunc
	kind    Kind
	text    string // of Health.LastError
}{
	{"typed throttling", write(429, "ThrottlingException", `{"Message":"Rate exceeded"}`),
		Throttled, "GetCurrentUserData: throttled: HTTP 429: ThrottlingException: Rate exceeded"},
	{"older throttling", write(429, "TooManyRequestsException", `{"message":"Too Many Requests"}`),
		Throttled, "GetCurrentUserData: throttled: HTTP 429: TooManyRequestsException: Too Many Requests"},
	{"throttling without a type", write(429, "", `{"message":"Too Many Requests"}`),
		Throttled, "GetCurrentUserData: throttled: HTTP 429: UnknownError"},
	{"throttling without a body", write(429, "", ""),
		Throttled, "GetCurrentUserData: throttled: HTTP 429: UnknownError"},
	{"throttling as a page", write(429, "", "<html>slow down</html>"),
		Throttled, "GetCurrentUserData: throttled: HTTP 429: the answer is not the JSON that it should be"},
	{"throttling with status 400", write(400, "ThrottlingException", `{"message":"Rate exceeded"}`),
		Throttled, "GetCurrentUserData: throttled: HTTP 400: ThrottlingException: Rate exceeded"},

	{"internal error", write(500, "InternalServiceException", `{"Message":"oops"}`),
		Unavailable, "GetCurrentUserData: unavailable: HTTP 500: InternalServiceException: oops"},
	{"internal error of unknown type", write(500, "SomethingNew", `{}`),
		Unavailable, "GetCurrentUserData: unavailable: HTTP 500: SomethingNew"},
	{"page of a load balancer", write(503, "", html503),
		Unavailable, "GetCurrentUserData: unavailable: HTTP 503: the answer is not the JSON that it should be"},
	{"gateway timeout without a body", write(504, "", ""),
		Unavailable, "GetCurrentUserData: unavailable: HTTP 504: UnknownError"},
	{"hang", hang, Unavailable, "GetCurrentUserData: unavailable: no answer within 300ms"},
	{"hang in the middle of the answer", hangInBody, Unavailable, "GetCurrentUserData: unavailable: HTTP 200: no answer within 300ms"},
	{"reset", resetConnection, Unavailable, "connection reset by peer"},
	{"reset in the middle of the answer", resetInBody, Unavailable, "connection reset by peer"},
	{"closed without an answer", closeConnection, Unavailable, "GetCurrentUserData: unavailable: EOF"},

	{"access denied", write(403, "AccessDeniedException", `{"Message":"User: arn:aws:sts::1:assumed-role/x is not authorized"}`),
		Denied, "GetCurrentUserData: denied: HTTP 403: AccessDeniedException: User: arn:aws:sts::1:assumed-role/x is not authorized"},
	{"unknown key", write(403, "UnrecognizedClientException", `{"message":"The security token included in the request is invalid."}`),
		Denied, "GetCurrentUserData: denied: HTTP 403: UnrecognizedClientException"},
	{"expired credentials", write(403, "ExpiredTokenException", `{"message":"The security token included in the request is expired"}`),
		Denied, "GetCurrentUserData: denied: HTTP 403: ExpiredTokenException"},
	{"incomplete signature", write(400, "IncompleteSignatureException", `{"message":"Credential must have exactly 5 slash-delimited elements"}`),
		Denied, "GetCurrentUserData: denied: HTTP 400: IncompleteSignatureException"},
	{"forbidden without a type", write(403, "", `{"message":"Forbidden"}`),
		Denied, "GetCurrentUserData: denied: HTTP 403: UnknownError"},

	{"not found", write(404, "ResourceNotFoundException", `{"Message":"no such instance"}`),
		NotFound, "GetCurrentUserData: not_found: HTTP 404: ResourceNotFoundException: no such instance"},
	{"invalid request", write(400, "InvalidRequestException", `{"Message":"not ACTIVE"}`),
		Invalid, "GetCurrentUserData: invalid: HTTP 400: InvalidRequestException: not ACTIVE"},
	{"invalid parameter", write(400, "InvalidParameterException", `{"Message":"bad filter"}`),
		Invalid, "GetCurrentUserData: invalid: HTTP 400: InvalidParameterException: bad filter"},
	{"type in the body", write(400, "", `{"__type":"com.amazonaws.connect#InvalidRequestException","Message":"no"}`),
		Invalid, "GetCurrentUserData: invalid: HTTP 400: InvalidRequestException: no"},
	{"operation that is not known", write(404, "", `{"__type":"UnknownOperationException"}`),
		NotFound, "GetCurrentUserData: not_found: HTTP 404: UnknownOperationException"},

	{"truncated answer", write(200, "", `{"UserDataList":[{"User":{"Id":"u1"`),
		Malformed, "GetCurrentUserData: malformed: HTTP 200: the answer is not the JSON that it should be"},
	{"page instead of an answer", write(200, "", "<html>Sign in to the proxy</html>"),
		Malformed, "GetCurrentUserData: malformed: HTTP 200: the answer is not the JSON that it should be"},
	{"empty body", write(200, "", ""),
		Malformed, "GetCurrentUserData: malformed: the answer does not hold its list"},
	{"missing list", write(200, "", `{}`),
		Malformed, "GetCurrentUserData: malformed: the answer does not hold its list"},
	{"null for the list", write(200, "", `{"UserDataList":null}`),
		Malformed, "GetCurrentUserData: malformed: the answer does not hold its list"},
	{"null in the list", write(200, "", `{"UserDataList":[null]}`),
		Malformed, "GetCurrentUserData: malformed: an agent has no id"},
	{"something else for the list", write(200, "", `{"UserDataList":{"u1":{}}}`),
		Malformed, "GetCurrentUserData: malformed: HTTP 200: the answer is not the JSON that it should be"},
	{"agent without an id", write(200, "", `{"UserDataList":[{"Contacts":[]}]}`),
		Malformed, "GetCurrentUserData: malformed: an agent has no id"},
	{"agent without a list of contacts", write(200, "", `{"UserDataList":[{"User":{"Id":"u1"}}]}`),
		Malformed, "GetCurrentUserData: malformed: agent u1 has no list of contacts"},
	{"null for the contacts of an agent who has some", write(200, "", `{"UserDataList":[{"User":{"Id":"u1"},"ActiveSlotsByChannel":{"VOICE":1},"Contacts":null}]}`),
		Malformed, "GetCurrentUserData: malformed: agent u1 has no list of contacts"},
	{"contact without an id", write(200, "", `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":[{"Channel":"VOICE"}]}]}`),
		Malformed, "GetCurrentUserData: malformed: agent u1 has a contact without an id"},
	{"redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	},
		Malformed, "GetCurrentUserData: malformed: HTTP 307: UnknownError"},
	{"page for what does not exist", write(404, "", "default backend - 404"),
		Malformed, "GetCurrentUserData: malformed: HTTP 404: the answer is not the JSON that it should be"},
}

func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client gave up
	<-r.Context().Done()
}

func hangInBody(w http.ResponseWriter, r *http.Request) {
	startAnswer(w)
	hang(w, r)
}

func startAnswer(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"UserDataList":[`))
	_ = http.NewResponseController(w).Flush()
}

func resetConnection(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // else the client meets the end while it writes
	conn := hijack(w)
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

func resetInBody(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // before the answer begins, which ends the reading
	startAnswer(w)
	resetConnection(w, r)
}

func closeConnection(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_ = hijack(w).Close()
}

func hijack(w http.ResponseWriter) *net.TCPConn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	return conn.(*net.TCPConn)
}

func TestErrorShapes(t *testing.T) {
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, shape.handler, func(o *Options) {
				if strings.HasPrefix(shape.name, "hang") { // the others are answered, however slow the machine is
					o.RequestTimeout = 300 * time.Millisecond
				}
			})
			page, err := c.CurrentUserData(t.Context(), Sweep, UserDataQuery{InstanceID: testInstance, AgentIDs: []string{"u1"}})

			require.Error(t, err)
			require.Equal(t, shape.kind, KindOf(err), "%v", err)
			require.Equal(t, shape.kind, KindOf(fmt.Errorf("sweep: %w", err)), "a wrapped error keeps its kind")
			require.Empty(t, page.Users)
			require.NotErrorIs(t, err, ErrCircuitOpen)

			h := c.HealthOf(OpGetCurrentUserData)
			require.Contains(t, h.LastError, shape.text)
			require.True(t, strings.HasPrefix(h.LastError, "GetCurrentUserData: "+string(shape.kind)), h.LastError)
			require.Equal(t, "amazon connect in us-west-2: "+h.LastError, err.Error())
			require.False(t, h.LastErrorAt.IsZero())
			require.True(t, h.LastSuccess.IsZero())
			want := StateDegraded
			if shape.kind == NotFound {
				want = StateHealthy
			}
			require.Equal(t, want, h.State)
			require.Equal(t, want, c.Health().State)
			requireNoSecret(t, err.Error())
			requireNoSecret(t, h.LastError)
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := newClient(t, func(o *Options) { o.Endpoint = server.URL })
	_, err := c.GetTrafficDistribution(t.Context(), testTDG)
	require.Equal(t, Unavailable, KindOf(err), "%v", err)
	require.Contains(t, c.Health().LastError, "GetTrafficDistribution: unavailable: dial tcp")
	require.Contains(t, c.Health().LastError, "connection refused")
}

func TestNameThatDoesNotResolve(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(o *Options) { o.Endpoint = "http://connect.invalid" })
	_, err := c.GetTrafficDistribution(t.Context(), testTDG)
	require.Equal(t, Unavailable, KindOf(err), "%v", err)
}

func TestRefusedRequestsAreNotSent(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(o *Options) {
		o.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
			t.Error("a request was sent")
			return nil, errors.New("unwanted")
		})
	})
	many := make([]string, MaxFilterSize+1)
	for name, call := range map[string]func() error{
		"distribution of a bare id": func() error { _, err := c.GetTrafficDistribution(t.Context(), "0aaaaaaa-0000"); return err },
		"members of a bare id": func() error {
			_, err := c.ListTrafficDistributionGroupUsers(t.Context(), "0aaaaaaa-0000", "")
			return err
		},
		"no filter":         func() error { return userDataError(t, c, nil, nil) },
		"two filters":       func() error { return userDataError(t, c, []string{"a"}, []string{"p"}) },
		"too many agents":   func() error { return userDataError(t, c, many, nil) },
		"too many profiles": func() error { return userDataError(t, c, nil, many) },
	} {
		require.Equal(t, Invalid, KindOf(call()), name)
	}
	require.Equal(t, StateUnknown, c.Health().State, "what was not sent says nothing about the Region")
}

func userDataError(t *testing.T, c *Client, agents, profiles []string) error {
	_, err := c.CurrentUserData(t.Context(), Sweep, UserDataQuery{InstanceID: testInstance, AgentIDs: agents, RoutingProfiles: profiles})
	return err
}

// A request that the caller gave up is no failure: it must not make a healthy Region look ill at every shutdown.
func TestCancelledByTheCaller(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		hang(w, r)
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := c.GetTrafficDistribution(ctx, testTDG)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, KindOf(err))
	require.Equal(t, StateUnknown, c.Health().State)
	require.Empty(t, c.Health().LastError)

	_, err = c.GetTrafficDistribution(ctx, testTDG)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, KindOf(err))
	require.Equal(t, "amazon connect in us-west-2: GetTrafficDistribution: cancelled", err.Error())
}

func TestKindOfOtherErrors(t *testing.T) {
	t.Parallel()
	require.Empty(t, KindOf(nil))
	require.Empty(t, KindOf(fmt.Errorf("stop: %w", context.Canceled)))
	require.Equal(t, Unavailable, KindOf(context.DeadlineExceeded))
	require.Equal(t, Unavailable, KindOf(errors.New("something else")))
}

// Attack: whoever answers in Amazon's place, and Amazon itself when it refuses a signature, can quote the signed request
// back. Its session token and signature must not reach the log or the REST interface through the error's text.
func TestErrorsHoldNoCredentials(t *testing.T) {
	t.Parallel()
	for _, errorType := range []string{"InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException", "", "SomethingElse"} {
		for _, status := range []int{200, 400, 403, 404, 429, 500, 503} {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				var quoted strings.Builder
				quoted.WriteString(r.Method + "\\n" + r.URL.String())
				for name, values := range r.Header {
					quoted.WriteString("\\n" + strings.ToLower(name) + ":" + strings.ReplaceAll(strings.Join(values, ","), `"`, ""))
				}
				write(status, errorType, `{"message":"The Canonical String for this request should have been '`+quoted.String()+`'"}`)(w, r)
			}, nil)
			_, err := c.ListUsers(t.Context(), testInstance, "")
			require.Error(t, err)
			requireNoSecret(t, err.Error())
			requireNoSecret(t, c.Health().LastError)
		}
	}
}

func requireNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{testAccessKey, testSecretKey, testSessionToken, "AWS4-HMAC-SHA256", "Signature="} {
		require.NotContains(t, text, secret)
	}
}

// The failure of one operation in one Region must not be seen as that of all.
func TestHealthOfRegionAndOperation(t *testing.T) {
	t.Parallel()
	status := map[string]int{"/users-summary/" + testInstance: 200, "/instance/" + testInstance: 200}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		write(status[r.URL.Path], "", `{"UserSummaryList":[],"Instance":{"Id":"i"}}`)(w, r)
	}, nil)
	users := func() { _, _ = c.ListUsers(t.Context(), testInstance, "") }
	instance := func() { _, _ = c.DescribeInstance(t.Context(), testInstance) }
	states := func() [3]string {
		return [3]string{c.Health().State, c.HealthOf(OpListUsers).State, c.HealthOf(OpDescribeInstance).State}
	}
	require.Equal(t, [3]string{StateUnknown, StateUnknown, StateUnknown}, states())
	require.Equal(t, StateUnknown, c.HealthOf("NoSuchOperation").State)
	users()
	require.Equal(t, [3]string{StateHealthy, StateHealthy, StateUnknown}, states())
	instance()
	since := c.Health().Since
	users()
	require.Equal(t, since, c.Health().Since, "the state did not change")

	status["/users-summary/"+testInstance] = 403
	users()
	require.Equal(t, [3]string{StateDegraded, StateDegraded, StateHealthy}, states())
	instance()
	require.Equal(t, [3]string{StateDegraded, StateDegraded, StateHealthy}, states(), "one operation is still denied")

	status["/users-summary/"+testInstance] = 503
	users()
	users()
	users()
	require.Equal(t, [3]string{StateDown, StateDown, StateHealthy}, states(), "nothing has been heard for three requests")
	instance()
	require.Equal(t, [3]string{StateDegraded, StateDown, StateHealthy}, states(), "the Region answers to something")
	require.NotEmpty(t, c.Health().LastError)
	require.False(t, c.Health().LastSuccess.IsZero())
}
