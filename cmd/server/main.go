// Command server is Changeover: it observes which Region each agent of linked Amazon Connect instances should work in, and tells
// desktops when they have to change over.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"changeover/internal/app"
	"changeover/internal/config"
	"changeover/internal/ctl"
)

type file struct {
	Config string `help:"The configuration file." default:"changeover.yaml" placeholder:"FILE"`
}

func (f file) load() (*config.Config, error) { return config.Load(f.Config, os.Environ()) }

type cli struct {
	Debug bool `help:"Log more."`

	Serve   serve        `cmd:"" help:"Run the service."`
	Migrate migrate      `cmd:"" help:"Bring the database's schema up to date and exit."`
	Check   check        `cmd:"" help:"Validate the configuration, reach PostgreSQL and every Region without changing anything, print a table."`
	Health  health       `cmd:"" help:"Ask the service that runs here with this configuration whether it is ready: for images without a shell."`
	Watch   watchCommand `cmd:"" help:"Print the events of an agent, or of all, as they come."`
	Ctl     ctl.Command  `cmd:"" help:"Call the REST API of a running service: look, plan, pause, force, rehearse."`
	Audit   audit        `cmd:"" help:"The audit trail."`
	Version version      `cmd:"" help:"Print the version."`
}

type serve struct{ file }

// garbage is how much may gather before it is collected, in percent of what is alive, where GOGC does not say it: with more of it a shift of 50,000
// agents takes more memory, with less more of the processor. docs/performance.md has both.
const garbage = 90

func (s serve) Run(ctx context.Context, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	c, err := s.load()
	if err != nil {
		return err
	}
	return app.Run(ctx, c, app.Options{Log: log})
}

type migrate struct{ file }

func (m migrate) Run(ctx context.Context, log *slog.Logger) error {
	c, err := m.load()
	if err != nil {
		return err
	}
	return app.Migrate(ctx, c, log)
}

type check struct {
	file
	Endpoint string `help:"Also ask the running service, at the address of its callers." placeholder:"URL"`
}

func (c check) Run(ctx context.Context, log *slog.Logger) error {
	loaded, err := c.load()
	if err != nil {
		return err
	}
	return app.Check(ctx, loaded, c.Endpoint, app.Options{Log: log}, os.Stdout)
}

type health struct{ file }

func (h health) Run(ctx context.Context) error {
	c, err := h.load()
	if err != nil {
		return err
	}
	return app.Health(ctx, c)
}

type version struct{}

func (version) Run() error {
	_, err := fmt.Println("changeover", app.Version())
	return err
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("server"), kong.Description("Changeover: failover events for the desktops of Amazon Connect Global Resiliency."), kong.UsageOnError())
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	k.Bind(app.NewLogger(os.Stderr, level), &ctl.Caller{Out: os.Stdout, Now: time.Now})
	k.BindTo(ctx, (*context.Context)(nil))
	err := k.Run()
	stop()
	switch {
	case errors.Is(err, app.ErrCheck):
		os.Exit(1) // the table has told
	case err != nil:
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}
