package changeover_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	changeover "changeover/clients/go"
	"changeover/clients/go/rest"
)

// A wallboard that says who works where, and goes on where it was when it is started again.
func Example() {
	client, err := changeover.New(changeover.Options{
		Endpoints: []string{"https://changeover-a.example.com", "https://changeover-b.example.com"},
		Token: func(context.Context) (string, error) { // a file that something else keeps fresh
			b, err := os.ReadFile("/var/run/secrets/changeover/token")
			return strings.TrimSpace(string(b)), err
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx := context.Background()
	load, save := func() string { return "" }, func(cursor string) {} // where the next run finds it
	for event, err := range client.Follow(ctx, changeover.Subscription{After: load()}) {
		if errors.Is(err, changeover.ErrUnauthenticated) || errors.Is(err, changeover.ErrRefused) {
			log.Fatal(err) // everything else is tried again, and not told here
		}
		if err != nil {
			return // ctx has ended
		}
		switch event.Type {
		case changeover.Snapshot:
			if s, err := changeover.Data[rest.SnapshotData](event); err == nil && s.ActiveRegion != nil {
				fmt.Println(event.AgentID, "works in", *s.ActiveRegion)
			}
		case changeover.FailoverCompleted:
			if d, err := changeover.Data[rest.FailoverCompletedData](event); err == nil {
				fmt.Println(event.AgentID, "works in", d.ActiveRegion)
			}
		case changeover.Reset:
			fmt.Println("forget everything; snapshots follow")
		}
		save(event.ID) // when the event is handled
	}
}

// Which agents are held by a contact now, by the REST API.
func ExampleClient_REST() {
	client, err := changeover.New(changeover.Options{Endpoints: []string{"http://127.0.0.1:8080"}})
	if err != nil {
		log.Fatal(err)
	}
	pending := rest.FailoverStatusPending
	answer, err := client.REST().ListFailoversWithResponse(context.Background(), &rest.ListFailoversParams{Status: &pending})
	switch {
	case err != nil:
		log.Fatal(err)
	case answer.JSON200 == nil:
		log.Fatal(answer.ApplicationProblemJSONDefault.Detail)
	}
	for _, f := range answer.JSON200.Items {
		fmt.Println(f.AgentID, "is held by", f.ContactIds)
	}
}
