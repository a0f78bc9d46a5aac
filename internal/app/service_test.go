package app

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
)

// Failing and hanging answers of one Region, on every operation, make no event; the other Region's new distribution is adopted all
// the same, at most a second later (R13, R14).
func TestFaultsOfARegionMakeNoEvent(t *testing.T) {
	t.Parallel()
	for _, fault := range connectsim.Faults {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			floor := newFloor(t, connectsim.Config{Agents: 2})
			idle, busy := floor.agent(0), floor.agent(1)
			floor.call(t, busy, connectsim.ChannelVoice)
			c := configuration(floor, postgrestest.NewDatabase(t))
			s := start(t, c)
			s.untilWorksIn(t, idle, east)
			s.untilHolds(t, busy, 1)
			d := follow(t, "", s)

			require.NoError(t, floor.SetFault(west, "*", fault))
			d.silence(t, time.Second) // five rounds of distributions, three sweeps

			// The source Region sees the change; the other answers what it always did, or nothing that counts.
			require.NoError(t, floor.Freeze(west, connectsim.DefaultTDGID))
			began := time.Now()
			require.NoError(t, floor.UpdateTrafficDistribution(east, connectsim.DefaultTDGID, connectsim.Distributions{
				Agents: []connectsim.Share{{Region: east, Percent: 0}, {Region: west, Percent: 100}},
			}))
			if stillAnswers[fault] {
				d.silence(t, time.Second) // the Regions disagree
				require.NoError(t, floor.Thaw(west, connectsim.DefaultTDGID))
				began = time.Now()
			}
			d.next(t, "failoverDetected")
			require.Less(t, time.Since(began), c.Poll.DistributionInterval+time.Second+slack)
		})
	}
}

// stillAnswers are the faults with which a Region tells its distributions all the same.
var stillAnswers = map[connectsim.Fault]bool{connectsim.FaultEmptyPages: true, connectsim.FaultUnknownMembers: true}

// slack is for a machine that is doing something else.
const slack = 3 * time.Second

// The service reads. It never calls an operation that is not in this list, and its own list says the same.
func TestOnlyReadingOperationsAreCalled(t *testing.T) {
	t.Parallel()
	called := map[string]bool{}
	var mu sync.Mutex
	record := func(f *floor) {
		mu.Lock()
		defer mu.Unlock()
		for key := range f.CallCounts() {
			called[key.Operation] = true
		}
	}

	regional := newFloor(t, connectsim.Config{Agents: 3, TDGs: []connectsim.TDGConfig{
		{Name: "default", Default: true, Agents: 2}, {Name: "second", ID: "0aaaaaaa-0000-0000-0000-000000000002", Agents: 1},
	}})
	c := configuration(regional, postgrestest.NewDatabase(t))
	require.NoError(t, Check(t.Context(), c, "", Options{Log: logtest.New(nil)}, io.Discard))
	s := start(t, c)
	for _, a := range regional.Agents() {
		s.untilWorksIn(t, a.ID, east)
	}
	regional.shift(t, west)
	s.untilWorksIn(t, regional.agent(0), west)

	// With global routing a contact that began after the detection is looked up.
	global := newFloor(t, connectsim.Config{Agents: 1, View: connectsim.Global})
	agent := global.agent(0)
	voice := global.call(t, agent, connectsim.ChannelVoice)
	c = configuration(global, postgrestest.NewDatabase(t))
	c.FailoverGroups[0].Routing = config.Global
	s = start(t, c)
	s.untilHolds(t, agent, 1)
	d := follow(t, agent, s)
	d.opened(t)
	global.shift(t, west)
	d.next(t, "failoverDetected")
	d.next(t, "failoverPending")
	chat := global.call(t, agent, connectsim.ChannelChat)
	d.next(t, "failoverPendingUpdated")
	until(t, s, "/v1/agents/"+agent+"/contacts", func(l contract.ContactList) bool {
		return slices.ContainsFunc(l.Items, func(c contract.Contact) bool { return c.ContactID == chat && c.Region != nil })
	})
	require.NoError(t, global.ClearContact(voice))
	require.NoError(t, global.ClearContact(chat))

	record(regional)
	record(global)
	require.ElementsMatch(t, readingOperations, connect.Operations)
	for operation := range called {
		require.Regexp(t, `^(List|Get|Describe)`, operation)
		require.Contains(t, readingOperations, operation)
	}
	for _, operation := range readingOperations {
		require.True(t, called[operation], "%s is in the list and was not called", operation)
	}
}

// readingOperations is the whole list, said again here on purpose: whoever adds one has to change it here too.
var readingOperations = []string{
	"DescribeContact", "DescribeInstance", "GetCurrentUserData", "GetTrafficDistribution",
	"ListRoutingProfiles", "ListTrafficDistributionGroupUsers", "ListTrafficDistributionGroups", "ListUsers",
}

func TestProfilesAreNeverOnThePublicPort(t *testing.T) {
	t.Parallel()
	c := configuration(newFloor(t, connectsim.Config{Agents: 1}), postgrestest.NewDatabase(t))
	c.HTTP.MetricsListen, c.HTTP.Profiling = "127.0.0.1:0", true
	s := start(t, c)
	answer, err := http.Get("http://" + s.MetricsAddr() + "/debug/pprof/goroutine?debug=1")
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	status, _ := s.request(t, http.MethodGet, "/debug/pprof/goroutine?debug=1", nil)
	require.Equal(t, http.StatusNotFound, status)
}

func TestMetricsOnAPortOfTheirOwn(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 2})
	agent := floor.agent(0)
	voice := floor.call(t, agent, connectsim.ChannelVoice)
	c := configuration(floor, postgrestest.NewDatabase(t))
	c.HTTP.MetricsListen = "127.0.0.1:0"
	s := start(t, c)
	s.untilHolds(t, agent, 1)
	d := follow(t, agent, s)
	d.opened(t)
	floor.shift(t, west)
	d.next(t, "failoverDetected")
	d.next(t, "failoverPending")
	require.NoError(t, floor.ClearContact(voice))
	d.next(t, "failoverCompleted")
	s.untilWorksIn(t, floor.agent(1), west)

	status, _ := s.request(t, http.MethodGet, "/metrics", nil)
	require.Equal(t, http.StatusNotFound, status)
	fetch := func(path string) (int, string) {
		answer, err := http.Get("http://" + s.MetricsAddr() + path)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	status, page := fetch("/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, `changeover_failovers_total{failover_group="main",from_region="us-east-1",outcome="completed",to_region="us-west-2"} 2`)
	require.Contains(t, page, `changeover_leader 1`)
	for _, a := range floor.Agents() {
		require.NotContains(t, page, a.ID, "no agent in a label")
	}
	require.NotContains(t, page, voice, "no contact in a label")

	status, _ = fetch("/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusNotFound, status, "http.profiling is off unless it is asked for")
	status, _ = fetch("/livez")
	require.Equal(t, http.StatusOK, status)
	status, _ = fetch("/v1/agents")
	require.Equal(t, http.StatusNotFound, status)
	http.DefaultClient.CloseIdleConnections()
}

func TestCheckPrintsWhatItFinds(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{})
	c := configuration(floor, postgrestest.NewDatabase(t))
	endpoint := ""
	check := func() (string, error) {
		var out bytes.Buffer
		err := Check(t.Context(), c, endpoint, Options{Log: logtest.New(nil)}, &out)
		return out.String(), err
	}
	table, err := check()
	require.NoError(t, err, table)
	require.Regexp(t, `main us-east-1 instance +ok +status ACTIVE, source, replicated to us-west-2`, table)
	require.Regexp(t, `main us-west-2 instance +ok +status ACTIVE, replica of us-east-1`, table)
	require.Regexp(t, `database +ok +reached, schema version \d+`, table)

	// A service that runs is asked where its callers are.
	require.NotContains(t, table, "service")
	s := start(t, c)
	until(t, s, "/readyz", func(r contract.Readiness) bool { return r.Status == contract.ReadinessStatusReady })
	endpoint = "http://" + s.Addr() + "/"
	table, err = check()
	require.NoError(t, err, table)
	require.Regexp(t, `service +ok +ready at http://`, table)
	c.Auth.Mode = config.AuthJWT // it is another service than the configuration says: it asks nobody
	table, err = check()
	require.ErrorIs(t, err, ErrCheck)
	require.Regexp(t, `service +FAULT +GET http://\S+/v1/summary without a token: expected 401, and it says 200 OK`, table)
	c.Auth.Mode = config.AuthNone
	s.stop(t)
	table, err = check()
	require.ErrorIs(t, err, ErrCheck)
	require.Regexp(t, `service +FAULT .*connection refused`, table)

	// Every fault is in the table, not only the first.
	c.FailoverGroups[0].TrafficDistributionGroups = []string{"0aaaaaaa-0000-0000-0000-0000000000ff"}
	c.Database.URL = "postgres://nobody:secret@127.0.0.1:1/none"
	require.NoError(t, floor.SetFault(west, "DescribeInstance", connectsim.FaultDenied))
	table, err = check()
	require.ErrorIs(t, err, ErrCheck)
	require.Regexp(t, `database +FAULT`, table)
	require.Regexp(t, `main us-west-2 instance +FAULT +.*denied`, table)
	require.Equal(t, 2, strings.Count(table, "there is no traffic distribution group 0aaaaaaa-0000-0000-0000-0000000000ff"), table)
	require.NotContains(t, table, "secret")

	c.FailoverGroups[0].Instances[0], c.FailoverGroups[0].Instances[1] = c.FailoverGroups[0].Instances[1], c.FailoverGroups[0].Instances[0]
	floor.ClearFaults()
	table, err = check()
	require.ErrorIs(t, err, ErrCheck)
	require.Contains(t, table, "the source is us-east-1; list that instance first")
}

// A part that cannot begin is no reason to leave others behind: goleak at the end of the package sees them.
func TestStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	floor := newFloor(t, connectsim.Config{})
	c := configuration(floor, postgrestest.NewDatabase(t))
	c.HTTP.MetricsListen = taken.Listener.Addr().String()
	err := Run(t.Context(), c, Options{Log: logtest.New(nil)})
	require.ErrorContains(t, err, "http.metricsListen")

	c.Database.URL = "postgres://host:notaport/db"
	_, err = New(t.Context(), c, Options{Log: logtest.New(nil)})
	require.ErrorContains(t, err, "database.url")
}

func TestStoppedTwice(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{})
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { s.stop(t) })
	}
	wg.Wait()
	s.stop(t)
}

func TestVersionIsNotEmpty(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `\S`, Version())
}
