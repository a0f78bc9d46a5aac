package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/connect"
	"github.com/aws/aws-sdk-go-v2/service/connect/types"

	"changeover/internal/connectsim"
)

type shiftCommand struct {
	Endpoint string `help:"Where the simulator is." default:"http://127.0.0.1:8081"`
	To       string `help:"Region that takes over." required:""`
	Percent  int    `help:"Its part of agents and calls, in steps of 10." default:"100"`
	TDG      string `name:"tdg" help:"Name, id or ARN of the traffic distribution group." default:"default"`
}

// Run sends what an administrator sends: one UpdateTrafficDistribution with telephony, agents and, for the default
// group, sign-in, in the Region that is to take over. The credentials are made up, so that it can shift nothing but
// a simulator.
func (c *shiftCommand) Run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := connect.New(connect.Options{
		Region: c.To, BaseEndpoint: aws.String(c.Endpoint), HTTPClient: &http.Client{Timeout: 10 * time.Second},
		Credentials: credentials.NewStaticCredentialsProvider("CONNECTSIM", "connectsim", ""),
	})
	group, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	d, err := client.GetTrafficDistribution(ctx, &connect.GetTrafficDistributionInput{Id: group.Arn})
	if err != nil {
		return fmt.Errorf("get the distribution of %s: %w", aws.ToString(group.Name), err)
	}
	if d.AgentConfig == nil || len(d.AgentConfig.Distributions) != 2 {
		return fmt.Errorf("distribution of %s: expected two Regions, got %v", aws.ToString(group.Name), d.AgentConfig)
	}
	other := ""
	for _, s := range d.AgentConfig.Distributions {
		if aws.ToString(s.Region) != c.To {
			other = aws.ToString(s.Region)
		}
	}
	shares := []types.Distribution{
		{Region: aws.String(other), Percentage: int32(100 - c.Percent)},
		{Region: aws.String(c.To), Percentage: int32(c.Percent)},
	}
	in := &connect.UpdateTrafficDistributionInput{
		Id: group.Arn, TelephonyConfig: &types.TelephonyConfig{Distributions: shares}, AgentConfig: &types.AgentConfig{Distributions: shares},
	}
	if group.IsDefault {
		in.SignInConfig = &types.SignInConfig{Distributions: []types.SignInDistribution{
			{Region: aws.String(other), Enabled: c.Percent < 100}, {Region: aws.String(c.To), Enabled: c.Percent > 0},
		}}
	}
	if _, err := client.UpdateTrafficDistribution(ctx, in); err != nil {
		return fmt.Errorf("update the distribution of %s: %w", aws.ToString(group.Name), err)
	}
	fmt.Fprintf(stdout, "connectsim: %s is on its way: %s %d %%, %s %d %%\n", aws.ToString(group.Name), c.To, c.Percent, other, 100-c.Percent)
	return nil
}

// find the group by name, id or ARN.
func (c *shiftCommand) find(ctx context.Context, client *connect.Client) (types.TrafficDistributionGroupSummary, error) {
	var names []string
	instances, err := client.ListInstances(ctx, &connect.ListInstancesInput{})
	if err != nil {
		return types.TrafficDistributionGroupSummary{}, fmt.Errorf("list the instances of %s at %s: %w", c.To, c.Endpoint, err)
	}
	for _, i := range instances.InstanceSummaryList {
		pages := connect.NewListTrafficDistributionGroupsPaginator(client, &connect.ListTrafficDistributionGroupsInput{InstanceId: i.Id})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return types.TrafficDistributionGroupSummary{}, fmt.Errorf("list the traffic distribution groups of %s: %w", aws.ToString(i.Id), err)
			}
			for _, g := range page.TrafficDistributionGroupSummaryList {
				if c.TDG == aws.ToString(g.Name) || c.TDG == aws.ToString(g.Id) || c.TDG == aws.ToString(g.Arn) {
					return g, nil
				}
				names = append(names, aws.ToString(g.Name))
			}
		}
	}
	return types.TrafficDistributionGroupSummary{}, fmt.Errorf("traffic distribution group %q: there are %s", c.TDG, strings.Join(names, ", "))
}

type statusCommand struct {
	Endpoint string `help:"Where the simulator is." default:"http://127.0.0.1:8081"`
	JSON     bool   `name:"json" help:"Print everything, as JSON."`
}

// Run prints the state of the simulator.
func (c *statusCommand) Run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoint+"/_control/state", nil)
	if err != nil {
		return fmt.Errorf("--endpoint %q: %w", c.Endpoint, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the simulator: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read the state of %s: %w", c.Endpoint, err)
	}
	var s connectsim.State
	if err := json.Unmarshal(body, &s); err != nil || s.InstanceID == "" {
		return errors.Join(fmt.Errorf("%s is no simulator: it answered %s", c.Endpoint, resp.Status), err)
	}
	if c.JSON {
		_, err := stdout.Write(body)
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "REGION\tAPI\tAGENTS\tVOICE\tCHAT\tTASK\tREQUESTS\n")
	for _, r := range s.Regions {
		api := "up"
		if r.Down != connectsim.Up {
			api = "down: " + string(r.Down)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", r.Region, api, r.Agents,
			r.Contacts[connectsim.ChannelVoice], r.Contacts[connectsim.ChannelChat], r.Contacts[connectsim.ChannelTask], r.Requests)
	}
	fmt.Fprintf(w, "\nGROUP\tSTATUS\tAGENTS GO TO\tMEMBERS\tTO MOVE\tWAITING FOR CONTACTS\n")
	for _, g := range s.TDGs {
		var to []string
		for _, sh := range g.InEffect.Agents {
			to = append(to, fmt.Sprintf("%s %d %%", sh.Region, sh.Percent))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\n", g.Name, g.Status, strings.Join(to, ", "), g.Members, g.ToMove, g.Waiting)
	}
	for _, f := range s.Faults {
		fmt.Fprintf(w, "\nfault\t%s\t%s\t%s\n", f.Region, f.Operation, f.Fault)
	}
	return w.Flush()
}
