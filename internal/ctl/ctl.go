// Package ctl is `server ctl`: the REST API at the command line, for operators and their scripts. Each command is one documented call,
// made with the generated client; what comes back is printed as a table, or for scripts as it is. It knows nothing of the service but the API.
package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	changeover "changeover/clients/go"
	"changeover/clients/go/rest"
)

// Command is what stands behind `server ctl`.
type Command struct {
	Endpoint []string `help:"Address of the service; several: the next one when one fails." env:"CHANGEOVER_ENDPOINT" default:"http://127.0.0.1:8080" placeholder:"URL"`
	// There is no flag for the token itself: everybody on the machine can read a command line.
	TokenFile string        `help:"File with the bearer token. Without it: the variable CHANGEOVER_TOKEN, else none." placeholder:"FILE"`
	Timeout   time.Duration `help:"How long to wait for an answer." default:"30s"`
	Output    string        `help:"What to print: table, for people, or json, the answer as the API gave it." enum:"table,json" default:"table" short:"o" placeholder:"FORMAT"`

	Groups      groupsCommand      `cmd:"" help:"Failover groups and the health of their Regions."`
	Summary     summaryCommand     `cmd:"" help:"The floor in numbers."`
	Agents      agentsCommand      `cmd:"" help:"Agents, or one."`
	Contacts    contactsCommand    `cmd:"" help:"The open contacts of an agent."`
	Failovers   failoversCommand   `cmd:"" help:"Failovers, or one."`
	Pending     pendingCommand     `cmd:"" help:"Who waits for what: open failovers with the contacts that hold them."`
	Connections connectionsCommand `cmd:"" help:"Open event streams."`
	Audit       auditCommand       `cmd:"" help:"The audit trail; needs the role admin."`
	Whoami      whoamiCommand      `cmd:"" help:"Who the token's bearer is, and in which roles."`

	Plan      planCommand      `cmd:"" help:"What a shift would mean now; changes nothing."`
	Pause     pauseCommand     `cmd:"" help:"Hold a failover group's completions for a while."`
	Resume    resumeCommand    `cmd:"" help:"End a pause."`
	Force     forceCommand     `cmd:"" help:"Complete one failover, whatever holds it."`
	ForceMany forceManyCommand `cmd:"" help:"Complete every open failover that matches."`
	Shifts    shiftsCommand    `cmd:"" help:"Shifts, or the report on one."`
	Drill     drillCommand     `cmd:"" help:"Rehearse a shift with some agents; nothing real changes."`
	Drills    drillsCommand    `cmd:"" help:"Drills, or the report on one."`

	Webhooks   webhooksCommand   `cmd:"" help:"Webhooks and how their deliveries stand."`
	Deliveries deliveriesCommand `cmd:"" help:"The deliveries of a webhook."`
	Replay     replayCommand     `cmd:"" help:"Make a delivery once more."`
}

// Caller makes the calls of a command. Out gets the answer, and Now is what ages are counted to.
type Caller struct {
	Out io.Writer
	Now func() time.Time
}

// request is one call.
type request func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error)

// do makes a call and prints its answer, a table by show. An answer other than 2xx is an error, in the words of the service.
func do[T any](ctx context.Context, c *Command, out *Caller, call request, show func(*page, T)) error {
	client, err := changeover.New(changeover.Options{Endpoints: c.Endpoint, Token: c.token()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	answer, err := call(ctx, client.REST())
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return refusal(answer)
	}
	media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if media != "application/json" {
		_, err = io.Copy(out.Out, answer.Body)
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, body, "", "  "); err != nil {
			return fmt.Errorf("the answer is no JSON: %w", err)
		}
		pretty.WriteByte('\n')
		_, err = pretty.WriteTo(out.Out)
		return err
	}
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return fmt.Errorf("the answer is not what this version of the API has (--output json prints it): %w", err)
	}
	p := &page{now: out.Now()}
	show(p, v)
	_, err = p.WriteTo(out.Out)
	return err
}

// longestProblem is more than any problem document has.
const longestProblem = 64 << 10

// refusal makes an error of a problem document.
func refusal(answer *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(answer.Body, longestProblem))
	if err != nil {
		return fmt.Errorf("the service answered %s", answer.Status)
	}
	var p rest.Problem
	if json.Unmarshal(body, &p) != nil || p.Title == "" {
		return fmt.Errorf("the service answered %s", answer.Status)
	}
	told := []string{fmt.Sprintf("%s (%d)", p.Title, p.Status)}
	if p.Detail != "" {
		told = append(told, p.Detail)
	}
	for _, e := range p.Errors {
		told = append(told, fmt.Sprintf("%s %s", e.Field, e.Message))
	}
	return fmt.Errorf("%s [request %s]", strings.Join(told, ": "), p.RequestID)
}

// token is nil when there is none.
func (c *Command) token() func(context.Context) (string, error) {
	token := os.Getenv("CHANGEOVER_TOKEN")
	switch {
	case c.TokenFile != "":
		return func(context.Context) (string, error) {
			b, err := os.ReadFile(c.TokenFile)
			return strings.TrimSpace(string(b)), err
		}
	case token != "":
		return func(context.Context) (string, error) { return token, nil }
	}
	return nil
}

// key makes an Idempotency-Key, so that the client may send a request to the next endpoint without doing anything twice.
func key() *rest.IdempotencyKey {
	k := uuid.NewString()
	return &k
}

// opt is nil for what was left out.
func opt[T ~string](s string) *T {
	if s == "" {
		return nil
	}
	v := T(s)
	return &v
}

func some[T comparable](v T) *T {
	var none T
	if v == none {
		return nil
	}
	return &v
}

// pageFlags are those of every list.
type pageFlags struct {
	Limit  int    `help:"The longest page wanted, 1 to 1000." placeholder:"N"`
	Cursor string `help:"nextCursor of the page before." placeholder:"CURSOR"`
}

type groupsCommand struct {
	Name string `arg:"" optional:"" help:"One failover group."`
	pageFlags
}

func (x groupsCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	if x.Name != "" {
		return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
			return api.GetFailoverGroup(ctx, x.Name)
		}, showGroup)
	}
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListFailoverGroups(ctx, &rest.ListFailoverGroupsParams{Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor)})
	}, showGroups)
}

type summaryCommand struct{}

func (x summaryCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.GetSummary(ctx)
	}, showSummary)
}

type agentsCommand struct {
	ID           string `arg:"" optional:"" help:"One agent, by its Connect user id."`
	Group        string `help:"Only those of this failover group."`
	TDG          string `name:"tdg" help:"Only those of this traffic distribution group."`
	ActiveRegion string `help:"Only those who work in this Region."`
	State        string `help:"Only those in this state: unknown, active, detected, pending."`
	Username     string `help:"Only the agent with this user name."`
	Search       string `help:"Only those whose user name or id begins with this."`
	Order        string `help:"By agentId, or by username."`
	pageFlags
}

func (x agentsCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	if x.ID != "" {
		return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
			return api.GetAgent(ctx, x.ID)
		}, showAgent)
	}
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListAgents(ctx, &rest.ListAgentsParams{
			FailoverGroup: opt[rest.FailoverGroupFilter](x.Group), TdgID: opt[rest.TdgIDFilter](x.TDG), ActiveRegion: opt[rest.RegionName](x.ActiveRegion),
			State: opt[rest.AgentState](x.State), Username: opt[string](x.Username), Search: opt[string](x.Search), Order: opt[rest.ListAgentsParamsOrder](x.Order), Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor),
		})
	}, showAgents)
}

type contactsCommand struct {
	Agent string `arg:"" help:"The agent's Connect user id."`
	pageFlags
}

func (x contactsCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListAgentContacts(ctx, x.Agent, &rest.ListAgentContactsParams{Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor)})
	}, showContacts)
}

type failoversCommand struct {
	ID     string    `arg:"" optional:"" help:"One failover."`
	Group  string    `help:"Only those of this failover group."`
	TDG    string    `name:"tdg" help:"Only those of this traffic distribution group."`
	Agent  string    `help:"Only those of this agent."`
	Status string    `help:"Only those with this status: detected, pending, completed, cancelled."`
	From   string    `help:"Only those that leave this Region."`
	To     string    `help:"Only those that go to this Region."`
	Since  time.Time `help:"Only those that were detected then or later (RFC 3339)."`
	pageFlags
}

func (x failoversCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	if x.ID != "" {
		return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
			return api.GetFailover(ctx, x.ID)
		}, showFailover)
	}
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListFailovers(ctx, &rest.ListFailoversParams{
			FailoverGroup: opt[rest.FailoverGroupFilter](x.Group), TdgID: opt[rest.TdgIDFilter](x.TDG), AgentID: opt[rest.AgentIDFilter](x.Agent),
			Status: opt[rest.FailoverStatus](x.Status), FromRegion: opt[rest.RegionName](x.From), ToRegion: opt[rest.RegionName](x.To), Since: some(x.Since),
			Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor),
		})
	}, showFailovers)
}

type pendingCommand struct {
	Group   string `help:"Only those of this failover group."`
	TDG     string `name:"tdg" help:"Only those of this traffic distribution group."`
	From    string `help:"Only those that leave this Region."`
	Channel string `help:"Only those that a contact of this channel holds, such as VOICE."`
	Phase   string `help:"Only those with a live contact (talking), or whose contacts have all ended (afterContactWork)."`
	Stale   bool   `help:"Only those whose Region cannot be read."`
	Order   string `help:"longest (waiting, first), shortest or username."`
	pageFlags
}

func (x pendingCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListOpenFailovers(ctx, &rest.ListOpenFailoversParams{
			FailoverGroup: opt[rest.FailoverGroupFilter](x.Group), TdgID: opt[rest.TdgIDFilter](x.TDG), FromRegion: opt[rest.RegionName](x.From), Channel: opt[string](x.Channel),
			Phase: opt[rest.ListOpenFailoversParamsPhase](x.Phase), Stale: some(x.Stale), Order: opt[rest.ListOpenFailoversParamsOrder](x.Order),
			Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor),
		})
	}, showPending)
}

type whoamiCommand struct{}

func (x whoamiCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.GetSession(ctx)
	}, showSession)
}

type connectionsCommand struct {
	Agent string `help:"Only those of this agent."`
	pageFlags
}

func (x connectionsCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListConnections(ctx, &rest.ListConnectionsParams{AgentID: opt[rest.AgentIDFilter](x.Agent), Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor)})
	}, showConnections)
}

type auditCommand struct {
	Subject string    `help:"Only what this caller did or tried."`
	Action  string    `help:"Only this action, such as forceFailover."`
	Target  string    `help:"Only what was done to this, such as failover-groups/main."`
	Outcome string    `help:"Only what ended so, such as done."`
	Since   time.Time `help:"Only entries of that time or later (RFC 3339)."`
	pageFlags
}

func (x auditCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListAudit(ctx, &rest.ListAuditParams{
			Subject: opt[rest.AuditText](x.Subject), Action: opt[rest.AuditText](x.Action), Target: opt[rest.AuditText](x.Target), Outcome: opt[rest.AuditText](x.Outcome),
			Since: some(x.Since), Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor)})
	}, showAudit)
}

type planCommand struct {
	Group   string `arg:"" help:"The failover group."`
	To      string `help:"The Region that the agents would be sent to." required:"" placeholder:"REGION"`
	TDG     string `name:"tdg" help:"Only the agents of this traffic distribution group."`
	Outcome string `help:"Only agents with this outcome: there, atOnce, waits, unknown."`
	pageFlags
}

func (x planCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.PlanFailoverGroup(ctx, x.Group, &rest.PlanFailoverGroupParams{
			Outcome: opt[rest.PlanOutcome](x.Outcome), Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor),
		}, rest.PlanRequest{ToRegion: x.To, TdgID: opt[rest.ID](x.TDG)})
	}, showPlan)
}

type pauseCommand struct {
	Group  string        `arg:"" help:"The failover group."`
	For    time.Duration `help:"After this time the pause ends by itself." default:"30m"`
	Reason string        `help:"Why; agents, the summary and the audit show it." required:""`
}

func (x pauseCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	seconds, err := wholeSeconds(x.For)
	if err != nil {
		return err
	}
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.PauseFailoverGroup(ctx, x.Group, &rest.PauseFailoverGroupParams{IdempotencyKey: key()}, rest.PauseRequest{Reason: x.Reason, TTLSeconds: &seconds})
	}, showGroup)
}

func wholeSeconds(d time.Duration) (int, error) {
	if d%time.Second != 0 || d <= 0 {
		return 0, errors.New("--for: expected whole seconds, such as 15m")
	}
	return int(d / time.Second), nil
}

type resumeCommand struct {
	Group string `arg:"" help:"The failover group."`
}

func (x resumeCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ResumeFailoverGroup(ctx, x.Group, &rest.ResumeFailoverGroupParams{IdempotencyKey: key()})
	}, showGroup)
}

type forceCommand struct {
	ID     string `arg:"" help:"The failover."`
	Reason string `help:"Why; the failover and the audit keep it." required:""`
}

func (x forceCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ForceFailover(ctx, x.ID, &rest.ForceFailoverParams{IdempotencyKey: key()}, rest.ForceRequest{Reason: x.Reason})
	}, showFailover)
}

type forceManyCommand struct {
	Group        string   `arg:"" help:"The failover group."`
	Failovers    []string `name:"failover" help:"Only these; a thousand at most." placeholder:"ID"`
	TDG          string   `name:"tdg" help:"Only those of this traffic distribution group."`
	From         string   `help:"Only those that leave this Region."`
	OnlyStale    bool     `help:"Only those whose Region cannot be read: for the night on which it is down."`
	OnlyFresh    bool     `help:"Only those whose Region can be read."`
	Status       string   `help:"Only those in this status: detected, pending."`
	Channel      string   `help:"Only those that a contact of this channel holds."`
	Phase        string   `help:"talking: only those with a live contact; afterContactWork: only those whose contacts have all ended."`
	MaxPerSecond float64  `help:"So many per second; left out, all at once." placeholder:"N"`
	MaxFraction  float64  `help:"Force nothing if more than this fraction of the group's agents would have been forced within ten minutes; more than 0.2 takes the role admin." placeholder:"FRACTION"`
	Reason       string   `help:"Why; the failovers and the audit keep it." required:""`
}

func (x forceManyCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ForceFailovers(ctx, &rest.ForceFailoversParams{IdempotencyKey: key()}, rest.BulkForceRequest{
			FailoverGroup: x.Group, TdgID: opt[rest.ID](x.TDG), FromRegion: opt[rest.RegionName](x.From), OnlyStale: some(x.OnlyStale),
			OnlyFresh: some(x.OnlyFresh), Status: opt[rest.BulkForceRequestStatus](x.Status), Channel: opt[string](x.Channel), Phase: opt[rest.BulkForceRequestPhase](x.Phase),
			MaxPerSecond: some(x.MaxPerSecond), MaxFraction: some(x.MaxFraction), FailoverIds: x.Failovers, Reason: x.Reason,
		})
	}, showForced)
}

type shiftsCommand struct {
	ID    string `arg:"" optional:"" help:"The report on one shift."`
	CSV   bool   `name:"csv" help:"The failovers of that shift, as CSV."`
	Group string `help:"Only those of this failover group."`
	TDG   string `name:"tdg" help:"Only those of this traffic distribution group."`
	pageFlags
}

func (x shiftsCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	if x.CSV && x.ID == "" {
		return errors.New("--csv: expected the shift whose failovers are wanted")
	}
	if x.ID != "" {
		return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
			if x.CSV {
				return api.GetShiftFailovers(ctx, x.ID)
			}
			return api.GetShift(ctx, x.ID)
		}, showShift)
	}
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListShifts(ctx, &rest.ListShiftsParams{
			FailoverGroup: opt[rest.FailoverGroupFilter](x.Group), TdgID: opt[rest.TdgIDFilter](x.TDG), Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor),
		})
	}, showShifts)
}

type drillCommand struct {
	Group  string        `arg:"" help:"The failover group."`
	Agents []string      `arg:"" help:"The agents' Connect user ids, 200 at most."`
	For    time.Duration `help:"After this time the drill ends, whoever is still pending." default:"10m"`
	Reason string        `help:"Why; the report and the audit keep it." required:""`
}

func (x drillCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	seconds, err := wholeSeconds(x.For)
	if err != nil {
		return err
	}
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.StartDrill(ctx, x.Group, &rest.StartDrillParams{IdempotencyKey: key()}, rest.DrillRequest{AgentIds: x.Agents, Reason: x.Reason, TTLSeconds: &seconds})
	}, showDrill)
}

type drillsCommand struct {
	ID    string `arg:"" optional:"" help:"The report on one drill."`
	Group string `help:"Only those of this failover group."`
	pageFlags
}

func (x drillsCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	if x.ID != "" {
		return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
			return api.GetDrill(ctx, x.ID)
		}, showDrill)
	}
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListDrills(ctx, &rest.ListDrillsParams{FailoverGroup: opt[rest.FailoverGroupFilter](x.Group), Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor)})
	}, showDrills)
}

type webhooksCommand struct{}

func (x webhooksCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListWebhooks(ctx)
	}, showWebhooks)
}

type deliveriesCommand struct {
	Webhook string `arg:"" help:"The webhook."`
	Status  string `help:"Only those with this status: pending, delivered, dead."`
	pageFlags
}

func (x deliveriesCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ListWebhookDeliveries(ctx, x.Webhook, &rest.ListWebhookDeliveriesParams{
			Status: opt[rest.DeliveryStatus](x.Status), Limit: some(x.Limit), Cursor: opt[rest.Cursor](x.Cursor),
		})
	}, showDeliveries)
}

type replayCommand struct {
	Webhook  string `arg:"" help:"The webhook."`
	Delivery string `arg:"" help:"The delivery."`
}

func (x replayCommand) Run(ctx context.Context, c *Command, out *Caller) error {
	return do(ctx, c, out, func(ctx context.Context, api *rest.ClientWithResponses) (*http.Response, error) {
		return api.ReplayWebhookDelivery(ctx, x.Webhook, x.Delivery, &rest.ReplayWebhookDeliveryParams{IdempotencyKey: key()})
	}, showDelivery)
}
