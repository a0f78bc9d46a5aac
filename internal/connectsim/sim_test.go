package connectsim

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/connect"
	"github.com/aws/aws-sdk-go-v2/service/connect/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inProcess is a client of a Region without sockets.
func inProcess(sim *Sim, region string) *connect.Client {
	return client(region, "http://connect.test", sim.Transport())
}

func client(region, endpoint string, rt http.RoundTripper) *connect.Client {
	return connect.New(connect.Options{
		Region: region, BaseEndpoint: aws.String(endpoint), HTTPClient: &http.Client{Transport: rt},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""), RetryMaxAttempts: 1,
	})
}

// overTCP serves the simulator and gives a client of each Region.
func overTCP(t testing.TB, sim *Sim) (source, replica *connect.Client) {
	url := serve(t, sim)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return client(east, url, tr), client(west, url, tr)
}

// TestGoSDK drives every operation with the Go SDK, over TCP and in process.
func TestGoSDK(t *testing.T) {
	for _, how := range []string{"over TCP", "in process"} {
		t.Run(how, func(t *testing.T) {
			ctx := t.Context()
			sim := newChecked(t, clientConfig())
			e, w := inProcess(sim, east), inProcess(sim, west)
			if how == "over TCP" {
				e, w = overTCP(t, sim)
			}
			id := aws.String(sim.InstanceID())

			instances, err := e.ListInstances(ctx, &connect.ListInstancesInput{})
			require.NoError(t, err)
			require.Equal(t, id, instances.InstanceSummaryList[0].Id)
			instance, err := w.DescribeInstance(ctx, &connect.DescribeInstanceInput{InstanceId: id})
			require.NoError(t, err)
			require.Equal(t, east, *instance.ReplicationConfiguration.SourceRegion)
			require.Equal(t, types.InstanceReplicationStatusInstanceReplicationComplete, instance.ReplicationConfiguration.ReplicationStatusSummaryList[0].ReplicationStatus)

			groups, err := w.ListTrafficDistributionGroups(ctx, &connect.ListTrafficDistributionGroupsInput{InstanceId: id})
			require.NoError(t, err)
			require.Len(t, groups.TrafficDistributionGroupSummaryList, 2)
			g := groups.TrafficDistributionGroupSummaryList[0]
			require.True(t, g.IsDefault)
			_, err = w.GetTrafficDistribution(ctx, &connect.GetTrafficDistributionInput{Id: g.Id})
			var missing *types.ResourceNotFoundException
			require.ErrorAs(t, err, &missing, "a bare id resolves only in the source Region")
			described, err := w.DescribeTrafficDistributionGroup(ctx, &connect.DescribeTrafficDistributionGroupInput{TrafficDistributionGroupId: g.Arn})
			require.NoError(t, err)
			require.Equal(t, types.TrafficDistributionGroupStatusActive, described.TrafficDistributionGroup.Status)
			made, err := e.CreateTrafficDistributionGroup(ctx, &connect.CreateTrafficDistributionGroupInput{InstanceId: id, Name: aws.String("third"), ClientToken: aws.String("once")})
			require.NoError(t, err)
			again, err := e.CreateTrafficDistributionGroup(ctx, &connect.CreateTrafficDistributionGroupInput{InstanceId: id, Name: aws.String("third"), ClientToken: aws.String("once")})
			require.NoError(t, err)
			require.Equal(t, made.Id, again.Id, "a client token makes one group")
			_, err = e.DeleteTrafficDistributionGroup(ctx, &connect.DeleteTrafficDistributionGroupInput{TrafficDistributionGroupId: made.Id})
			require.NoError(t, err)

			var userIDs []string
			for p := connect.NewListUsersPaginator(e, &connect.ListUsersInput{InstanceId: id, MaxResults: aws.Int32(7)}); p.HasMorePages(); {
				page, err := p.NextPage(ctx)
				require.NoError(t, err)
				for _, u := range page.UserSummaryList {
					userIDs = append(userIDs, *u.Id)
				}
			}
			require.Len(t, userIDs, 25)
			var members []string
			for p := connect.NewListTrafficDistributionGroupUsersPaginator(w, &connect.ListTrafficDistributionGroupUsersInput{TrafficDistributionGroupId: g.Arn}); p.HasMorePages(); {
				page, err := p.NextPage(ctx)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page.TrafficDistributionGroupUserSummaryList), 10)
				for _, u := range page.TrafficDistributionGroupUserSummaryList {
					members = append(members, *u.UserId)
				}
			}
			require.Equal(t, userIDs, members)
			user, err := e.DescribeUser(ctx, &connect.DescribeUserInput{InstanceId: id, UserId: &userIDs[3]})
			require.NoError(t, err)
			found, err := e.SearchUsers(ctx, &connect.SearchUsersInput{InstanceId: id, SearchCriteria: &types.UserSearchCriteria{
				OrConditions: []types.UserSearchCriteria{
					{StringCondition: &types.StringCondition{FieldName: aws.String("username"), Value: user.User.Username, ComparisonType: types.StringComparisonTypeExact}},
					{ListCondition: &types.ListCondition{TargetListType: types.TargetListTypeProficiencies}},
				},
				AndConditions: []types.UserSearchCriteria{{StringCondition: &types.StringCondition{
					FieldName: aws.String("RoutingProfileId"), Value: user.User.RoutingProfileId, ComparisonType: types.StringComparisonTypeContains,
				}}},
				HierarchyGroupCondition: &types.HierarchyGroupCondition{Value: user.User.HierarchyGroupId, HierarchyGroupMatchType: types.HierarchyGroupMatchTypeExact},
			}})
			require.NoError(t, err)
			require.Equal(t, userIDs[3], *found.Users[0].Id)
			require.EqualValues(t, 1, *found.ApproximateTotalCount)
			filtered, err := e.SearchUsers(ctx, &connect.SearchUsersInput{InstanceId: id, SearchFilter: &types.UserSearchFilter{
				UserAttributeFilter: &types.ControlPlaneUserAttributeFilter{
					AndCondition: &types.AttributeAndCondition{HierarchyGroupCondition: &types.HierarchyGroupCondition{Value: user.User.HierarchyGroupId}},
					OrConditions: []types.AttributeAndCondition{{TagConditions: []types.TagCondition{{TagKey: aws.String("a")}}}, {}},
				},
			}})
			require.NoError(t, err)
			require.Len(t, filtered.Users, 6, "a fourth of 25")

			_, err = e.DisassociateTrafficDistributionGroupUser(ctx, &connect.DisassociateTrafficDistributionGroupUserInput{TrafficDistributionGroupId: g.Id, InstanceId: id, UserId: &userIDs[0]})
			require.NoError(t, err)
			_, err = e.AssociateTrafficDistributionGroupUser(ctx, &connect.AssociateTrafficDistributionGroupUserInput{TrafficDistributionGroupId: g.Id, InstanceId: id, UserId: &userIDs[0]})
			require.NoError(t, err)

			profiles, err := e.ListRoutingProfiles(ctx, &connect.ListRoutingProfilesInput{InstanceId: id})
			require.NoError(t, err)
			var filter types.UserDataFilters
			for _, p := range profiles.RoutingProfileSummaryList {
				filter.RoutingProfiles = append(filter.RoutingProfiles, *p.Arn)
			}
			contact, err := sim.StartContact(userIDs[2], ChannelChat)
			require.NoError(t, err)
			seen := map[string]types.UserData{}
			for p := connect.NewGetCurrentUserDataPaginator(e, &connect.GetCurrentUserDataInput{InstanceId: id, Filters: &filter, MaxResults: aws.Int32(10)}); p.HasMorePages(); {
				page, err := p.NextPage(ctx)
				require.NoError(t, err)
				require.EqualValues(t, 25, *page.ApproximateTotalCount)
				for _, u := range page.UserDataList {
					seen[*u.User.Id] = u
				}
			}
			require.Len(t, seen, 25)
			c := seen[userIDs[2]].Contacts[0]
			require.Equal(t, contact, *c.ContactId)
			require.Equal(t, types.ContactStateConnected, c.AgentContactState)
			require.WithinDuration(t, time.Now(), *c.StateStartTimestamp, time.Minute)
			dc, err := e.DescribeContact(ctx, &connect.DescribeContactInput{InstanceId: id, ContactId: &contact})
			require.NoError(t, err)
			require.Equal(t, east, *dc.Contact.GlobalResiliencyMetadata.ActiveRegion)
			require.Equal(t, *g.Id, *dc.Contact.GlobalResiliencyMetadata.TrafficDistributionGroupId)

			all := []types.Distribution{{Region: aws.String(east), Percentage: 0}, {Region: aws.String(west), Percentage: 100}}
			_, err = w.UpdateTrafficDistribution(ctx, &connect.UpdateTrafficDistributionInput{Id: g.Arn,
				TelephonyConfig: &types.TelephonyConfig{Distributions: all}, AgentConfig: &types.AgentConfig{Distributions: all}})
			require.NoError(t, err)
			d, err := e.GetTrafficDistribution(ctx, &connect.GetTrafficDistributionInput{Id: g.Arn})
			require.NoError(t, err)
			require.Equal(t, all, d.AgentConfig.Distributions)
			require.True(t, d.SignInConfig.Distributions[0].Enabled, "what the update did not name stays")

			called := map[string]bool{}
			for k := range sim.CallCounts() {
				called[k.Operation] = true
			}
			for _, op := range OperationNames() {
				require.True(t, called[op], "%s was not driven", op)
			}
		})
	}
}

// TestQuota holds the token bucket to Amazon Connect's defaults and to the exact answer.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{Latency: -1, RatePerSecond: 2, Burst: 5, Agents: 1})
		ask := func(region string) int { return send(t, sim, region, "GET", "/instance", "").status }
		burst := func(region string) (n int) {
			for ask(region) == 200 {
				n++
			}
			return n
		}
		require.Equal(t, 5, burst(east))
		a := send(t, sim, east, "GET", "/instance", "")
		require.Equal(t, 429, a.status)
		require.Equal(t, "ThrottlingException", a.header.Get("x-amzn-ErrorType"))
		require.Equal(t, "application/json", a.header.Get("Content-Type"))
		require.JSONEq(t, `{"Message":"Rate exceeded"}`, a.raw)

		require.Equal(t, 5, burst(west), "each Region has its own")
		require.Equal(t, 200, send(t, sim, east, "GET", "/instance/"+sim.InstanceID(), "").status, "each operation has its own")
		time.Sleep(499 * time.Millisecond)
		require.Equal(t, 429, ask(east))
		time.Sleep(time.Millisecond)
		require.Equal(t, 1, burst(east))
		time.Sleep(time.Second)
		require.Equal(t, 2, burst(east))
		time.Sleep(time.Hour)
		require.Equal(t, 5, burst(east))

		contact, err := sim.StartContact("agent00001", ChannelVoice)
		require.NoError(t, err)
		n := 0
		for send(t, sim, east, "GET", "/contacts/"+sim.InstanceID()+"/"+contact, "").status == 200 {
			n++
		}
		require.Equal(t, 15, n, "DescribeContact has 10 a second, burst 15")
	})
}

// TestRegionComesFromTheSignature reads the Region from the scope, whatever host was called.
func TestRegionComesFromTheSignature(t *testing.T) {
	sim := newChecked(t, Config{Latency: -1})
	url := serve(t, sim)
	ask := func(auth string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/instance/"+sim.InstanceID(), nil)
		require.NoError(t, err)
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if typ := resp.Header.Get("x-amzn-ErrorType"); typ != "" {
			return resp.StatusCode, typ
		}
		return resp.StatusCode, string(b)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, region := range sim.Regions() {
		status, body := ask("AWS4-HMAC-SHA256 Credential=AKID/20261122/" + region + "/connect/aws4_request, SignedHeaders=host, Signature=0")
		require.Equal(t, 200, status)
		require.Contains(t, body, "arn:aws:connect:"+region+":")
	}
	for auth, want := range map[string]string{
		"":                 "MissingAuthenticationTokenException",
		"Bearer something": "InvalidSignatureException",
		"AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-west-2/connect/aws4_request, SignedHeaders=host, Signature=0": "InvalidSignatureException",
		"AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0":      "InvalidSignatureException",
	} {
		status, typ := ask(auth)
		require.Equal(t, 403, status)
		require.Equal(t, want, typ, auth)
	}
	a := send(t, sim, east, "GET", "/queues-summary/"+sim.InstanceID(), "")
	require.Equal(t, "UnknownOperationException", a.typ)
	require.Equal(t, 404, a.status)
}

// TestFaultsOverTCPAndInProcess compares what a client sees on a socket with what Transport gives.
func TestFaultsOverTCPAndInProcess(t *testing.T) {
	for _, how := range []string{"over TCP", "in process"} {
		t.Run(how, func(t *testing.T) {
			sim := newChecked(t, Config{})
			_, w := overTCP(t, sim)
			if how == "in process" {
				w = inProcess(sim, west)
			}
			within := func(d time.Duration) error {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				_, err := w.ListInstances(ctx, &connect.ListInstancesInput{})
				return err
			}
			ask := func() error { return within(time.Minute) }
			hangs := func() error { return within(50 * time.Millisecond) } // for what never answers
			require.NoError(t, ask())
			require.NoError(t, sim.SetFault(west, "ListInstances", FaultReset))
			require.ErrorIs(t, ask(), syscall.ECONNRESET)
			require.NoError(t, sim.SetFault(west, "ListInstances", FaultHang))
			require.ErrorIs(t, hangs(), context.DeadlineExceeded)
			require.NoError(t, sim.SetFault(west, "ListInstances", FaultThrottledBare))
			var api smithy.APIError
			require.ErrorAs(t, ask(), &api)
			require.Equal(t, "UnknownError", api.ErrorCode(), "a 429 without a type")
			require.NoError(t, sim.ClearFault(west, "ListInstances"))
			require.NoError(t, ask())

			for _, mode := range []DownMode{DownRefuse, DownHang, DownUnavailable} {
				require.NoError(t, sim.SetRegionDown(west, mode))
				if mode == DownHang {
					require.ErrorIs(t, hangs(), context.DeadlineExceeded)
				} else {
					require.Error(t, ask(), mode)
				}
				_, err := inProcess(sim, east).ListInstances(t.Context(), &connect.ListInstancesInput{})
				require.NoError(t, err, "the other Region is not concerned")
			}
			require.NoError(t, sim.SetRegionDown(west, Up))
			require.NoError(t, ask())
			require.NoError(t, sim.SetLatency(west, "*", time.Hour))
			require.ErrorIs(t, hangs(), context.DeadlineExceeded)
			require.NoError(t, sim.SetLatency(west, "*", 0))
			require.NoError(t, ask())
		})
	}
}

// TestHangEndsWithTheRequest lets nothing behind when a client goes away.
func TestHangEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newChecked(t, Config{})
		require.NoError(t, sim.SetFault("*", "*", FaultHang))
		c := client(west, "http://connect.test", sim.Transport())
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		_, err := c.ListInstances(ctx, &connect.ListInstancesInput{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 4*time.Second, time.Since(began))
		calls := sim.Calls()
		require.Equal(t, []Call{{At: calls[0].At, Region: west, Operation: "ListInstances", Path: "/instance"}}, calls, "no answer is status 0")
	})
}

// TestCallsAreCounted keeps the last ones and counts all.
func TestCallsAreCounted(t *testing.T) {
	sim := New(Config{Latency: -1}) // ten thousand answers that other tests check
	for i := range keepCalls + 5 {
		send(t, sim, east, "GET", fmt.Sprintf("/instance?maxResults=%d", 1+i%10), "")
	}
	send(t, sim, west, "POST", "/search-users", strings.Repeat(" ", 3000))
	require.Equal(t, map[CallKey]int{{east, "ListInstances"}: keepCalls + 5, {west, "SearchUsers"}: 1}, sim.CallCounts())
	calls := sim.Calls()
	require.Len(t, calls, keepCalls)
	require.Equal(t, "maxResults=7", calls[0].Query, "the oldest six were dropped")
	last := calls[len(calls)-1]
	require.Equal(t, "SearchUsers", last.Operation)
	require.Equal(t, "SerializationException", last.Error)
	require.Len(t, last.Body, 2000)
	sim.ResetCalls()
	require.Empty(t, sim.Calls())
	require.Empty(t, sim.CallCounts())
}

// TestWrongMethodCalls names what is not known.
func TestWrongMethodCalls(t *testing.T) {
	sim := newChecked(t, Config{Agents: 1})
	contact, err := sim.StartContact("agent00001", ChannelVoice)
	require.NoError(t, err)
	require.NoError(t, sim.ClearContact(contact))
	first := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		`region "eu-west-2"`:      sim.SetRegionDown("eu-west-2", DownHang),
		`down mode "off"`:         sim.SetRegionDown(east, "off"),
		`region "x"`:              sim.SetFault("x", "*", FaultHang),
		`operation "Sleep"`:       sim.SetLatency(east, "Sleep", time.Second),
		`fault "boredom"`:         sim.SetFault("*", "*", "boredom"),
		`region "y"`:              sim.ClearFault("y", "*"),
		`region "z"`:              sim.Freeze("z", ""),
		`group "night"`:           sim.Thaw(east, "night"),
		`region "q"`:              sim.Shift("", "q", 100),
		`group "day"`:             sim.Shift("day", west, 100),
		`region "u"`:              sim.UpdateTrafficDistribution("u", "", Distributions{}),
		`group "dawn"`:            sim.UpdateTrafficDistribution(east, "dawn", Distributions{}),
		`increments of 10`:        sim.Shift("", west, 15),
		`agent "bob"`:             first(sim.Agent("bob")),
		`agent "rob"`:             sim.RemoveAgent("rob"),
		`agent "zob"`:             sim.SetAgentStatus("zob", StatusOffline),
		`status ""`:               sim.SetAgentStatus("agent00001", ""),
		`agent "job"`:             first(sim.StartContact("job", ChannelVoice)),
		`channel "FAX"`:           first(sim.StartContact("agent00001", "FAX")),
		`region "w"`:              first(sim.StartContactIn("w", "agent00001", ChannelVoice)),
		`contact "c"`:             sim.EndContact("c"),
		`contact "d"`:             sim.ClearContact("d"),
		`contact "e"`:             sim.SetContactState("e", StateEnded),
		`was cleared at`:          sim.EndContact(contact),
		`"agent00001" exists`:     first(sim.AddAgent("agent00001", "")),
		`group "dusk"`:            first(sim.AddAgent("new", "dusk")),
		`callsPerHour -1`:         sim.SetFloor(Floor{CallsPerHour: -1}),
		`contact state "PERHAPS"`: sim.SetContactState(func() string { id, _ := sim.StartContact("agent00001", ChannelChat); return id }(), "PERHAPS"),
	} {
		require.ErrorContains(t, err, name)
	}
}

// TestConfigurationIsChecked names every fault at once.
func TestConfigurationIsChecked(t *testing.T) {
	require.NoError(t, Config{}.Validate())
	err := Config{
		Regions: [2]string{"us", "us"}, Account: "1", InstanceID: "x", Alias: "d-1", View: "odd", Agents: -1, RoutingProfiles: 20_000,
		RatePerSecond: 2, UpdateWindow: -1, Lag: -1, AvailableAfter: -1, Floor: Floor{TasksPerHour: -1},
		TDGs: []TDGConfig{{Name: " x"}, {Name: "a", ID: "b", Agents: -1, Percent: 5, Default: true}, {Name: "a", Default: true}},
	}.Validate()
	for _, want := range []string{
		`region "us"`, "us twice", `account "1"`, `instance id "x"`, `alias "d-1"`, `view "odd"`, "agents -1", "routing profiles 20000", "burst 0",
		"update window", "lag", "available after", "tasksPerHour -1", `name " x"`, `id "b"`, `"a" agents -1`, `"a" percent 5`, `"a": name or id is used twice`, "expected one default group, got 2",
	} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, Config{RatePerSecond: -1}.Validate(), "rate per second")
	require.ErrorContains(t, Config{TDGs: make([]TDGConfig, 9)}.Validate(), "expected up to 8, got 9")
	require.Panics(t, func() { New(Config{Account: "1"}) })
}
