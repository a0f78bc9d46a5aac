package connectsim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	east = "us-east-1"
	west = "us-west-2"
)

// answer is what a raw request got.
type rawAnswer struct {
	abort  abort
	status int
	typ    string
	header http.Header
	body   map[string]any
	raw    string
}

// send makes a raw request to the simulator, without a client library in between.
func send(t testing.TB, s *Sim, region, method, path, body string) rawAnswer {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/"+region+"/connect/aws4_request, SignedHeaders=host, Signature=0")
	rep := s.respond(t.Context(), r)
	a := rawAnswer{abort: rep.abort, status: rep.status, typ: rep.errTyp, header: rep.header, raw: string(rep.body)}
	if rep.abort == answered && bytes.HasPrefix(rep.body, []byte("{")) {
		_ = json.Unmarshal(rep.body, &a.body) // truncated ones stay nil
	}
	return a
}

// escaped is an ARN as SDKs put it into a path.
func escaped(arn string) string {
	return strings.NewReplacer(":", "%3A", "/", "%2F").Replace(arn)
}

const tdgARN = "arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/"

// shares is a config of an update.
func shares(name string, percentEast, percentWest int) string {
	return fmt.Sprintf(`"%s":{"Distributions":[{"Region":"us-east-1","Percentage":%d},{"Region":"us-west-2","Percentage":%d}]}`, name, percentEast, percentWest)
}

// operationExample is a request of an operation that succeeds on the simulator of examples().
type operationExample struct{ method, path, body string }

// exampleConfig has two groups, of which the second has no members.
func exampleConfig() Config {
	return Config{
		Seed: 7, Agents: 30, Latency: -1, Floor: Busy(), RoutingProfiles: 3,
		TDGs: []TDGConfig{{Name: "default", Default: true, Agents: 1}, {Name: "second", ID: "0aaaaaaa-0000-0000-0000-000000000002"}},
	}
}

const secondTDG = "0aaaaaaa-0000-0000-0000-000000000002"

// examples are a successful request of every operation, on a simulator of exampleConfig.
func examples(s *Sim) map[string]operationExample {
	id := s.InstanceID()
	a := s.Agents()[0]
	contact := a.ID
	for _, other := range s.Agents() {
		if len(other.Contacts) > 0 {
			contact = other.Contacts[0].ID
			break
		}
	}
	group := "/traffic-distribution-group/" + DefaultTDGID
	return map[string]operationExample{
		"ListTrafficDistributionGroups":            {"GET", "/traffic-distribution-groups?instanceId=" + id + "&maxResults=10", ""},
		"DescribeTrafficDistributionGroup":         {"GET", group, ""},
		"CreateTrafficDistributionGroup":           {"PUT", "/traffic-distribution-group", `{"Name":"third","Description":"Night shift","InstanceId":"` + id + `","Tags":{"team":"night"}}`},
		"DeleteTrafficDistributionGroup":           {"DELETE", "/traffic-distribution-group/" + secondTDG, ""},
		"GetTrafficDistribution":                   {"GET", "/traffic-distribution/" + DefaultTDGID, ""},
		"UpdateTrafficDistribution":                {"PUT", "/traffic-distribution/" + DefaultTDGID, "{" + shares("TelephonyConfig", 0, 100) + "," + shares("AgentConfig", 0, 100) + "}"},
		"ListTrafficDistributionGroupUsers":        {"GET", group + "/user?maxResults=10", ""},
		"AssociateTrafficDistributionGroupUser":    {"PUT", group + "/user", `{"UserId":"` + a.ID + `","InstanceId":"` + id + `"}`},
		"DisassociateTrafficDistributionGroupUser": {"DELETE", group + "/user?UserId=" + a.ID + "&InstanceId=" + id, ""},
		"ListInstances":                            {"GET", "/instance?maxResults=10", ""},
		"DescribeInstance":                         {"GET", "/instance/" + id, ""},
		"ListUsers":                                {"GET", "/users-summary/" + id + "?maxResults=1000", ""},
		"DescribeUser":                             {"GET", "/users/" + id + "/" + a.ID, ""},
		"SearchUsers":                              {"POST", "/search-users", `{"InstanceId":"` + id + `","MaxResults":500,"SearchCriteria":{"StringCondition":{"FieldName":"Username","Value":"agent0000","ComparisonType":"STARTS_WITH"}}}`},
		"ListRoutingProfiles":                      {"GET", "/routing-profiles-summary/" + id, ""},
		"GetCurrentUserData":                       {"POST", "/metrics/userdata/" + id, `{"Filters":{"RoutingProfiles":["` + a.RoutingProfile + `"]},"MaxResults":100}`},
		"DescribeContact":                          {"GET", "/contacts/" + id + "/" + contact, ""},
	}
}

// TestEveryAnswerKeepsToTheModel gives every kind of answer that the simulator knows: each operation's success, each of
// its errors and each fault. newCounted holds all of them to Amazon's Smithy model; here the kinds are counted, so that
// none is forgotten.
func TestEveryAnswerKeepsToTheModel(t *testing.T) {
	if modelPath() == "" {
		t.Skip("no Smithy model of Amazon Connect: set CONNECT_MODEL to its file (connect-2017-08-08.json of github.com/aws/api-models-aws)")
	}
	// Every operation gives these: its own success, the common errors, and a spoilt answer under some faults.
	common := []string{"success", "spoilt", "InternalServiceException", "ThrottlingException", "TooManyRequestsException", "AccessDeniedException"}
	own := map[string][]string{
		"ListTrafficDistributionGroups":            {"InvalidRequestException"},
		"DescribeTrafficDistributionGroup":         {"InvalidRequestException", "ResourceNotFoundException"},
		"CreateTrafficDistributionGroup":           {"InvalidRequestException", "ResourceNotFoundException", "ResourceConflictException", "ServiceQuotaExceededException", "SerializationException"},
		"DeleteTrafficDistributionGroup":           {"InvalidRequestException", "ResourceInUseException"},
		"GetTrafficDistribution":                   {"InvalidRequestException", "ResourceNotFoundException"},
		"UpdateTrafficDistribution":                {"InvalidRequestException", "ResourceNotFoundException", "SerializationException"},
		"ListTrafficDistributionGroupUsers":        {"InvalidRequestException", "ResourceNotFoundException"},
		"AssociateTrafficDistributionGroupUser":    {"InvalidRequestException", "ResourceNotFoundException", "ResourceConflictException", "SerializationException"},
		"DisassociateTrafficDistributionGroupUser": {"InvalidRequestException", "ResourceNotFoundException"},
		"ListInstances":                            {"InvalidRequestException"},
		"DescribeInstance":                         {"ResourceNotFoundException"},
		"ListUsers":                                {"InvalidParameterException", "ResourceNotFoundException"},
		"DescribeUser":                             {"ResourceNotFoundException"},
		"SearchUsers":                              {"InvalidParameterException", "InvalidRequestException", "ResourceNotFoundException", "SerializationException"},
		"ListRoutingProfiles":                      {"InvalidParameterException", "ResourceNotFoundException"},
		"GetCurrentUserData":                       {"InvalidParameterException", "InvalidRequestException", "ResourceNotFoundException", "SerializationException"},
		"DescribeContact":                          {"ResourceNotFoundException"},
	}
	var want []string
	for _, op := range OperationNames() {
		require.Contains(t, own, op)
		for _, k := range append(slices.Clone(common), own[op]...) {
			want = append(want, op+" "+k)
		}
	}

	seen := map[string]bool{}
	run := func(c Config, f func(s *Sim)) {
		s, kinds := newCounted(t, c)
		f(s)
		for k := range kinds.seen {
			seen[k] = true
		}
	}
	do := func(s *Sim, region, method, path, body string) rawAnswer {
		t.Helper()
		a := send(t, s, region, method, path, body)
		require.Equal(t, answered, a.abort)
		return a
	}

	t.Log("each operation's success and all faults, with both views, in both Regions")
	for _, view := range []View{Regional, Global} {
		for _, op := range OperationNames() {
			for _, f := range append([]Fault{""}, Faults...) {
				if f == FaultHang || f == FaultReset {
					continue // no answer
				}
				c := exampleConfig()
				c.View, c.ShowOffline, c.SignedIn = view, view == Regional, 0.8
				run(c, func(s *Sim) {
					e := examples(s)[op]
					if f != "" {
						require.NoError(t, s.SetFault("*", op, f))
					}
					a := do(s, east, e.method, e.path, e.body)
					if f == "" {
						require.Equal(t, http.StatusOK, a.status, "%s: %s", op, a.raw)
					}
					for range 3 { // an empty page, and what follows
						next, _ := a.body["NextToken"].(string)
						if next == "" || f != FaultEmptyPages {
							break
						}
						a = do(s, east, e.method, withToken(e, next), bodyWithToken(e, next))
						require.Equal(t, http.StatusOK, a.status, "%s: %s", op, a.raw)
					}
				})
			}
		}
	}

	t.Log("throttled by the quota, a Region that answers 503")
	run(Config{Latency: -1, RatePerSecond: 2, Burst: 5}, func(s *Sim) {
		for range 6 {
			do(s, east, "GET", "/instance", "")
		}
		require.NoError(t, s.SetRegionDown(west, DownUnavailable))
		require.Equal(t, http.StatusServiceUnavailable, do(s, west, "GET", "/instance", "").status)
	})

	t.Log("errors")
	run(exampleConfig(), func(s *Sim) {
		e := examples(s)
		id, user := s.InstanceID(), s.Agents()[0].ID
		const nobody = "ffffffff-ffff-4fff-8fff-ffffffffffff"
		wantErr := func(region, method, path, body, typ string) {
			t.Helper()
			a := do(s, region, method, path, body)
			require.Equal(t, typ, a.typ, "%s %s %s: %s", method, path, body, a.raw)
		}
		get := func(path, typ string) { t.Helper(); wantErr(east, "GET", path, "", typ) }
		const invalid, param, missing = "InvalidRequestException", "InvalidParameterException", "ResourceNotFoundException"

		for _, path := range []string{"/traffic-distribution-groups?instanceId=" + id + "&", "/traffic-distribution-group/" + DefaultTDGID + "/user?", "/instance?"} {
			for _, q := range []string{"maxResults=0", "maxResults=11", "maxResults=x", "nextToken=x", "nextToken=" + token{Question: 1}.String()} {
				get(path+q, invalid)
			}
		}
		for _, path := range []string{"/users-summary/", "/routing-profiles-summary/"} {
			for _, q := range []string{"maxResults=0", "maxResults=1001", "nextToken=x"} {
				get(path+id+"?"+q, param)
			}
			get(path+nobody, missing)
		}
		get("/traffic-distribution-groups?instanceId="+nobody, invalid)
		get("/instance/"+nobody, missing)
		get("/users/"+id+"/"+nobody, missing)
		get("/users/"+nobody+"/"+user, missing)
		get("/contacts/"+id+"/"+nobody, missing)
		get("/contacts/"+nobody+"/"+nobody, missing)
		wantErr(west, "GET", e["DescribeContact"].path, "", missing) // another Region's contact

		group := "/traffic-distribution-group/"
		for _, p := range []string{group + "%s", "/traffic-distribution/%s", group + "%s/user"} {
			get(fmt.Sprintf(p, "nonsense"), invalid)
			get(fmt.Sprintf(p, escaped("arn:aws:connect:us-east-1:111122223333:instance/"+id)), invalid)
			get(fmt.Sprintf(p, nobody), missing)
			get(fmt.Sprintf(p, escaped("arn:aws:connect:us-west-2:111122223333:traffic-distribution-group/"+DefaultTDGID)), missing)
			wantErr(west, "GET", fmt.Sprintf(p, DefaultTDGID), "", missing) // a bare id in the replica
			require.Equal(t, 200, do(s, west, "GET", fmt.Sprintf(p, escaped(tdgARN+DefaultTDGID)), "").status)
			require.Equal(t, 200, do(s, east, "GET", fmt.Sprintf(p, escaped(tdgARN+DefaultTDGID)), "").status)
		}

		update := func(body, typ string) {
			t.Helper()
			wantErr(east, "PUT", "/traffic-distribution/"+DefaultTDGID, body, typ)
		}
		update("{"+shares("AgentConfig", 55, 45)+"}", invalid)
		update("{"+shares("AgentConfig", 50, 40)+"}", invalid)
		update("{"+shares("TelephonyConfig", 110, -10)+"}", invalid)
		update(`{"AgentConfig":{}}`, invalid)
		update(`{"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":100}]}}`, invalid)
		update(`{"AgentConfig":{"Distributions":[{"Region":"us-east-1"},{"Region":"us-west-2","Percentage":100}]}}`, invalid)
		update(`{"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":0},{"Region":"eu-west-2","Percentage":100}]}}`, invalid)
		update(`{"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":50},{"Region":"us-east-1","Percentage":50}]}}`, invalid)
		update(`{"SignInConfig":{"Distributions":[{"Region":"us-east-1","Enabled":true}]}}`, invalid)
		update(`{"SignInConfig":{"Distributions":[{"Region":"us-east-1"},{"Region":"us-west-2","Enabled":true}]}}`, invalid)
		update(`{"AgentConfig":[]}`, "SerializationException")
		update(`{`, "SerializationException")
		wantErr(east, "PUT", "/traffic-distribution/"+nobody, "{}", missing)
		wantErr(east, "PUT", "/traffic-distribution/"+secondTDG,
			`{"SignInConfig":{"Distributions":[{"Region":"us-east-1","Enabled":true},{"Region":"us-west-2","Enabled":true}]}}`, invalid)

		users := group + DefaultTDGID + "/user"
		wantErr(east, "PUT", users, `{"UserId":"`+nobody+`","InstanceId":"`+id+`"}`, missing)
		wantErr(east, "PUT", users, `{"UserId":"`+user+`","InstanceId":"`+nobody+`"}`, missing)
		wantErr(east, "PUT", users, `{"UserId":"`+user+`"}`, invalid)
		wantErr(east, "PUT", users, `[]`, "SerializationException")
		wantErr(east, "PUT", group+secondTDG+"/user", `{"UserId":"`+user+`","InstanceId":"`+id+`"}`, "ResourceConflictException")
		wantErr(west, "PUT", group+escaped(tdgARN+DefaultTDGID)+"/user", `{"UserId":"`+user+`","InstanceId":"`+id+`"}`, missing)
		wantErr(east, "DELETE", users, "", invalid)
		wantErr(east, "DELETE", users+"?UserId="+nobody+"&InstanceId="+id, "", missing)

		wantErr(east, "DELETE", group+DefaultTDGID, "", invalid)
		wantErr(east, "DELETE", group+nobody, "", invalid)
		wantErr(west, "DELETE", group+escaped(tdgARN+secondTDG), "", invalid)
		create := func(region, name, instance, typ string) {
			t.Helper()
			wantErr(region, "PUT", "/traffic-distribution-group", fmt.Sprintf(`{"Name":%q,"InstanceId":%q}`, name, instance), typ)
		}
		create(east, "", id, invalid)
		create(east, strings.Repeat("x", 129), id, invalid)
		create(east, " x", id, invalid)
		create(east, "default", id, "ResourceConflictException")
		create(east, "other", nobody, missing)
		create(west, "other", id, invalid)
		wantErr(east, "PUT", "/traffic-distribution-group", `{"Name":"x","Description":"`+strings.Repeat("x", 251)+`","InstanceId":"`+id+`"}`, invalid)
		wantErr(east, "PUT", "/traffic-distribution-group", `{"Name":"x","InstanceId":"`+id+`","ClientToken":"`+strings.Repeat("x", 501)+`"}`, invalid)
		wantErr(east, "PUT", "/traffic-distribution-group", `{"Name":7}`, "SerializationException")
		for _, tags := range []string{`{}`, `{"aws:x":""}`, `{"":""}`, `{"x":"` + strings.Repeat("x", 257) + `"}`} {
			wantErr(east, "PUT", "/traffic-distribution-group", `{"Name":"x","InstanceId":"`+id+`","Tags":`+tags+`}`, invalid)
		}
		for i := range 6 {
			do(s, east, "PUT", "/traffic-distribution-group", fmt.Sprintf(`{"Name":"more %d","InstanceId":%q}`, i, id))
		}
		create(east, "one too many", id, "ServiceQuotaExceededException")
		third := s.namedTDG("more 1")
		require.NoError(t, s.moveTo(user, third.id))
		wantErr(east, "DELETE", group+third.id, "", "ResourceInUseException")

		data := func(body, typ string) {
			t.Helper()
			wantErr(east, "POST", "/metrics/userdata/"+id, body, typ)
		}
		many := `"` + strings.Repeat(`x","`, 100) + `x"`
		data(``, invalid)
		data(`{}`, invalid)
		data(`{"Filters":{}}`, param)
		data(`{"Filters":{"Agents":[]}}`, param)
		data(`{"Filters":{"Agents":[`+many+`]}}`, param)
		data(`{"Filters":{"Queues":[`+many+`]}}`, param)
		data(`{"Filters":{"RoutingProfiles":[`+many+`]}}`, param)
		data(`{"Filters":{"UserHierarchyGroups":["a","b"]}}`, param)
		data(`{"Filters":{"Agents":["a"],"Queues":["b"]}}`, param)
		data(`{"Filters":{"Agents":["a"],"ContactFilter":{"ContactStates":["PAUSED"]}}}`, param)
		data(`{"Filters":{"Agents":["a"],"ContactFilter":{"ContactStates":[`+strings.Repeat(`"ENDED",`, 9)+`"ENDED"]}}}`, param)
		data(`{"Filters":{"Agents":["a"]},"MaxResults":0}`, param)
		data(`{"Filters":{"Agents":["a"]},"MaxResults":101}`, param)
		data(`{"Filters":{"Agents":["a"]},"NextToken":"x"}`, param)
		data(`{"Filters":{"Agents":"a"}}`, "SerializationException")
		wantErr(east, "POST", "/metrics/userdata/"+nobody, `{"Filters":{"Agents":["a"]}}`, missing)

		search := func(body, typ string) { t.Helper(); wantErr(east, "POST", "/search-users", body, typ) }
		search(`{}`, invalid)
		search(`{"InstanceId":"`+nobody+`"}`, missing)
		search(`{"InstanceId":"`+id+`","MaxResults":501}`, param)
		search(`{"InstanceId":"`+id+`","NextToken":"x"}`, param)
		search(`{"InstanceId":"`+id+`","SearchCriteria":{"StringCondition":{"FieldName":"Shoe","Value":"7","ComparisonType":"EXACT"}}}`, param)
		search(`{"InstanceId":"`+id+`","SearchCriteria":{"AndConditions":[{"StringCondition":{"FieldName":"Username","Value":"7","ComparisonType":"LIKE"}}]}}`, param)
		search(`{"InstanceId":"`+id+`","SearchCriteria":{"OrConditions":[{"StringCondition":{"FieldName":"Username","Value":"7","ComparisonType":"LIKE"}}]}}`, param)
		search(`{"InstanceId":"`+id+`","SearchCriteria":[]}`, "SerializationException")
		search(`[]`, "SerializationException")
	})

	t.Log("while a group is made, updated or deleted")
	c := exampleConfig()
	c.UpdateWindow = time.Hour
	run(c, func(s *Sim) {
		status := func(id string) any {
			return do(s, east, "GET", "/traffic-distribution-group/"+id, "").body["TrafficDistributionGroup"].(map[string]any)["Status"]
		}
		e := examples(s)
		do(s, east, "PUT", e["UpdateTrafficDistribution"].path, e["UpdateTrafficDistribution"].body)
		require.Equal(t, "UPDATE_IN_PROGRESS", status(DefaultTDGID))
		require.Equal(t, "InvalidRequestException", do(s, east, "PUT", e["UpdateTrafficDistribution"].path, e["UpdateTrafficDistribution"].body).typ)
		require.Equal(t, "InvalidRequestException", do(s, east, "GET", e["GetTrafficDistribution"].path, "").typ)
		a := e["AssociateTrafficDistributionGroupUser"]
		require.Equal(t, "ResourceNotFoundException", do(s, east, "PUT", a.path, a.body).typ)
		third := do(s, east, "PUT", "/traffic-distribution-group", e["CreateTrafficDistributionGroup"].body).body["Id"].(string)
		require.Equal(t, "CREATION_IN_PROGRESS", status(third))
		require.Equal(t, "InvalidRequestException", do(s, east, "DELETE", "/traffic-distribution-group/"+third, "").typ)
		do(s, east, "DELETE", "/traffic-distribution-group/"+secondTDG, "")
		require.Equal(t, "PENDING_DELETION", status(secondTDG))
		require.Len(t, do(s, east, "GET", "/traffic-distribution-groups", "").body["TrafficDistributionGroupSummaryList"], 3)
	})

	t.Log("contacts in every state, of every channel, seen and described in both views")
	for _, view := range []View{Regional, Global} {
		run(Config{Agents: 1, Latency: -1, View: view, DifferingUserIDs: view == Regional}, func(s *Sim) {
			agent := s.Agents()[0].ID
			for _, channel := range []string{ChannelVoice, ChannelChat, ChannelTask, ChannelEmail} {
				for _, state := range contactStates {
					for _, region := range s.Regions() {
						c, err := s.StartContactIn(region, agent, channel)
						require.NoError(t, err)
						require.NoError(t, s.SetContactState(c, state))
						require.Equal(t, 200, do(s, region, "GET", "/contacts/"+s.InstanceID()+"/"+c, "").status)
					}
				}
			}
			for i, region := range s.Regions() {
				a := do(s, region, "POST", "/metrics/userdata/"+s.InstanceID(), `{"Filters":{"Agents":["`+s.agents[0].ids[i]+`"]}}`)
				require.Len(t, a.body["UserDataList"], 1)
				n := 4 * len(contactStates)
				if view == Global {
					n *= 2
				}
				require.Len(t, a.body["UserDataList"].([]any)[0].(map[string]any)["Contacts"], n)
			}
		})
	}

	require.Equal(t, slices.Sorted(slices.Values(want)), slices.Sorted(maps.Keys(seen)))
}

// moveTo puts an agent into another group.
func (s *Sim) moveTo(agent, tdg string) error {
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(agent)
	if err != nil {
		return err
	}
	s.leave(a)
	s.join(a, s.namedTDG(tdg))
	return nil
}

// withToken is the path of an example's next page.
func withToken(e operationExample, next string) string {
	if e.method != "GET" {
		return e.path
	}
	sep := "?"
	if strings.Contains(e.path, "?") {
		sep = "&"
	}
	return e.path + sep + "nextToken=" + next
}

// bodyWithToken is the body of an example's next page.
func bodyWithToken(e operationExample, next string) string {
	if e.method == "GET" {
		return ""
	}
	return strings.TrimSuffix(e.body, "}") + `,"NextToken":"` + next + `"}`
}

// TestValidatorSeesWrongAnswers proves that the check can fail.
func TestValidatorSeesWrongAnswers(t *testing.T) {
	m, err := loadModel()
	require.NoError(t, err)
	if m == nil {
		t.Skip("no Smithy model of Amazon Connect: set CONNECT_MODEL to its file")
	}
	ok := http.Header{"Content-Type": {"application/json"}, "X-Amzn-Requestid": {"1"}}
	fail := func(typ string) http.Header {
		h := ok.Clone()
		h.Set("x-amzn-ErrorType", typ)
		return h
	}
	good := `{"Id":"0aaaaaaa-0000-0000-0000-000000000001",` + shares("AgentConfig", 0, 100) + `}`
	require.Empty(t, m.checkAnswer("GetTrafficDistribution", 200, ok, []byte(good)))
	for name, c := range map[string]struct {
		op     string
		status int
		header http.Header
		body   string
	}{
		"wrong status":         {"GetTrafficDistribution", 201, ok, good},
		"no content type":      {"GetTrafficDistribution", 200, http.Header{"X-Amzn-Requestid": {"1"}}, good},
		"no request id":        {"GetTrafficDistribution", 200, http.Header{"Content-Type": {"application/json"}}, good},
		"unknown member":       {"GetTrafficDistribution", 200, ok, `{"Identifier":"x"}`},
		"pattern":              {"GetTrafficDistribution", 200, ok, `{"Id":"X"}`},
		"range":                {"GetTrafficDistribution", 200, ok, "{" + shares("AgentConfig", -10, 110) + "}"},
		"required":             {"GetTrafficDistribution", 200, ok, `{"AgentConfig":{}}`},
		"null":                 {"GetTrafficDistribution", 200, ok, `{"AgentConfig":null}`},
		"not a structure":      {"GetTrafficDistribution", 200, ok, `[]`},
		"not an integer":       {"GetTrafficDistribution", 200, ok, `{"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":"100"}]}}`},
		"fraction":             {"GetTrafficDistribution", 200, ok, `{"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":0.5}]}}`},
		"two values":           {"GetTrafficDistribution", 200, ok, good + good},
		"enum":                 {"GetCurrentUserData", 200, ok, `{"UserDataList":[{"Contacts":[{"Channel":"FAX"}]}]}`},
		"enum key":             {"GetCurrentUserData", 200, ok, `{"UserDataList":[{"MaxSlotsByChannel":{"FAX":1}}]}`},
		"timestamp":            {"GetCurrentUserData", 200, ok, `{"UserDataList":[{"Status":{"StatusStartTimestamp":"2026-11-22T00:00:00Z"}}]}`},
		"list":                 {"GetCurrentUserData", 200, ok, `{"UserDataList":{}}`},
		"length":               {"ListTrafficDistributionGroupUsers", 200, ok, `{"TrafficDistributionGroupUserSummaryList":[` + strings.Repeat(`{},`, 10) + `{}]}`},
		"string":               {"ListUsers", 200, ok, `{"NextToken":7}`},
		"boolean":              {"DescribeInstance", 200, ok, `{"Instance":{"InboundCallsEnabled":1}}`},
		"forbidden prefix":     {"DescribeInstance", 200, ok, `{"Instance":{"InstanceAlias":"d-1"}}`},
		"error of another":     {"ListUsers", 409, fail("ResourceConflictException"), `{"Message":"x"}`},
		"error with status":    {"ListUsers", 400, fail("ResourceNotFoundException"), `{"Message":"x"}`},
		"error without text":   {"ListUsers", 404, fail("ResourceNotFoundException"), `{}`},
		"error in lower case":  {"ListUsers", 404, fail("ResourceNotFoundException"), `{"message":"x"}`},
		"common with a status": {"DescribeInstance", 400, fail("ThrottlingException"), `{"Message":"x"}`},
	} {
		require.NotEmpty(t, m.checkAnswer(c.op, c.status, c.header, []byte(c.body)), name)
	}
}

// TestAbortedRequestsEndWithTheirContext covers the two faults that give no answer.
func TestAbortedRequestsEndWithTheirContext(t *testing.T) {
	s := newChecked(t, Config{Latency: -1})
	require.NoError(t, s.SetFault(east, "*", FaultReset))
	require.NoError(t, s.SetFault(west, "*", FaultHang))
	require.Equal(t, reset, send(t, s, east, "GET", "/instance", "").abort)
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequest("GET", "/instance", nil).WithContext(ctx)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=A/20261122/us-west-2/connect/aws4_request, SignedHeaders=host, Signature=0")
	done := make(chan reply, 1)
	go func() { done <- s.respond(ctx, r) }()
	cancel()
	require.Equal(t, hung, (<-done).abort)
}
