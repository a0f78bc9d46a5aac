package connectsim

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/connect"
	"github.com/aws/aws-sdk-go-v2/service/connect/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ()

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

// overTCP serves the simulator and gives a client of a Region.
func overTCP(t testing.TB, sim *Sim, region string) *connect.Client {
	srv := httptest.NewServer(sim.Handler())
	tr := &http.Transport{}
	t.Cleanup(func() { tr.CloseIdleConnections(); srv.CloseClientConnections(); srv.Close() })
	return client(region, srv.URL, tr)
}

func TestGoSDKOverTCP(t *testing.T) {
	ctx := context.Background()
	sim := newChecked(t, Config{Agents: 25, Floor: Busy()})
	c := overTCP(t, sim, west)
	groups, err := c.ListTrafficDistributionGroups(ctx, &connect.ListTrafficDistributionGroupsInput{InstanceId: aws.String(sim.InstanceID())})
	require.NoError(t, err)
	require.Len(t, groups.TrafficDistributionGroupSummaryList, 1)
	g := groups.TrafficDistributionGroupSummaryList[0]
	require.True(t, g.IsDefault)
	d, err := c.GetTrafficDistribution(ctx, &connect.GetTrafficDistributionInput{Id: g.Arn})
	require.NoError(t, err)
	require.Equal(t, int32(100), d.AgentConfig.Distributions[0].Percentage)
	_, err = c.GetTrafficDistribution(ctx, &connect.GetTrafficDistributionInput{Id: g.Id})
	var nf *types.ResourceNotFoundException
	require.ErrorAs(t, err, &nf, "a bare id resolves only in the source Region")

	users := map[string]bool{}
	for p := connect.NewListTrafficDistributionGroupUsersPaginator(c, &connect.ListTrafficDistributionGroupUsersInput{TrafficDistributionGroupId: g.Arn}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.TrafficDistributionGroupUserSummaryList), 10)
		for _, u := range page.TrafficDistributionGroupUserSummaryList {
			users[*u.UserId] = true
		}
	}
	require.Len(t, users, 25)
}

func TestShiftMovesAgentsWhenTheirContactsAreCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		sim := newChecked(t, Config{Agents: 3, Lag: 3 * time.Second, UpdateWindow: time.Second, MoveDelay: time.Second})
		agents := sim.Agents()
		talking, busy := agents[0].ID, agents[1].ID
		call, err := sim.StartContact(talking, ChannelVoice)
		require.NoError(t, err)
		_, err = sim.StartContact(busy, ChannelTask)
		require.NoError(t, err)

		require.NoError(t, sim.Shift("default", west, 100))
		e, w := inProcess(sim, east), inProcess(sim, west)
		arn := aws.String("arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/" + DefaultTDGID)
		_, err = w.GetTrafficDistribution(ctx, &connect.GetTrafficDistributionInput{Id: arn})
		var inv *types.InvalidRequestException
		require.ErrorAs(t, err, &inv, "in the window of the update")
		time.Sleep(time.Second)
		percent := func(c *connect.Client) int32 {
			d, err := c.GetTrafficDistribution(ctx, &connect.GetTrafficDistributionInput{Id: arn})
			require.NoError(t, err)
			return d.AgentConfig.Distributions[1].Percentage
		}
		require.EqualValues(t, 100, percent(w))
		require.EqualValues(t, 0, percent(e))
		time.Sleep(3 * time.Second)
		require.EqualValues(t, 100, percent(e))

		regions := func() (r []string) {
			for _, a := range sim.Agents() {
				r = append(r, a.ActiveRegion)
			}
			return r
		}
		require.Equal(t, []string{east, west, west}, regions())
		require.NoError(t, sim.EndContact(call))
		time.Sleep(time.Minute)
		require.Equal(t, []string{east, west, west}, regions(), "after-contact work holds")
		require.NoError(t, sim.ClearContact(call))
		require.Equal(t, []string{west, west, west}, regions())
	})
}
