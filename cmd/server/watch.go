package main

import (
	"context"
	"os"

	"changeover/internal/watch"
)

type watchCommand struct {
	Agent string `help:"Watch the agent with this Connect user id." xor:"who" required:"" placeholder:"ID"`
	All   bool   `help:"Watch all agents; needs the role viewer." xor:"who" required:""`

	Endpoint []string `help:"Address of the service; several: the next one when one fails." env:"CHANGEOVER_ENDPOINT" default:"http://127.0.0.1:8080" placeholder:"URL"`
	// There is no flag for the token itself: everybody on the machine can read a command line.
	TokenFile string `help:"File with the bearer token, read again for each connection. Without it: the variable CHANGEOVER_TOKEN, else none." placeholder:"FILE"`
	After     string `help:"Go on after the event with this id; without it a snapshot comes first." placeholder:"ID"`
	JSON      bool   `help:"Lines of JSON, {\"id\":…,\"event\":…,\"data\":…}."`
}

func (w watchCommand) Run(ctx context.Context) error {
	return watch.Run(ctx, watch.Options{
		Endpoints: w.Endpoint, AgentID: w.Agent, After: w.After, Token: os.Getenv("CHANGEOVER_TOKEN"), TokenFile: w.TokenFile, JSON: w.JSON,
		Events: os.Stdout, Connection: os.Stderr,
	})
}
