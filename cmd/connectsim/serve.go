package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"changeover/internal/connectsim"
)

type serveCommand struct {
	Listen string `help:"Address of both Regions and of the control API." default:"127.0.0.1:8081"`

	CCPListen []string `name:"ccp-listen" help:"Addresses of the two Regions' Contact Control Panels; none: they are not served." placeholder:"HOST:PORT,HOST:PORT"`

	Seed             uint64   `help:"Makes ids and the floor repeatable." default:"1"`
	Regions          []string `help:"Source Region and its replica." default:"us-east-1,us-west-2"`
	TDG              []string `name:"tdg" help:"Traffic distribution groups, NAME or NAME=WEIGHT for their part of the agents; the first is the default one." default:"default"`
	Agents           int      `help:"Agents on the floor." default:"200"`
	RoutingProfiles  int      `help:"Routing profiles; 0: one per 50 agents."`
	SignedIn         float64  `help:"Share of the agents who are signed in." default:"1"`
	View             string   `help:"What GetCurrentUserData shows: each Region its own, or both the same." enum:"regional,global" default:"regional"`
	DifferingUserIDs bool     `help:"Users have another id in the replica, as old replicas may have." name:"differing-user-ids"`
	ShowOffline      bool     `help:"GetCurrentUserData shows agents who are offline."`

	CallsPerHour float64       `help:"Calls per agent." default:"9"`
	ChatsPerHour float64       `help:"Chats per agent." default:"4"`
	TasksPerHour float64       `help:"Tasks per agent." default:"1"`
	Talk         time.Duration `help:"Mean length of a call." default:"3m"`
	Chat         time.Duration `help:"Mean length of a chat." default:"6m"`
	Task         time.Duration `help:"Mean length of a task." default:"5m"`
	ACW          time.Duration `name:"acw" help:"Mean after-contact work." default:"30s"`

	Rate           float64       `help:"Requests per second of each operation in each Region; 0: no limit." default:"2"`
	Burst          int           `help:"Requests at once of each operation in each Region." default:"5"`
	Latency        time.Duration `help:"How long an answer takes." default:"2ms"`
	UpdateWindow   time.Duration `help:"How long a group is UPDATE_IN_PROGRESS." default:"2s"`
	Lag            time.Duration `help:"How much later the other Region sees a change." default:"1s"`
	MoveDelay      time.Duration `help:"Longest time until a desktop acts on a shift; Amazon Connect says up to 5m." default:"10s"`
	AvailableAfter time.Duration `help:"How long agents are offline in their new Region." default:"2s"`
}

func (c *serveCommand) config() (connectsim.Config, error) {
	cfg := connectsim.Config{
		Seed: c.Seed, Agents: c.Agents, RoutingProfiles: c.RoutingProfiles, SignedIn: orNone(c.SignedIn), View: connectsim.View(c.View),
		DifferingUserIDs: c.DifferingUserIDs, ShowOffline: c.ShowOffline,
		Floor: connectsim.Floor{
			CallsPerHour: c.CallsPerHour, ChatsPerHour: c.ChatsPerHour, TasksPerHour: c.TasksPerHour,
			Talk: connectsim.Duration(c.Talk), Chat: connectsim.Duration(c.Chat), Task: connectsim.Duration(c.Task), AfterContactWork: connectsim.Duration(c.ACW),
		},
		RatePerSecond: c.Rate, Burst: c.Burst, Latency: orNone(c.Latency), UpdateWindow: c.UpdateWindow, Lag: c.Lag,
		MoveDelay: orNone(c.MoveDelay), AvailableAfter: c.AvailableAfter,
	}
	if len(c.Regions) != 2 {
		return cfg, fmt.Errorf("--regions %v: expected two", c.Regions)
	}
	if n := len(c.CCPListen); n != 0 && n != 2 {
		return cfg, fmt.Errorf("--ccp-listen %v: expected two addresses, or none", c.CCPListen)
	}
	cfg.Regions = [2]string(c.Regions)
	for i, g := range c.TDG {
		name, weight, weighted := strings.Cut(g, "=")
		t := connectsim.TDGConfig{Name: name, Default: i == 0}
		if weighted {
			var err error
			if t.Agents, err = strconv.ParseFloat(weight, 64); err != nil {
				return cfg, fmt.Errorf("--tdg %q: expected NAME=WEIGHT with a number as weight", g)
			}
		}
		cfg.TDGs = append(cfg.TDGs, t)
	}
	return cfg, cfg.Validate()
}

// orNone turns a flag's 0, which means none, into the negative value that means none in a Config, where 0 is the
// default.
func orNone[T ~int64 | ~float64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// Run implements the command.
func (c *serveCommand) Run(ctx context.Context, stdout io.Writer) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	sim := connectsim.New(cfg)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	serve := func(h http.Handler) *http.Server {
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		wg.Go(func() {
			<-ctx.Done()
			// A hanging request (a fault) would hold a graceful shutdown up: nothing here is worth waiting for.
			_ = srv.Close()
		})
		return srv
	}
	wg.Go(func() { sim.Run(ctx) })
	for i, address := range c.CCPListen {
		h, err := sim.CCP(cfg.Regions[i])
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", address, err)
		}
		ccp := serve(h)
		wg.Go(func() { _ = ccp.Serve(l) }) // ends with Close
		fmt.Fprintf(stdout, "connectsim: Contact Control Panel of %s on http://%s/ccp-v2/?agent=ID\n", cfg.Regions[i], l.Addr())
	}
	srv := serve(sim.Handler())
	url := "http://" + ln.Addr().String()
	fmt.Fprintf(stdout, "connectsim: Amazon Connect of %s and %s on %s, instance %s, %d agents; control API under %s/_control/\n",
		cfg.Regions[0], cfg.Regions[1], url, sim.InstanceID(), cfg.Agents, url)
	err = srv.Serve(ln)
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", url, err)
	}
	return nil
}
