// Package changeover is the client of Changeover for Go services: wallboards, workforce management, whatever has to know which
// agents change over to another Region.
//
//	client, err := changeover.New(changeover.Options{Endpoints: []string{"https://changeover.example.com"}, Token: token})
//	…
//	for event, err := range client.Follow(ctx, changeover.Subscription{}) { // of all agents
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.Type, event.AgentID)
//	}
//
// [Client.Follow] reads an event stream for as long as its context lives, over every interruption: it resumes by cursor, so that each
// event comes once and in the order of the log, waits between attempts as the server asks (`retry:`, Retry-After) or, with
// jitter, ever longer, and changes over to the next endpoint when one fails or is silent. Where something on the way blocks streams it polls, and tries
// streams again after a minute, later less often. The events are described in docs/events.md.
// [Client.REST] is the generated client of everything else, package rest.
//
// The stream is not read with the client of r3labs/sse, which the service itself uses for writing. That client (v2.10.0) stops for good
// when a server ends a stream in good order, as ours does when it drains; gives up after fifteen minutes without one; takes the
// half of a frame that a broken connection leaves for an event; ignores `retry:`, Retry-After and comments, so that neither an
// overloaded server is heard nor a silent one noticed; and tries a refused token for ever.
package changeover
