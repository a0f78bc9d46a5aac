// Package watch is `server watch`: the event stream for people and shell scripts, by the Go client of clients/go.
//
// Events go to one writer, a line each, and what becomes of the connection to another, so that the lines can be piped on.
package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	changeover "changeover/clients/go"
	"changeover/clients/go/rest"
)

// Options say what to watch and how to show it.
type Options struct {
	Endpoints []string // base addresses of the service
	AgentID   string   // empty: all agents
	After     string   // cursor to go on from; empty: from a snapshot on
	Token     string   // bearer token; empty: none
	TokenFile string   // instead of Token: read for each connection, so that whatever renews it may write it anew
	JSON      bool     // lines of JSON instead of lines for people

	Events     io.Writer // gets the events
	Connection io.Writer // gets what becomes of the connection
}

// Run watches until ctx ends, which is no error, or until the service refuses.
func Run(ctx context.Context, o Options) error {
	for _, endpoint := range o.Endpoints {
		if u, err := url.Parse(endpoint); err == nil && u.User != nil {
			return fmt.Errorf("endpoint %s: credentials do not belong into an address", u.Redacted())
		}
	}
	client, err := changeover.New(changeover.Options{Endpoints: o.Endpoints, Token: o.token()})
	if err != nil {
		return err
	}
	defer client.Close()
	show := line
	if o.JSON {
		show = jsonLine
	}
	for event, err := range client.Follow(ctx, changeover.Subscription{AgentID: o.AgentID, After: o.After, OnState: o.connection}) {
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := show(event)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(o.Events, text); err != nil {
			return fmt.Errorf("write an event: %w", err)
		}
	}
	return nil
}

// token is nil when there is none.
func (o Options) token() func(context.Context) (string, error) {
	switch {
	case o.TokenFile != "":
		return func(context.Context) (string, error) {
			b, err := os.ReadFile(o.TokenFile)
			return string(bytes.TrimSpace(b)), err
		}
	case o.Token != "":
		return func(context.Context) (string, error) { return o.Token, nil }
	}
	return nil
}

// connection tells of the connection. Connecting is told only by what comes of it.
func (o Options) connection(s changeover.State) {
	switch s.Phase {
	case changeover.Open:
		fmt.Fprintf(o.Connection, "watching %s\n", s.Endpoint)
	case changeover.Polling:
		fmt.Fprintf(o.Connection, "watching %s by polls: something on the way blocks streams\n", s.Endpoint)
	case changeover.Waiting:
		fmt.Fprintf(o.Connection, "not connected: %v; next attempt in %.1f s\n", s.Reason, s.Wait.Seconds())
	case changeover.Closed:
		if s.Reason == nil || errors.Is(s.Reason, context.Canceled) {
			fmt.Fprintln(o.Connection, "closed")
		}
	}
}

// jsonLine has the form of the history's items: {"id":…,"event":…,"data":…}.
func jsonLine(e changeover.Event) (string, error) {
	b, err := json.Marshal(struct {
		ID    string               `json:"id"`
		Event changeover.EventType `json:"event"`
		Data  json.RawMessage      `json:"data"`
	}{e.ID, e.Type, e.Data})
	return string(b), err
}

// line says an event in a line: time, agent, name, and what matters of it.
func line(e changeover.Event) (string, error) {
	detail, err := detail(e)
	if err != nil {
		return "", err
	}
	agent := e.AgentID
	if agent == "" {
		agent = "all agents"
	}
	return strings.TrimRight(fmt.Sprintf("%s  %-36s  %-22s  %s", e.Time.Local().Format("15:04:05.000"), agent, e.Type, detail), " "), nil
}

func detail(e changeover.Event) (string, error) {
	switch e.Type {
	case changeover.Snapshot:
		d, err := changeover.Data[rest.SnapshotData](e)
		text := string(d.State)
		if d.ActiveRegion != nil {
			text += " in " + *d.ActiveRegion
		}
		if d.NextActiveRegion != nil {
			text += ", goes to " + *d.NextActiveRegion
		}
		if len(d.ContactIds) > 0 {
			text += ", held by " + strings.Join(d.ContactIds, ", ")
		}
		if d.Paused != nil {
			text += fmt.Sprintf(", not before %s: %s", d.Paused.Until.Local().Format("15:04:05"), d.Paused.Reason)
		}
		for _, c := range d.ConfigureErrors {
			text += ", " + string(c.Code)
		}
		return text, err
	case changeover.FailoverDetected:
		d, err := changeover.Data[rest.FailoverDetectedData](e)
		return "goes to " + d.NextActiveRegion, err
	case changeover.FailoverPending, changeover.FailoverPendingUpdated:
		d, err := changeover.Data[rest.FailoverPendingData](e)
		return "goes to " + d.NextActiveRegion + ", held by " + strings.Join(d.ContactIds, ", "), err
	case changeover.FailoverCompleted:
		d, err := changeover.Data[rest.FailoverCompletedData](e)
		return fmt.Sprintf("works in %s now (%s)", d.ActiveRegion, d.Evidence), err
	case changeover.FailoverCancelled:
		d, err := changeover.Data[rest.FailoverCancelledData](e)
		return fmt.Sprintf("stays in %s", d.ActiveRegion), err
	case changeover.FailoverStalled:
		d, err := changeover.Data[rest.FailoverStalledData](e)
		if d.ActiveRegion == nil {
			return "is seen in neither Region", err
		}
		return "is seen in " + *d.ActiveRegion + " instead", err
	case changeover.FailoverPaused:
		d, err := changeover.Data[rest.FailoverPausedData](e)
		return fmt.Sprintf("does not go to %s before %s: %s", d.NextActiveRegion, d.Until.Local().Format("15:04:05"), d.Reason), err
	case changeover.FailoverResumed:
		d, err := changeover.Data[rest.FailoverResumedData](e)
		return "goes to " + d.NextActiveRegion, err
	case changeover.DrillDetected, changeover.DrillPending, changeover.DrillCompleted, changeover.DrillCancelled:
		return "a drill: nothing real has happened", nil
	case changeover.ConfigureError:
		d, err := changeover.Data[rest.ConfigureErrorData](e)
		return fmt.Sprintf("%s: %s", d.Code, d.Message), err
	case changeover.ConfigureErrorCleared:
		d, err := changeover.Data[rest.ConfigureErrorClearedData](e)
		return string(d.Code), err
	case changeover.Reset:
		d, err := changeover.Data[rest.ResetData](e)
		return d.Reason + ": what was shown may be incomplete", err
	}
	return string(e.Data), nil // of a newer service
}
