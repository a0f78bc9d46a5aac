// Command connectsim is a simulated Amazon Connect for one machine: the demo, compose and tests of what reads Amazon
// Connect. See package changeover/internal/connectsim for what it keeps to.
//
//	connectsim serve --agents 200            # both Regions on one port, and /_control/
//	connectsim shift --to us-west-2          # what an administrator does, through the AWS SDK
//	connectsim status
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type cli struct {
	Serve  serveCommand  `cmd:"" help:"Run the simulator until it is interrupted."`
	Shift  shiftCommand  `cmd:"" help:"Give a Region a part of the agents and calls: UpdateTrafficDistribution, sent as the AWS CLI sends it."`
	Status statusCommand `cmd:"" help:"Show Regions, traffic distribution groups and agents."`
}

// exited carries the exit code out of kong, which wants to end the process.
type exited int

// run is main without the process: it returns the exit code, 0, 1 or, for wrong flags, 2.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(exited)
			if !ok {
				panic(p)
			}
			code = int(e)
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("connectsim"), kong.Description("A simulated Amazon Connect: two linked instances in two Regions."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exited(code)) }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(stdout, (*io.Writer)(nil)))
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		err = parsed.Run()
	}
	var wrong *kong.ParseError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "connectsim: %v\nSee connectsim --help.\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "connectsim: %v\n", err)
	return 1
}
