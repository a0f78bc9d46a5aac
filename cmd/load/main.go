//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Run      run      `cmd:"" default:"withargs" help:"Measure one shift."`
	Desktops desktops `cmd:"" hidden:"" help:"Some of the desktops; started by run."`
	Floor    floor    `cmd:"" hidden:"" help:"Some of the sockets of the floor; started by run."`
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("load"), kong.Description("Measures a shift of a whole floor. See make load."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	k.BindTo(ctx, (*context.Context)(nil))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
