package connect_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/connect"
	"github.com/aws/aws-sdk-go-v2/service/connect/types"
	"github.com/stretchr/testify/require"

	"changeover/internal/connect"
	"changeover/internal/connectsim"
)

// plainSDK is the SDK's own client.
func plainSDK(region string, transport http.RoundTripper) *sdk.Client {
	return sdk.New(sdk.Options{
		Region: region, HTTPClient: &http.Client{Transport: transport}, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
}

// What is decoded here of a page is what the SDK decodes of the same page.
func TestUserDataIsWhatTheSDKDecodes(t *testing.T) {
	sim := connectsim.New(connectsim.Config{Agents: 150, RoutingProfiles: 3})
	agents := sim.Agents()
	for i, channel := range []string{"VOICE", "CHAT", "TASK", "EMAIL", "VOICE"} {
		_, err := sim.StartContact(agents[i].ID, channel)
		require.NoError(t, err)
	}
	region := sim.Regions()[0]
	ours, _ := regionsOf(t, sim, unlimited)
	theirs := plainSDK(region, sim.Transport())
	profiles, err := ours.ListRoutingProfiles(t.Context(), sim.InstanceID())
	require.NoError(t, err)

	contacts, pages := 0, 0
	for token, more := "", true; more; more = token != "" {
		page, err := ours.CurrentUserData(t.Context(), connect.Sweep, connect.UserDataQuery{InstanceID: sim.InstanceID(), RoutingProfiles: profiles, NextToken: token})
		require.NoError(t, err)
		in := &sdk.GetCurrentUserDataInput{InstanceId: aws.String(sim.InstanceID()), Filters: filterOf(profiles), MaxResults: aws.Int32(100)}
		if token != "" {
			in.NextToken = &token
		}
		want, err := theirs.GetCurrentUserData(t.Context(), in)
		require.NoError(t, err)
		require.Len(t, page.Users, len(want.UserDataList))
		require.Equal(t, aws.ToString(want.NextToken) == "", page.NextToken == "")
		for i, u := range page.Users {
			w := want.UserDataList[i]
			require.Equal(t, aws.ToString(w.User.Id), u.UserID)
			require.Equal(t, aws.ToString(w.RoutingProfile.Id), u.RoutingProfileID)
			require.Equal(t, aws.ToString(w.Status.StatusName), u.StatusName)
			require.Equal(t, aws.ToTime(w.Status.StatusStartTimestamp), u.StatusSince)
			require.Equal(t, aws.ToString(w.NextStatus), u.NextStatus)
			require.Len(t, u.Contacts, len(w.Contacts))
			for j, x := range u.Contacts {
				require.Equal(t, connect.Contact{
					ID: aws.ToString(w.Contacts[j].ContactId), Channel: string(w.Contacts[j].Channel), State: string(w.Contacts[j].AgentContactState),
					InitiationMethod: string(w.Contacts[j].InitiationMethod), StateSince: aws.ToTime(w.Contacts[j].StateStartTimestamp),
					ConnectedAt: aws.ToTime(w.Contacts[j].ConnectedToAgentTimestamp),
				}, x)
				contacts++
			}
		}
		token = page.NextToken
		pages++
	}
	require.Equal(t, 5, contacts)
	require.Equal(t, 2, pages)
}

// What the SDK takes for an answer is one here, and what it doesn't is none: but for members that nobody uses, and what stands behind the document.
func TestUserDataIsRefusedAsBySDK(t *testing.T) {
	const agent = `{"UserDataList":[{"User":{"Id":"u1","Arn":"a"},"Contacts":[],"Status":{"StatusName":"Available","StatusStartTimestamp":%}}]}`
	for name, body := range map[string]string{
		"whole":                      strings.Replace(agent, "%", "1763600000.123", 1),
		"whole seconds":              strings.Replace(agent, "%", "1763600000", 1),
		"exponent":                   strings.Replace(agent, "%", "1.7636e9", 1),
		"no time":                    strings.Replace(agent, "%", "null", 1),
		"time in words":              strings.Replace(agent, "%", `"2025-11-20T00:53:20Z"`, 1),
		"time that is a list":        strings.Replace(agent, "%", "[1]", 1),
		"time out of range":          strings.Replace(agent, "%", "1e999", 1),
		"nothing":                    ``,
		"space":                      ` `,
		"null":                       `null`,
		"a list":                     `[]`,
		"a word":                     `"UserDataList"`,
		"half":                       `{"UserDataList":[{"User":{"Id":"u1"`,
		"page of a proxy":            `<html></html>`,
		"no list":                    `{}`,
		"null list":                  `{"UserDataList":null}`,
		"list that is none":          `{"UserDataList":{}}`,
		"number in the list":         `{"UserDataList":[1]}`,
		"id that is a number":        `{"UserDataList":[{"User":{"Id":1},"Contacts":[]}]}`,
		"token that is a number":     `{"NextToken":1,"UserDataList":[]}`,
		"empty":                      `{"UserDataList":[]}`,
		"unknown members":            `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":[{"ContactId":"c","New":{"A":[1]}}],"New":1}],"New":[]}`,
		"contacts that are none":     `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":"none"}]}`,
		"contact that is a number":   `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":[1]}]}`,
		"channel that is a number":   `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":[{"ContactId":"c","Channel":1}]}]}`,
		"profile that is a word":     `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":[],"RoutingProfile":"p"}]}`,
		"no contacts, no slots":      `{"UserDataList":[{"User":{"Id":"u1"},"ActiveSlotsByChannel":{"VOICE":0}}]}`,
		"unknown words":              `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":[{"ContactId":"c","Channel":"FAX","AgentContactState":"NEW"}]}]}`,
		"two of a member":            `{"UserDataList":[],"UserDataList":[{"User":{"Id":"u1"},"Contacts":[]}]}`,
		"escaped":                    `{"UserDataList":[{"User":{"Id":"u\u0031"},"Contacts":[]}]}`,
		"invalid UTF-8":              "{\"UserDataList\":[{\"User\":{\"Id\":\"u\xff\"},\"Contacts\":[]}]}",
		"profile that was not told":  `{"UserDataList":[{"User":{"Id":"u1"},"Contacts":[],"RoutingProfile":null,"Status":null,"NextStatus":null}]}`,
		"agent without an id in ARN": `{"UserDataList":[{"User":{"Arn":"arn:aws:connect:us-east-1:1:instance/i/agent/u7"},"Contacts":[]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			transport := roundTrip(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
			})
			want, err := plainSDK("us-east-1", transport).GetCurrentUserData(t.Context(), &sdk.GetCurrentUserDataInput{
				InstanceId: aws.String("i"), Filters: filterOf([]string{"p"}),
			})
			good := err == nil && want.UserDataList != nil
			c, err := connect.New(t.Context(), connect.Options{Region: "us-east-1", RequestsPerSecond: 1e6, Burst: 1e6, RequestTimeout: time.Second, Transport: transport})
			require.NoError(t, err)
			page, err := c.CurrentUserData(t.Context(), connect.Sweep, connect.UserDataQuery{InstanceID: "i", RoutingProfiles: []string{"p"}})
			if !good {
				require.Equal(t, connect.Malformed, connect.KindOf(err), "%v", err)
				return
			}
			require.NoError(t, err)
			require.Len(t, page.Users, len(want.UserDataList))
			for i, w := range want.UserDataList {
				if w.User.Id != nil {
					require.Equal(t, *w.User.Id, page.Users[i].UserID)
				}
				if w.Status != nil {
					require.Equal(t, aws.ToTime(w.Status.StatusStartTimestamp), page.Users[i].StatusSince)
				}
			}
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func filterOf(profiles []string) *types.UserDataFilters {
	return &types.UserDataFilters{RoutingProfiles: profiles}
}
