// Command demo shows Changeover at work on one machine: a private PostgreSQL, a simulated Amazon Connect with agents who take calls
// and chats, and the service, all in this process. It says what to look at and how to shift the floor, follows every
// shift, and leaves nothing behind when it ends. `make demo` builds and runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/alecthomas/kong"

	"changeover/internal/app"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres"
	"changeover/web/desktop"
)

const (
	east    = "us-east-1"
	west    = "us-west-2"
	account = "111122223333"
)

type demo struct {
	Shift  bool          `help:"Shift the floor to us-west-2 after a while, follow it to the end, sum it up and exit."`
	After  time.Duration `help:"When to shift, once all agents are known." default:"8s"`
	Agents int           `help:"Agents on the floor." default:"200"`
	Listen string        `help:"Address of the service; a free port if it is taken." default:"127.0.0.1:8080"`
	Sim    string        `name:"simulator" help:"Address of the simulated Amazon Connect; a free port if it is taken." default:"127.0.0.1:8081"`
	Panels []string      `name:"panel" help:"Addresses of the Regions' simulated Contact Control Panels; free ports if they are taken." default:"127.0.0.1:8082,127.0.0.1:8083"`
	Page   string        `name:"desktop" help:"Address of the desktop; a free port if it is taken." default:"127.0.0.1:8090"`
	Dir    string        `help:"Where the log and the configuration are written." default:".cache"`

	command string // connectsim

	// What the test makes quicker than a person would want to watch.
	floor connectsim.Floor
	poll  string        // a section of the configuration
	every time.Duration // between lines about a shift
}

// quickFloor has calls of half a minute, so that a shift of the floor is over in two minutes. About half of the agents are on one.
var quickFloor = connectsim.Floor{
	CallsPerHour: 70, ChatsPerHour: 25, TasksPerHour: 5,
	Ring: connectsim.Duration(2 * time.Second), Talk: connectsim.Duration(20 * time.Second), Chat: connectsim.Duration(25 * time.Second),
	Task: connectsim.Duration(30 * time.Second), AfterContactWork: connectsim.Duration(6 * time.Second),
}

func main() {
	d := demo{command: simulatorCommand(), floor: quickFloor, every: 2 * time.Second}
	kong.Parse(&d, kong.Name("demo"), kong.Description("A simulated contact centre with Changeover. See make demo."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := d.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is the whole demo, until ctx ends or, with Shift, until the shift has ended.
func (d *demo) run(ctx context.Context, out io.Writer) (err error) {
	// Whatever credentials this machine has, they are none of a simulator's business.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return fmt.Errorf("make the folder for the log: %w", err)
	}
	logFile, err := os.Create(filepath.Join(d.Dir, "demo.log"))
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	defer logFile.Close()
	log := app.NewLogger(logFile, slog.LevelInfo)
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w (see %s)", err, logFile.Name())
		}
	}()

	database, stopDatabase, err := startDatabase(ctx, log)
	if err != nil {
		return err
	}
	defer stopDatabase()
	var web servers
	defer web.stop()
	sim, at, err := d.startSimulator(ctx, &web)
	if err != nil {
		return err
	}
	page, err := listen(ctx, d.Page)
	if err != nil {
		return fmt.Errorf("desktop: %w", err)
	}
	at.desktop = "http://" + page.Addr().String()
	configFile, c, err := d.configure(ctx, database, at)
	if err != nil {
		return errors.Join(err, page.Close())
	}
	service, err := app.New(ctx, c, app.Options{Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Stop(context.WithoutCancel(ctx))) }()
	if err := service.Start(ctx); err != nil {
		return err
	}

	at.service = "http://" + service.Addr()
	h, err := desktop.Handler(desktop.Settings{
		Endpoints: []string{at.service}, Heartbeat: c.Stream.Heartbeat.Milliseconds(), LoginURL: at.simulator,
		CCPs: []desktop.CCP{{Region: east, URL: at.panels[0]}, {Region: west, URL: at.panels[1]}},
	})
	if err != nil {
		return errors.Join(err, page.Close())
	}
	web.serve(page, h)

	f := &follower{out: out, sim: sim, url: at.service, agents: d.Agents, every: d.every, client: &http.Client{Timeout: 5 * time.Second}}
	defer f.client.CloseIdleConnections()
	if err := f.untilKnown(ctx); err != nil {
		return ended(ctx, err)
	}
	if err := d.guide(out, f, at, configFile, logFile.Name()); err != nil {
		return err
	}
	if !d.Shift {
		return ended(ctx, f.follow(ctx))
	}
	return ended(ctx, d.shift(ctx, f, at.simulator))
}

// addresses of what the demo serves.
type addresses struct {
	service, simulator, desktop string
	panels                      []string // by Region
}

// servers are the web servers of the demo beside the service's own.
type servers struct {
	all  []*http.Server
	ends []func() // of what runs beside them
	wg   sync.WaitGroup
}

func (s *servers) serve(l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.all = append(s.all, server)
	s.wg.Go(func() { _ = server.Serve(l) }) // ends with Close
}

func (s *servers) stop() {
	for _, server := range s.all {
		_ = server.Close()
	}
	for _, end := range s.ends {
		end()
	}
	s.wg.Wait()
}

// ended makes an interruption what it is: no error.
func ended(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

func (d *demo) shift(ctx context.Context, f *follower, simURL string) error {
	fmt.Fprintf(f.out, "Shifting to %s in %v.\n\n", west, d.After)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d.After):
	}
	// The command that the guide shows: a real UpdateTrafficDistribution, through the AWS SDK.
	cmd := exec.CommandContext(ctx, d.command, "shift", "--endpoint", simURL, "--to", west)
	cmd.Stdout, cmd.Stderr = f.out, f.out
	fmt.Fprintln(f.out, "$", cmd)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("shift the floor: %w", err)
	}
	return f.toTheEnd(ctx, f.lastShift())
}

// startDatabase runs a PostgreSQL in a temporary folder, which is removed also if this process is killed.
func startDatabase(ctx context.Context, log *slog.Logger) (url string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "changeover-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the database: %w", err)
	}
	server, err := postgres.Start(ctx, postgres.Options{DataDir: dir, Temporary: true, Log: log})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return server.URL(postgres.Database), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		server.Stop(ctx)
	}, nil
}

// startSimulator runs until web is stopped.
func (d *demo) startSimulator(ctx context.Context, web *servers) (*connectsim.Sim, addresses, error) {
	var at addresses
	sim := connectsim.New(connectsim.Config{
		Seed: 1, Regions: [2]string{east, west}, Account: account, Agents: d.Agents, Floor: d.floor,
		RatePerSecond: 2, Burst: 5, UpdateWindow: 2 * time.Second, Lag: time.Second, MoveDelay: 8 * time.Second, AvailableAfter: 2 * time.Second,
	})
	l, err := listen(ctx, d.Sim)
	if err != nil {
		return nil, at, fmt.Errorf("simulated Amazon Connect: %w", err)
	}
	at.simulator = "http://" + l.Addr().String()
	web.serve(l, sim.Handler())
	for i, region := range sim.Regions() {
		h, err := sim.CCP(region)
		if err != nil {
			return nil, at, err
		}
		if l, err = listen(ctx, d.Panels[i]); err != nil {
			return nil, at, fmt.Errorf("contact control panel of %s: %w", region, err)
		}
		at.panels = append(at.panels, "http://"+l.Addr().String()+"/ccp-v2/")
		web.serve(l, h)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	web.wg.Go(func() { sim.Run(life) })
	web.ends = append(web.ends, end)
	return sim, at, nil
}

// listen takes the address, or any free port of it if another program has it.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(address)
		l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	return l, err
}

var configuration = template.Must(template.New("").Parse(`# The configuration of a running make demo.
http: {listen: "{{.Listen}}"}
database: {url: "{{.Database}}"}
auth: {mode: none}
cors: {allowedOrigins: ["{{.Desktop}}", "{{.Own}}"]}
stream: {drain: 500ms}
{{.Poll}}
failoverGroups:
  - name: demo
    instances:
{{- range $i, $region := .Regions}}
      - region: {{$region}}
        instanceId: {{$.Instance}}
        ccpUrl: {{index $.Panels $i}}
        endpoint: {{$.Simulator}}
{{- end}}
`))

// configure writes the configuration to a file, as an operator would, and loads it.
func (d *demo) configure(ctx context.Context, database string, at addresses) (string, *config.Config, error) {
	// Whether the port is free is known only by taking it. It is given back at once, for the service to take.
	l, err := listen(ctx, d.Listen)
	if err != nil {
		return "", nil, fmt.Errorf("service: %w", err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", nil, fmt.Errorf("service: %w", err)
	}
	var text strings.Builder
	if err := configuration.Execute(&text, map[string]any{
		"Listen": address, "Database": database, "Poll": d.poll, "Regions": []string{east, west},
		"Instance": connectsim.DefaultInstanceID, "Simulator": at.simulator, "Panels": at.panels, "Desktop": at.desktop, "Own": ownPages,
	}); err != nil {
		return "", nil, fmt.Errorf("write the configuration: %w", err)
	}
	file := filepath.Join(d.Dir, "demo.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return "", nil, fmt.Errorf("write the configuration: %w", err)
	}
	c, err := config.Load(file, nil)
	return file, c, err
}
