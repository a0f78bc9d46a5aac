package connectsim

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// View says what GetCurrentUserData shows of the two linked instances.
type View string

// Regional instances show each Region's own agents and contacts. Global ones, the default of Amazon Connect for
// instances created since 2026-09-01, show the same from both Regions, without a contact's Region.
const (
	Regional View = "regional"
	Global   View = "global"
)

// Config describes the simulated pair of linked instances. The zero value is usable: two Regions, no agents, the
// default traffic distribution group at 100 % in the source Region, no quotas and no lag.
type Config struct {
	// Seed makes the floor and every id repeatable: two simulators with equal Configs whose methods are called at
	// equal times behave equally.
	Seed uint64
	// Regions are the source Region and its replica. Default: us-east-1 and us-west-2.
	Regions [2]string
	// Account is the AWS account. Default: 111122223333.
	Account string
	// InstanceID is the id of the instance, the same in both Regions. Default: [DefaultInstanceID].
	InstanceID string
	// Alias is the instance alias of which the Regions' host names are made. Default: changeover.
	Alias string
	// View is Regional unless set.
	View View

	// TDGs are the traffic distribution groups. Exactly one is the default one: if none is marked, the first.
	// Default: one, named "default", with the id [DefaultTDGID].
	TDGs []TDGConfig
	// Agents is the number of agents at the beginning; see also [Sim.AddAgent].
	Agents int
	// RoutingProfiles is the number of routing profiles that the agents are spread over. Default: one per 50
	// agents, at least 2 and at most 100.
	RoutingProfiles int
	// SignedIn is the share of the agents who are signed in at the beginning. Default: 1. Negative: none.
	SignedIn float64
	// DifferingUserIDs gives users another id in the replica, as replicas made before November 2023 may have; the
	// username is the same.
	DifferingUserIDs bool
	// ShowOffline makes GetCurrentUserData of a regional view show, with the status Offline, also agents who are
	// signed out or active in the other Region. Whether Amazon Connect does is not documented.
	ShowOffline bool
	// Floor says what agents do by themselves. Default: nothing.
	Floor Floor

	// RatePerSecond and Burst are the token bucket of each operation in each Region. Amazon Connect's default quota
	// is 2 and 5. DescribeContact has five times the rate and three times the burst, as with Amazon Connect.
	// RatePerSecond 0: no limit.
	RatePerSecond float64
	Burst         int
	// Latency is how long every answer takes. Default: 2 ms; negative: none. Over sockets keep the default: the Go
	// SDK sometimes fails a POST that a server answers at once.
	Latency time.Duration
	// UpdateWindow is how long a traffic distribution group stays UPDATE_IN_PROGRESS after UpdateTrafficDistribution
	// (and CREATION_IN_PROGRESS, PENDING_DELETION). Reading or updating its distribution is refused meanwhile, and the
	// new distribution takes effect at the end.
	UpdateWindow time.Duration
	// Lag is how much later the Region that was not called sees a change of a traffic distribution group.
	Lag time.Duration
	// MoveDelay is the longest time until a signed-in agent's desktop acts on a new target Region; each takes a
	// random part of it. Amazon Connect says up to five minutes. Default: 2 s; negative: at once.
	MoveDelay time.Duration
	// AvailableAfter is how long agents are Offline in their new Region until they set themselves Available again,
	// as Amazon Connect has them do. Default: at once.
	AvailableAfter time.Duration
}

// TDGConfig is a traffic distribution group.
type TDGConfig struct {
	// ID is a lower-case UUID. Default: [DefaultTDGID] for the default group, else one made from the name.
	ID   string
	Name string
	// Default marks the group that was made with the replica, the only one with a sign-in distribution.
	Default bool
	// Agents is the weight of this group among the groups when the agents are given to them. If no group has a
	// weight, all agents are given to the default one.
	Agents float64
	// Percent of telephony and agents in the source Region at the beginning, in steps of 10. Default: 100; -1: 0.
	Percent int
}

// Floor says what signed-in, available agents do by themselves. Rates are per agent and hour; durations are means of
// exponential distributions.
type Floor struct {
	CallsPerHour float64 `json:"callsPerHour"`
	ChatsPerHour float64 `json:"chatsPerHour"`
	TasksPerHour float64 `json:"tasksPerHour"`

	Ring             Duration `json:"ring"`             // until a contact is accepted. Default: 4 s
	Talk             Duration `json:"talk"`             // of a call. Default: 3 min
	Chat             Duration `json:"chat"`             // of a chat. Default: 6 min
	Task             Duration `json:"task"`             // of a task. Default: 5 min
	AfterContactWork Duration `json:"afterContactWork"` // after calls and chats. Default: 30 s

	// Hold is the share of calls that are put on hold once. Default: 0.2; negative: none.
	Hold float64 `json:"hold"`
	// Missed is the share of contacts that are offered but missed or rejected, and stay in the list until cleared.
	// Default: 0.03; negative: none.
	Missed float64 `json:"missed"`
}

// Ids that are used unless others are configured.
const (
	DefaultInstanceID = "12345678-1234-1234-1234-123456789012"
	DefaultTDGID      = "0aaaaaaa-0000-0000-0000-000000000001"
)

// Busy is a floor on which agents are on a contact about 60 % of the time.
func Busy() Floor {
	return Floor{CallsPerHour: 9, ChatsPerHour: 4, TasksPerHour: 1}
}

func (f Floor) withDefaults() Floor {
	set := func(d *Duration, def time.Duration) {
		if *d <= 0 {
			*d = Duration(def)
		}
	}
	set(&f.Ring, 4*time.Second)
	set(&f.Talk, 3*time.Minute)
	set(&f.Chat, 6*time.Minute)
	set(&f.Task, 5*time.Minute)
	set(&f.AfterContactWork, 30*time.Second)
	f.Hold = share(f.Hold, 0.2)
	f.Missed = share(f.Missed, 0.03)
	return f
}

// share reads an optional share of which a negative value means none.
func share(v, def float64) float64 {
	switch {
	case v < 0:
		return 0
	case v == 0:
		return def
	}
	return min(v, 1)
}

func (c Config) withDefaults() Config {
	if c.Regions == [2]string{} {
		c.Regions = [2]string{"us-east-1", "us-west-2"}
	}
	if c.Account == "" {
		c.Account = "111122223333"
	}
	if c.InstanceID == "" {
		c.InstanceID = DefaultInstanceID
	}
	if c.Alias == "" {
		c.Alias = "changeover"
	}
	if c.View == "" {
		c.View = Regional
	}
	if c.RoutingProfiles <= 0 {
		c.RoutingProfiles = min(max(c.Agents/50, 2), 100)
	}
	c.SignedIn = share(c.SignedIn, 1)
	switch {
	case c.Latency < 0:
		c.Latency = 0
	case c.Latency == 0:
		c.Latency = 2 * time.Millisecond
	}
	switch {
	case c.MoveDelay < 0:
		c.MoveDelay = 0
	case c.MoveDelay == 0:
		c.MoveDelay = 2 * time.Second
	}
	if len(c.TDGs) == 0 {
		c.TDGs = []TDGConfig{{Name: "default", Default: true}}
	}
	c.TDGs = append([]TDGConfig(nil), c.TDGs...)
	byDefault, weights := -1, 0.0
	for i := range c.TDGs {
		if c.TDGs[i].Default {
			byDefault = i
		}
		weights += c.TDGs[i].Agents
	}
	if byDefault < 0 {
		byDefault = 0
		c.TDGs[0].Default = true
	}
	if weights == 0 {
		c.TDGs[byDefault].Agents = 1
	}
	return c
}

// Duration is a time.Duration that is written "1.5s" in JSON.
type Duration time.Duration

func (d Duration) std() time.Duration { return time.Duration(d) }

// MarshalText is for encoding/json.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText is for encoding/json and flags.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

func (f Floor) validate() error {
	for name, v := range map[string]float64{"callsPerHour": f.CallsPerHour, "chatsPerHour": f.ChatsPerHour, "tasksPerHour": f.TasksPerHour} {
		if v < 0 || v > 100_000 {
			return fmt.Errorf("floor %s %v: expected 0 to 100000", name, v)
		}
	}
	return nil
}

var (
	regionPattern  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,2}-[0-9]$`)
	uuidPattern    = regexp.MustCompile(`^[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$`)
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	aliasPattern   = regexp.MustCompile(`^[0-9a-zA-Z]+(-*[0-9a-zA-Z])*$`)
)

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	c = c.withDefaults()
	for _, r := range c.Regions {
		bad(!regionPattern.MatchString(r), "region %q: expected one like us-east-1", r)
	}
	bad(c.Regions[0] == c.Regions[1], "regions: expected two different ones, got %s twice", c.Regions[0])
	bad(!accountPattern.MatchString(c.Account), "account %q: expected 12 digits", c.Account)
	bad(!uuidPattern.MatchString(c.InstanceID), "instance id %q: expected a lower-case UUID", c.InstanceID)
	bad(!aliasPattern.MatchString(c.Alias) || len(c.Alias) > 30 || strings.HasPrefix(c.Alias, "d-"), "alias %q: expected up to 30 letters, digits and dashes, not beginning with d-", c.Alias)
	bad(c.View != Regional && c.View != Global, "view %q: expected regional or global", c.View)
	bad(c.Agents < 0 || c.Agents > 1_000_000, "agents %d: expected 0 to 1000000", c.Agents)
	bad(c.RoutingProfiles > 10_000, "routing profiles %d: expected up to 10000", c.RoutingProfiles)
	bad(c.RatePerSecond < 0, "rate per second %v: expected 0 (no limit) or more", c.RatePerSecond)
	bad(c.RatePerSecond > 0 && c.Burst < 1, "burst %d: expected 1 or more with a rate", c.Burst)
	bad(c.UpdateWindow < 0, "update window %v: expected 0 or more", c.UpdateWindow)
	bad(c.Lag < 0, "lag %v: expected 0 or more", c.Lag)
	bad(c.AvailableAfter < 0, "available after %v: expected 0 or more", c.AvailableAfter)
	bad(len(c.TDGs) > maxTDGs, "traffic distribution groups: expected up to %d, got %d", maxTDGs, len(c.TDGs))
	defaults, seen := 0, map[string]bool{}
	for _, t := range c.TDGs {
		if t.Default {
			defaults++
		}
		bad(!isText(t.Name, 128), "traffic distribution group name %q: expected 1 to 128 characters without blanks around", t.Name)
		bad(t.ID != "" && !uuidPattern.MatchString(t.ID), "traffic distribution group id %q: expected a lower-case UUID", t.ID)
		bad(seen[t.Name] || t.ID != "" && seen[t.ID], "traffic distribution group %q: name or id is used twice", t.Name)
		seen[t.Name] = true
		if t.ID != "" {
			seen[t.ID] = true
		}
		bad(t.Agents < 0, "traffic distribution group %q agents %v: expected 0 or more", t.Name, t.Agents)
		bad(t.Percent != -1 && (t.Percent < 0 || t.Percent > 100 || t.Percent%10 != 0), "traffic distribution group %q percent %d: expected 0 to 100 in steps of 10", t.Name, t.Percent)
	}
	bad(defaults != 1, "traffic distribution groups: expected one default group, got %d", defaults)
	if err := c.Floor.validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
