package connect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/connect"
	"github.com/aws/aws-sdk-go-v2/service/connect/types"
)

// The operations that are called, by Amazon's names.
const (
	OpListTrafficDistributionGroups     = "ListTrafficDistributionGroups"
	OpGetTrafficDistribution            = "GetTrafficDistribution"
	OpListTrafficDistributionGroupUsers = "ListTrafficDistributionGroupUsers"
	OpListUsers                         = "ListUsers"
	OpListRoutingProfiles               = "ListRoutingProfiles"
	OpGetCurrentUserData                = "GetCurrentUserData"
	OpDescribeContact                   = "DescribeContact"
	OpDescribeInstance                  = "DescribeInstance"
)

// Operations is the complete list of operations that are ever called. All of them read.
var Operations = []string{
	OpListTrafficDistributionGroups,
	OpGetTrafficDistribution,
	OpListTrafficDistributionGroupUsers,
	OpListUsers,
	OpListRoutingProfiles,
	OpGetCurrentUserData,
	OpDescribeContact,
	OpDescribeInstance,
}

// Amazon's limits of one request.
const (
	maxTDGs       = 10
	maxTDGUsers   = 10
	maxUsers      = 1000
	maxProfiles   = 1000
	maxUserData   = 100
	MaxFilterSize = 100 // agents or routing profiles in one [UserDataQuery]
)

// TDGSummary is a traffic distribution group as it is listed or described.
type TDGSummary struct {
	ID, ARN, Name string
	InstanceARN   string // of the source instance
	Status        string // Amazon's TrafficDistributionGroupStatus
	IsDefault     bool
}

// Share is one Region's part of a distribution. For telephony and agents it is a percentage; for sign-in 1 is
// enabled and 0 is not.
type Share struct {
	Region  string
	Percent int
}

// TrafficDistribution is how a traffic distribution group is distributed; each list is sorted by Region. One that the answer did
// not hold is nil: unknown, not 0/0. An answer without any is Malformed.
type TrafficDistribution struct {
	ID, ARN                   string
	Telephony, Agents, SignIn []Share
}

// UserIDPage is one page of the members of a traffic distribution group.
type UserIDPage struct {
	UserIDs   []string
	NextToken string // empty: the last page
}

// User is an agent's id and login name.
type User struct{ ID, Username string }

// UserPage is one page of an instance's users.
type UserPage struct {
	Users     []User
	NextToken string // empty: the last page
}

// UserDataQuery asks for the agents with the given ids, or for those signed in with one of the given routing profiles:
// exactly one of the two, with at most [MaxFilterSize] ids.
type UserDataQuery struct {
	InstanceID       string
	AgentIDs         []string
	RoutingProfiles  []string
	OnlyWithContacts bool   // agents without a contact in any state that Amazon lists are left out
	NextToken        string // of the page before
}

// UserData is what one agent is doing.
type UserData struct {
	UserID           string
	RoutingProfileID string // empty: not told
	StatusName       string // the agent's status as the instance names it; "Offline" unless renamed
	StatusSince      time.Time
	NextStatus       string
	Contacts         []Contact
}

// Contact is an entry of an agent's contact list. Channel, State and InitiationMethod are Amazon's words, also those that
// came after this program.
type Contact struct {
	ID, Channel, State string
	InitiationMethod   string
	StateSince         time.Time // zero: not told
	ConnectedAt        time.Time // when it was connected to the agent; zero: not told
}

// UserDataPage is one page of an instance's real-time data of agents.
type UserDataPage struct {
	Users     []UserData
	NextToken string    // empty: the last page
	StartedAt time.Time // not later than the request really left; its answer is not older
}

// ContactInfo says where a contact lives.
type ContactInfo struct {
	ID           string
	ActiveRegion string // of the contact; empty: not told
	OriginRegion string // empty: not told
}

// InstanceInfo is an instance and its replication.
type InstanceInfo struct {
	ID, ARN, Alias, Status string
	SourceRegion           string // empty: not replicated
	Replicas               []Replica
}

// Replica is the state of an instance's replication to one Region.
type Replica struct {
	Region string
	Status string // Amazon's InstanceReplicationStatus
	Reason string
}

// ListTrafficDistributionGroups returns every traffic distribution group of an instance (id or ARN), or an error.
func (c *Client) ListTrafficDistributionGroups(ctx context.Context, instanceID string) ([]TDGSummary, error) {
	return everyPage(ctx, c, OpListTrafficDistributionGroups, func(ctx context.Context, token string) ([]TDGSummary, string, error) {
		in := &sdk.ListTrafficDistributionGroupsInput{InstanceId: &instanceID, MaxResults: aws.Int32(maxTDGs), NextToken: optional(token)}
		page, _, err := invoke(ctx, c, OpListTrafficDistributionGroups, Roster, in, c.api.ListTrafficDistributionGroups, listed(token,
			func(out *sdk.ListTrafficDistributionGroupsOutput) ([]types.TrafficDistributionGroupSummary, *string) {
				return out.TrafficDistributionGroupSummaryList, out.NextToken
			},
			tdgSummary))
		return page.items, page.next, err
	})
}

// GetTrafficDistribution returns how the traffic distribution group with the given ARN is distributed.
func (c *Client) GetTrafficDistribution(ctx context.Context, arn string) (TrafficDistribution, error) {
	if err := c.needARN(OpGetTrafficDistribution, arn); err != nil {
		return TrafficDistribution{}, err
	}
	in := &sdk.GetTrafficDistributionInput{Id: &arn}
	d, _, err := invoke(ctx, c, OpGetTrafficDistribution, Drain, in, c.api.GetTrafficDistribution, trafficDistribution)
	return d, err
}

// ListTrafficDistributionGroupUsers returns one page (ten at most, Amazon's limit) of the members of the traffic distribution
// group with the given ARN.
func (c *Client) ListTrafficDistributionGroupUsers(ctx context.Context, arn, nextToken string) (UserIDPage, error) {
	if err := c.needARN(OpListTrafficDistributionGroupUsers, arn); err != nil {
		return UserIDPage{}, err
	}
	in := &sdk.ListTrafficDistributionGroupUsersInput{
		TrafficDistributionGroupId: &arn, MaxResults: aws.Int32(maxTDGUsers), NextToken: optional(nextToken),
	}
	p, _, err := invoke(ctx, c, OpListTrafficDistributionGroupUsers, Roster, in, c.api.ListTrafficDistributionGroupUsers, listed(nextToken,
		func(out *sdk.ListTrafficDistributionGroupUsersOutput) ([]types.TrafficDistributionGroupUserSummary, *string) {
			return out.TrafficDistributionGroupUserSummaryList, out.NextToken
		},
		func(s types.TrafficDistributionGroupUserSummary) (string, error) {
			return needID("user", s.UserId, nil)
		}))
	return UserIDPage{UserIDs: p.items, NextToken: p.next}, err
}

// ListUsers returns one page of an instance's users.
func (c *Client) ListUsers(ctx context.Context, instanceID, nextToken string) (UserPage, error) {
	in := &sdk.ListUsersInput{InstanceId: &instanceID, MaxResults: aws.Int32(maxUsers), NextToken: optional(nextToken)}
	p, _, err := invoke(ctx, c, OpListUsers, Roster, in, c.api.ListUsers, listed(nextToken,
		func(out *sdk.ListUsersOutput) ([]types.UserSummary, *string) {
			return out.UserSummaryList, out.NextToken
		},
		func(s types.UserSummary) (User, error) {
			id, err := needID("user", s.Id, s.Arn)
			return User{ID: id, Username: aws.ToString(s.Username)}, err
		}))
	return UserPage{Users: p.items, NextToken: p.next}, err
}

// ListRoutingProfiles returns the ids of every routing profile of an instance, or an error.
func (c *Client) ListRoutingProfiles(ctx context.Context, instanceID string) ([]string, error) {
	return everyPage(ctx, c, OpListRoutingProfiles, func(ctx context.Context, token string) ([]string, string, error) {
		in := &sdk.ListRoutingProfilesInput{InstanceId: &instanceID, MaxResults: aws.Int32(maxProfiles), NextToken: optional(token)}
		page, _, err := invoke(ctx, c, OpListRoutingProfiles, Roster, in, c.api.ListRoutingProfiles, listed(token,
			func(out *sdk.ListRoutingProfilesOutput) ([]types.RoutingProfileSummary, *string) {
				return out.RoutingProfileSummaryList, out.NextToken
			},
			func(s types.RoutingProfileSummary) (string, error) { return needID("routing profile", s.Id, s.Arn) }))
		return page.items, page.next, err
	})
}

// CurrentUserData returns one page (a hundred agents at most, Amazon's limit) of GetCurrentUserData.
func (c *Client) CurrentUserData(ctx context.Context, p Priority, q UserDataQuery) (UserDataPage, error) {
	if (len(q.AgentIDs) == 0) == (len(q.RoutingProfiles) == 0) || len(q.AgentIDs) > MaxFilterSize || len(q.RoutingProfiles) > MaxFilterSize {
		return UserDataPage{}, c.refuse(OpGetCurrentUserData, fmt.Sprintf(
			"a query needs 1 to %d agents or routing profiles, not %d and %d", MaxFilterSize, len(q.AgentIDs), len(q.RoutingProfiles)))
	}
	filters := &types.UserDataFilters{Agents: q.AgentIDs, RoutingProfiles: q.RoutingProfiles}
	if q.OnlyWithContacts {
		filters.ContactFilter = &types.ContactFilter{ContactStates: types.ContactState("").Values()}
	}
	in := &sdk.GetCurrentUserDataInput{
		InstanceId: &q.InstanceID, Filters: filters, MaxResults: aws.Int32(maxUserData), NextToken: optional(q.NextToken),
	}
	page, sentAt, err := invoke(ctx, c, OpGetCurrentUserData, p, in, c.currentUserData, listed(q.NextToken,
		func(out *userDataDocument) ([]userDataItem, *string) {
			return out.UserDataList, out.NextToken
		},
		userData))
	return UserDataPage{Users: page.items, NextToken: page.next, StartedAt: sentAt}, err
}

// DescribeContact tells a contact's Region.
func (c *Client) DescribeContact(ctx context.Context, instanceID, contactID string) (ContactInfo, error) {
	in := &sdk.DescribeContactInput{InstanceId: &instanceID, ContactId: &contactID}
	info, _, err := invoke(ctx, c, OpDescribeContact, Drain, in, c.api.DescribeContact,
		func(out *sdk.DescribeContactOutput) (ContactInfo, error) {
			if out.Contact == nil {
				return ContactInfo{}, malformedError("no Contact in the answer")
			}
			info := ContactInfo{ID: contactID}
			if m := out.Contact.GlobalResiliencyMetadata; m != nil {
				info.ActiveRegion, info.OriginRegion = aws.ToString(m.ActiveRegion), aws.ToString(m.OriginRegion)
			}
			return info, nil
		})
	return info, err
}

// DescribeInstance returns an instance and the Regions that it is replicated to.
func (c *Client) DescribeInstance(ctx context.Context, instanceID string) (InstanceInfo, error) {
	in := &sdk.DescribeInstanceInput{InstanceId: &instanceID}
	info, _, err := invoke(ctx, c, OpDescribeInstance, Roster, in, c.api.DescribeInstance,
		func(out *sdk.DescribeInstanceOutput) (InstanceInfo, error) {
			if out.Instance == nil {
				return InstanceInfo{}, malformedError("no Instance in the answer")
			}
			i := out.Instance
			info := InstanceInfo{
				ID: aws.ToString(i.Id), ARN: aws.ToString(i.Arn), Alias: aws.ToString(i.InstanceAlias), Status: string(i.InstanceStatus),
			}
			if r := out.ReplicationConfiguration; r != nil {
				info.SourceRegion = aws.ToString(r.SourceRegion)
				for _, s := range r.ReplicationStatusSummaryList {
					info.Replicas = append(info.Replicas, Replica{
						Region: aws.ToString(s.Region), Status: string(s.ReplicationStatus), Reason: aws.ToString(s.ReplicationStatusReason),
					})
				}
			}
			return info, nil
		})
	return info, err
}

// page is one page of a list.
type page[T any] struct {
	items []T
	next  string
}

// listed converts an answer that must hold a list. The SDK decodes an empty list to an empty slice, and a missing one
// or null to nil, which is no answer.
//
// A page that points to itself would be read for ever.
func listed[Out, S, T any](token string, list func(*Out) ([]S, *string), convert func(S) (T, error)) func(*Out) (page[T], error) {
	return func(out *Out) (page[T], error) {
		items, next := list(out)
		if items == nil {
			return page[T]{}, malformedError("the answer does not hold its list")
		}
		if token != "" && aws.ToString(next) == token {
			return page[T]{}, malformedError("the page is followed by itself")
		}
		p := page[T]{items: make([]T, 0, len(items)), next: aws.ToString(next)}
		for _, item := range items {
			t, err := convert(item)
			if err != nil {
				return page[T]{}, err
			}
			p.items = append(p.items, t)
		}
		return p, nil
	}
}

// everyPage reads a list to its last page.
func everyPage[T any](
	ctx context.Context, c *Client, name string, read func(ctx context.Context, token string) ([]T, string, error),
) ([]T, error) {
	var all []T
	seen := map[string]bool{"": true}
	for token := ""; ; {
		items, next, err := read(ctx, token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		if seen[next] {
			return nil, &Error{Kind: Malformed, Region: c.region, Operation: name, Err: malformedError("the list repeats a page and never ends")}
		}
		seen[next] = true
		token = next
	}
}

func tdgSummary(g types.TrafficDistributionGroupSummary) (TDGSummary, error) {
	id, err := needID("traffic distribution group", g.Id, g.Arn)
	if err != nil {
		return TDGSummary{}, err
	}
	if aws.ToString(g.Arn) == "" {
		return TDGSummary{}, malformedError("traffic distribution group " + id + " has no ARN")
	}
	return TDGSummary{
		ID: id, ARN: *g.Arn, Name: aws.ToString(g.Name), InstanceARN: aws.ToString(g.InstanceArn), Status: string(g.Status), IsDefault: g.IsDefault,
	}, nil
}

func trafficDistribution(out *sdk.GetTrafficDistributionOutput) (TrafficDistribution, error) {
	if out.TelephonyConfig == nil && out.AgentConfig == nil && out.SignInConfig == nil {
		return TrafficDistribution{}, malformedError("no distribution in the answer")
	}
	d := TrafficDistribution{ID: aws.ToString(out.Id), ARN: aws.ToString(out.Arn)}
	var err error
	if out.TelephonyConfig != nil {
		if d.Telephony, err = percentages("TelephonyConfig", out.TelephonyConfig.Distributions); err != nil {
			return TrafficDistribution{}, err
		}
	}
	if out.AgentConfig != nil {
		if d.Agents, err = percentages("AgentConfig", out.AgentConfig.Distributions); err != nil {
			return TrafficDistribution{}, err
		}
	}
	if out.SignInConfig != nil {
		for _, s := range out.SignInConfig.Distributions {
			share := Share{Region: aws.ToString(s.Region)}
			if s.Enabled {
				share.Percent = 1
			}
			d.SignIn = append(d.SignIn, share)
		}
		if err := sortByRegion("SignInConfig", d.SignIn); err != nil {
			return TrafficDistribution{}, err
		}
	}
	return d, nil
}

// percentages converts a distribution of telephony or agents, whose percentages make 100 by Amazon's rules. One that does not is
// half an answer: the SDK reads a missing percentage as 0.
func percentages(name string, distributions []types.Distribution) ([]Share, error) {
	if len(distributions) == 0 {
		return nil, nil // unknown
	}
	shares := make([]Share, 0, len(distributions))
	sum := 0
	for _, d := range distributions {
		if d.Percentage < 0 || d.Percentage > 100 {
			return nil, malformedError(fmt.Sprintf("%s holds %d %%", name, d.Percentage))
		}
		shares = append(shares, Share{Region: aws.ToString(d.Region), Percent: int(d.Percentage)})
		sum += int(d.Percentage)
	}
	if sum != 100 {
		return nil, malformedError(fmt.Sprintf("%s makes %d %%, not 100", name, sum))
	}
	return shares, sortByRegion(name, shares)
}

func sortByRegion(name string, shares []Share) error {
	slices.SortFunc(shares, func(a, b Share) int { return cmp.Compare(a.Region, b.Region) })
	for i, s := range shares {
		if s.Region == "" || i > 0 && shares[i-1].Region == s.Region {
			return malformedError(name + " lacks or repeats a Region")
		}
	}
	return nil
}

// needID is the bare id of something that an answer names by id or ARN.
func needID(what string, id, arn *string) (string, error) {
	if s := bareID(cmp.Or(aws.ToString(id), aws.ToString(arn))); s != "" {
		return s, nil
	}
	return "", malformedError("a " + what + " has no id")
}

// bareID reduces an ARN to the id at its end.
func bareID(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// needARN refuses a bare id, which only resolves in the Region of the source instance.
func (c *Client) needARN(operation, arn string) error {
	if strings.HasPrefix(arn, "arn:") {
		return nil
	}
	return c.refuse(operation, fmt.Sprintf("%q is not an ARN", arn))
}

// refuse is the error for a request that is not sent.
func (c *Client) refuse(operation, why string) error {
	return &Error{Kind: Invalid, Region: c.region, Operation: operation, Err: invalidError(why)}
}
