package connect

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/stretchr/testify/require"
)

// recordingTransport answers everything with an error and remembers what was sent: by Amazon's operation name, as the SDK puts
// it into the request's context.
type recordingTransport struct {
	mu      sync.Mutex
	sent    map[string][]string // operation → methods and paths
	origins map[string]bool
}

func (r *recordingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := awsmiddleware.GetOperationName(req.Context())
	r.sent[name] = append(r.sent[name], req.Method+" "+req.URL.Path)
	r.origins[req.URL.Scheme+"://"+req.URL.Host] = true
	return answer(req, write(400, "InvalidRequestException", `{}`)), nil
}

// The promise that the service never writes: every method of a Client is called, by reflection so that none is forgotten, and
// what leaves is exactly the operations that are listed, none of which changes anything.
func TestOperationsAreCompleteAndRead(t *testing.T) {
	t.Parallel()
	recorder := &recordingTransport{sent: map[string][]string{}, origins: map[string]bool{}}
	c := newClient(t, func(o *Options) { o.Transport = recorder })
	client := reflect.ValueOf(c)
	for i := range client.NumMethod() {
		method := client.Method(i)
		args := make([]reflect.Value, method.Type().NumIn())
		for j := range args {
			switch in := method.Type().In(j); in.Name() {
			case "Context":
				args[j] = reflect.ValueOf(t.Context())
			case "string":
				args[j] = reflect.ValueOf(testTDG)
			case "UserDataQuery":
				args[j] = reflect.ValueOf(UserDataQuery{InstanceID: testInstance, AgentIDs: []string{"u1"}})
			default:
				args[j] = reflect.Zero(in)
			}
		}
		method.Call(args)
	}
	var names []string
	for name, sent := range recorder.sent {
		names = append(names, name)
		for _, request := range sent {
			verb, path, _ := strings.Cut(request, " ")
			read := verb == http.MethodGet || name == OpGetCurrentUserData && request == "POST /metrics/userdata/"+testInstance
			require.True(t, read, "%s sent %s %s", name, verb, path)
		}
	}
	require.ElementsMatch(t, Operations, names)
	require.Equal(t, map[string]bool{"https://connect.us-west-2.amazonaws.com": true}, recorder.origins, "nothing leaves the Region")
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(Operations))), len(Operations))
}

// An ARN is one escaped segment of the path: cut at its slash it would name something else.
func TestARNIsOneSegment(t *testing.T) {
	t.Parallel()
	var raw string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		raw = r.URL.EscapedPath()
		write(200, "", `{"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":100}]}}`)(w, r)
	}, nil)
	_, err := c.GetTrafficDistribution(t.Context(), testTDG)
	require.NoError(t, err)
	require.Equal(t, "/traffic-distribution/arn%3Aaws%3Aconnect%3Aus-east-1%3A111122223333%3Atraffic-distribution-group%2F"+
		"0aaaaaaa-0000-0000-0000-000000000001", raw)
}

func TestTrafficDistribution(t *testing.T) {
	t.Parallel()
	east100 := []Share{{"us-east-1", 100}, {"us-west-2", 0}}
	for name, test := range map[string]struct {
		body string
		want TrafficDistribution
		bad  string // text of a Malformed error
	}{
		"complete, whatever the order": {
			body: `{"Id":"g","Arn":"a","TelephonyConfig":{"Distributions":[{"Region":"us-west-2","Percentage":30},{"Region":"us-east-1","Percentage":70}]},
				"AgentConfig":{"Distributions":[{"Region":"us-west-2","Percentage":0},{"Region":"us-east-1","Percentage":100}]},
				"SignInConfig":{"Distributions":[{"Region":"us-west-2","Enabled":false},{"Region":"us-east-1","Enabled":true}]}}`,
			want: TrafficDistribution{ID: "g", ARN: "a", Telephony: []Share{{"us-east-1", 70}, {"us-west-2", 30}}, Agents: east100,
				SignIn: []Share{{"us-east-1", 1}, {"us-west-2", 0}}},
		},
		"no sign-in, as other groups than the default one": {
			body: `{"TelephonyConfig":{"Distributions":[{"Region":"us-east-1","Percentage":100}]},"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":100}]}}`,
			want: TrafficDistribution{Telephony: east100[:1], Agents: east100[:1]},
		},
		"no AgentConfig is unknown, not 0": {
			body: `{"TelephonyConfig":{"Distributions":[{"Region":"us-east-1","Percentage":100}]}}`,
			want: TrafficDistribution{Telephony: east100[:1]},
		},
		"an empty AgentConfig is unknown": {
			body: `{"AgentConfig":{},"TelephonyConfig":{"Distributions":[{"Region":"us-east-1","Percentage":100}]}}`,
			want: TrafficDistribution{Telephony: east100[:1]},
		},
		"a missing percentage is 0": {
			body: `{"AgentConfig":{"Distributions":[{"Region":"us-west-2"},{"Region":"us-east-1","Percentage":100}]}}`,
			want: TrafficDistribution{Agents: east100},
		},
		"nothing":            {body: `{"Id":"g","Arn":"a"}`, bad: "no distribution in the answer"},
		"half of it":         {body: `{"AgentConfig":{"Distributions":[{"Region":"us-west-2","Percentage":30}]}}`, bad: "AgentConfig makes 30 %, not 100"},
		"0/0":                {body: `{"AgentConfig":{"Distributions":[{"Region":"us-west-2"},{"Region":"us-east-1"}]}}`, bad: "AgentConfig makes 0 %, not 100"},
		"more than all":      {body: `{"TelephonyConfig":{"Distributions":[{"Region":"us-west-2","Percentage":100},{"Region":"us-east-1","Percentage":100}]}}`, bad: "TelephonyConfig makes 200 %, not 100"},
		"negative":           {body: `{"AgentConfig":{"Distributions":[{"Region":"us-west-2","Percentage":-20},{"Region":"us-east-1","Percentage":120}]}}`, bad: "AgentConfig holds -20 %"},
		"one Region twice":   {body: `{"AgentConfig":{"Distributions":[{"Region":"us-west-2","Percentage":50},{"Region":"us-west-2","Percentage":50}]}}`, bad: "AgentConfig lacks or repeats a Region"},
		"no Region":          {body: `{"AgentConfig":{"Distributions":[{"Percentage":100}]}}`, bad: "AgentConfig lacks or repeats a Region"},
		"sign-in nowhere":    {body: `{"SignInConfig":{"Distributions":[{"Enabled":true}]}}`, bad: "SignInConfig lacks or repeats a Region"},
		"percentage is text": {body: `{"AgentConfig":{"Distributions":[{"Region":"us-west-2","Percentage":"100"}]}}`, bad: "the answer is not the JSON that it should be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, write(200, "", test.body), nil)
			d, err := c.GetTrafficDistribution(t.Context(), testTDG)
			if test.bad != "" {
				require.Equal(t, Malformed, KindOf(err), "%v", err)
				require.ErrorContains(t, err, test.bad)
				require.Equal(t, TrafficDistribution{}, d)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, d)
		})
	}
}

func TestCurrentUserData(t *testing.T) {
	t.Parallel()
	var request struct {
		Filters struct {
			Agents, RoutingProfiles []string
			ContactFilter           *struct{ ContactStates []string }
		}
		MaxResults int
		NextToken  string
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		request.Filters.ContactFilter, request.Filters.Agents = nil, nil
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &request); err != nil {
			t.Error(err)
		}
		write(200, "", `{"NextToken":"t2","ApproximateTotalCount":2,"SomethingNew":{"a":1},"UserDataList":[
			{"User":{"Id":"u1","Arn":"arn:aws:connect:us-east-1:111122223333:instance/i/agent/u1"},
			 "RoutingProfile":{"Id":"rp1","Arn":"arn"},"NextStatus":"Lunch",
			 "Status":{"StatusStartTimestamp":1763600000.5,"StatusArn":"s","StatusName":"Available"},
			 "ActiveSlotsByChannel":{"VOICE":1},
			 "Contacts":[{"ContactId":"c1","Channel":"VOICE","InitiationMethod":"INBOUND","AgentContactState":"CONNECTED",
			   "StateStartTimestamp":1763600000.123,"ConnectedToAgentTimestamp":1763600000,"Queue":{"Id":"q1"}},
			  {"ContactId":"c2","Channel":"HOLOGRAM","AgentContactState":"LEVITATING"}]},
			{"User":{"Arn":"arn:aws:connect:us-east-1:111122223333:instance/i/agent/u2"},"Contacts":[]},
			{"User":{"Id":"u3"},"ActiveSlotsByChannel":{}}]}`)(w, r)
	}, nil)

	before := time.Now()
	page, err := c.CurrentUserData(t.Context(), Drain, UserDataQuery{
		InstanceID: testInstance, RoutingProfiles: []string{"rp1", "rp2"}, OnlyWithContacts: true, NextToken: "t1",
	})
	require.NoError(t, err)
	require.False(t, page.StartedAt.Before(before))
	require.False(t, page.StartedAt.After(time.Now()))
	require.Equal(t, "t2", page.NextToken)
	require.Equal(t, []UserData{
		{UserID: "u1", RoutingProfileID: "rp1", StatusName: "Available", StatusSince: time.UnixMilli(1763600000500).UTC(), NextStatus: "Lunch", Contacts: []Contact{
			{ID: "c1", Channel: "VOICE", State: "CONNECTED", InitiationMethod: "INBOUND",
				StateSince: time.UnixMilli(1763600000123).UTC(), ConnectedAt: time.Unix(1763600000, 0).UTC()},
			{ID: "c2", Channel: "HOLOGRAM", State: "LEVITATING"},
		}},
		{UserID: "u2", Contacts: []Contact{}},
		{UserID: "u3", Contacts: []Contact{}},
	}, page.Users)

	require.Equal(t, []string{"rp1", "rp2"}, request.Filters.RoutingProfiles)
	require.Empty(t, request.Filters.Agents)
	require.ElementsMatch(t, []string{"INCOMING", "PENDING", "CONNECTING", "CONNECTED", "CONNECTED_ONHOLD", "MISSED", "ERROR", "ENDED", "REJECTED"},
		request.Filters.ContactFilter.ContactStates)
	require.Equal(t, 100, request.MaxResults)
	require.Equal(t, "t1", request.NextToken)

	_, err = c.CurrentUserData(t.Context(), Drain, UserDataQuery{InstanceID: testInstance, AgentIDs: []string{"u1"}})
	require.NoError(t, err)
	require.Equal(t, []string{"u1"}, request.Filters.Agents)
	require.Nil(t, request.Filters.ContactFilter)
}

func TestListsOfOnePage(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var body string
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/user"):
			body = `{"NextToken":"next","TrafficDistributionGroupUserSummaryList":[{"UserId":"u1"},
				{"UserId":"arn:aws:connect:us-east-1:111122223333:instance/i/agent/u2"}]}`
		case strings.HasPrefix(path, "/users-summary/"):
			body = `{"UserSummaryList":[{"Id":"u1","Username":"jane"},{"Arn":"arn:aws:connect:us-east-1:1:instance/i/agent/u2","Username":"joe"}]}`
		case strings.HasPrefix(path, "/contacts/"):
			body = `{"Contact":{"Id":"c1","GlobalResiliencyMetadata":{"ActiveRegion":"us-west-2","OriginRegion":"us-east-1"}}}`
		case strings.HasPrefix(path, "/instance/"):
			body = `{"Instance":{"Id":"i","Arn":"a","InstanceAlias":"acme","InstanceStatus":"ACTIVE"},"ReplicationConfiguration":{"SourceRegion":"us-east-1",
				"ReplicationStatusSummaryList":[{"Region":"us-west-2","ReplicationStatus":"INSTANCE_REPLICATION_COMPLETE"}]}}`
		}
		write(200, "", body)(w, r)
	}, nil)

	members, err := c.ListTrafficDistributionGroupUsers(t.Context(), testTDG, "")
	require.NoError(t, err)
	require.Equal(t, UserIDPage{UserIDs: []string{"u1", "u2"}, NextToken: "next"}, members)

	_, err = c.ListTrafficDistributionGroupUsers(t.Context(), testTDG, "next")
	require.Equal(t, Malformed, KindOf(err), "a page that is followed by itself would be read for ever")

	users, err := c.ListUsers(t.Context(), testInstance, "")
	require.NoError(t, err)
	require.Equal(t, UserPage{Users: []User{{"u1", "jane"}, {"u2", "joe"}}}, users)

	contact, err := c.DescribeContact(t.Context(), testInstance, "c1")
	require.NoError(t, err)
	require.Equal(t, ContactInfo{ID: "c1", ActiveRegion: "us-west-2", OriginRegion: "us-east-1"}, contact)

	instance, err := c.DescribeInstance(t.Context(), testInstance)
	require.NoError(t, err)
	require.Equal(t, InstanceInfo{ID: "i", ARN: "a", Alias: "acme", Status: "ACTIVE", SourceRegion: "us-east-1",
		Replicas: []Replica{{Region: "us-west-2", Status: "INSTANCE_REPLICATION_COMPLETE"}}}, instance)
}

// A list is whole or an error: half a list of groups would look like groups that were deleted.
func TestListsOfEveryPage(t *testing.T) {
	t.Parallel()
	group := func(i int) string {
		return fmt.Sprintf(`{"Id":"g%d","Arn":"arn:aws:connect:us-east-1:1:traffic-distribution-group/g%d","Status":"ACTIVE"}`, i, i)
	}
	pages := map[string]string{
		"":   `{"NextToken":"t1","TrafficDistributionGroupSummaryList":[` + group(1) + `]}`,
		"t1": `{"NextToken":"t2","TrafficDistributionGroupSummaryList":[]}`, // an empty page with a token is legal
		"t2": `{"TrafficDistributionGroupSummaryList":[` + group(2) + `]}`,
	}
	for name, test := range map[string]struct {
		page, body string
		want       int
		kind       Kind
	}{
		"all":                {want: 2},
		"last page fails":    {page: "t2", body: "503", kind: Unavailable},
		"second page lacks":  {page: "t1", body: `{"NextToken":"t2"}`, kind: Malformed},
		"pages in a circle":  {page: "t2", body: `{"NextToken":"t1","TrafficDistributionGroupSummaryList":[]}`, kind: Malformed},
		"group without ARN":  {page: "t2", body: `{"TrafficDistributionGroupSummaryList":[{"Id":"g2"}]}`, kind: Malformed},
		"group without name": {page: "t2", body: `{"TrafficDistributionGroupSummaryList":[{}]}`, kind: Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				token := r.URL.Query().Get("nextToken")
				body := pages[token]
				if test.page == token && test.body != "" {
					body = test.body
				}
				status := 200
				if body == "503" {
					status = 503
				}
				write(status, "", body)(w, r)
			}, nil)
			groups, err := c.ListTrafficDistributionGroups(t.Context(), testInstance)
			require.Equal(t, test.kind, KindOf(err), "%v", err)
			require.Len(t, groups, test.want)
		})
	}
}

// Every modelled answer is either refused as a whole or read without loss, whatever the body holds.
func FuzzCurrentUserData(f *testing.F) {
	for _, shape := range []string{
		`{"UserDataList":[]}`, `{"UserDataList":null}`, `{}`, ``, `[]`, `{"UserDataList":[null]}`, `{"UserDataList":[{"User":{"Id":"u"},"Contacts":[]}]}`,
		`{"UserDataList":[{"User":{"Id":"u"},"Contacts":[{"ContactId":"c","Channel":"VOICE","AgentContactState":"ENDED","StateStartTimestamp":1e999}]}]}`,
		`{"UserDataList":[{"User":{"Arn":"arn:a/b/"},"ActiveSlotsByChannel":{"VOICE":-1}}],"NextToken":"t"}`,
	} {
		f.Add(shape)
	}
	var body string
	c := newClient(f, func(o *Options) {
		o.Transport = roundTripper(func(req *http.Request) (*http.Response, error) { return answer(req, write(200, "", body)), nil })
	})
	f.Fuzz(func(t *testing.T, answered string) {
		body = answered
		page, err := c.CurrentUserData(t.Context(), Sweep, UserDataQuery{InstanceID: testInstance, AgentIDs: []string{"u"}})
		if err != nil {
			if kind := KindOf(err); kind != Malformed {
				t.Fatalf("an answer with status 200 is %q: %v", kind, err)
			}
			if len(page.Users) > 0 {
				t.Fatalf("an error came together with %d agents", len(page.Users))
			}
			return
		}
		if page.Users == nil {
			t.Fatal("an answer was accepted without its list")
		}
		for _, u := range page.Users {
			if u.UserID == "" || u.Contacts == nil || slices.ContainsFunc(u.Contacts, func(c Contact) bool { return c.ID == "" }) {
				t.Fatalf("an agent or contact without an id was accepted: %+v", u)
			}
		}
	})
}

// Requests of a size that takes several writes, answered before they were read: the SDK closes the body of a request
// that was answered, which must not break the connection under the answer.
func TestAnswersBeforeTheRequestWasRead(t *testing.T) {
	t.Parallel()
	agents := make([]string, MaxFilterSize)
	for i := range agents {
		agents[i] = fmt.Sprintf("%08d-1111-2222-3333-444455556666", i)
	}
	body := userDataBody(100)
	c := serve(t, write(200, "", body), nil)
	for range 100 {
		page, err := c.CurrentUserData(t.Context(), Sweep, UserDataQuery{InstanceID: testInstance, AgentIDs: agents})
		require.NoError(t, err)
		require.Len(t, page.Users, 100)
	}
}

// userDataBody is an answer of GetCurrentUserData with n agents of whom a third has a contact.
func userDataBody(n int) string {
	var b strings.Builder
	b.WriteString(`{"UserDataList":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		id := fmt.Sprintf("%08d-1111-2222-3333-444455556666", i)
		fmt.Fprintf(&b, `{"User":{"Id":%q,"Arn":"arn:aws:connect:us-east-1:111122223333:instance/%s/agent/%s"},`, id, testInstance, id)
		fmt.Fprintf(&b, `"RoutingProfile":{"Id":%q,"Arn":"arn:aws:connect:us-east-1:111122223333:instance/%s/routing-profile/%s"},`, id, testInstance, id)
		b.WriteString(`"Status":{"StatusStartTimestamp":1763600000.5,"StatusArn":"arn:aws:connect:us-east-1:111122223333:instance/i/agent-state/s","StatusName":"Available"},`)
		b.WriteString(`"AvailableSlotsByChannel":{"VOICE":0,"CHAT":2},"MaxSlotsByChannel":{"VOICE":1,"CHAT":2},"ActiveSlotsByChannel":{"VOICE":1},"Contacts":[`)
		if i%3 == 0 {
			fmt.Fprintf(&b, `{"ContactId":"c-%s","Channel":"VOICE","InitiationMethod":"INBOUND","AgentContactState":"CONNECTED",`, id)
			b.WriteString(`"StateStartTimestamp":1763600000.123,"ConnectedToAgentTimestamp":1763600000,"Queue":{"Id":"q1","Arn":"arn:aws:connect:us-east-1:1:instance/i/queue/q1"}}`)
		}
		b.WriteString(`]}`)
	}
	b.WriteString(`]}`)
	return b.String()
}

func BenchmarkCurrentUserData(b *testing.B) {
	body := []byte(userDataBody(100))
	header := http.Header{"Content-Type": {"application/json"}}
	c := newClient(b, func(o *Options) {
		o.RequestsPerSecond, o.Burst = 1e9, 1e9
		o.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: header, Body: io.NopCloser(strings.NewReader(string(body))), Request: req}, nil
		})
	})
	q := UserDataQuery{InstanceID: testInstance, AgentIDs: []string{"u1"}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		page, err := c.CurrentUserData(b.Context(), Sweep, q)
		if err != nil || len(page.Users) != 100 {
			b.Fatal(len(page.Users), err)
		}
	}
}
