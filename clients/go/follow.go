package changeover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"changeover/clients/go/rest"
)

// Subscription says what to follow.
type Subscription struct {
	// AgentID is the Connect user id of the agent to follow. Empty: all agents, for which the role viewer is needed.
	AgentID string
	// After is the cursor of the last event that was handled, [Event.ID]. Empty: the stream begins with a snapshot of each agent.
	After string
	// OnState, if not nil, is told of every change of the connection, from the goroutine that reads the events.
	OnState func(State)
}

// Phase is what a connection does.
type Phase string

// The phases.
const (
	Connecting Phase = "connecting"
	Open       Phase = "open"
	Waiting    Phase = "waiting" // until the next attempt
	Closed     Phase = "closed"  // for good
)

// State is what became of the connection of a stream.
type State struct {
	Phase    Phase
	Endpoint string        // the one that is meant
	Reason   error         // why it waits or is closed; nil otherwise, and when the caller ended it
	Wait     time.Duration // when it waits: for so long
}

// Errors that end a stream wrap one of these, or are those of the context.
var (
	// ErrUnauthenticated says that the token is not accepted, and that there is no other.
	ErrUnauthenticated = errors.New("the token is not accepted")
	// ErrRefused says that the request will never be answered: a wrong id, a missing role, an agent who may not be seen.
	ErrRefused = errors.New("the service refuses the stream")
)

// Why a connection ended.
var (
	errSilent = errors.New("silent for more than two heartbeats")
	errSlow   = errors.New("no answer")
	errEnded  = errors.New("the server ended the stream")
)

// Waits between attempts. The first attempt at each endpoint is made at once; then these, where the server does not ask for another.
const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// rememberIDs is how many events are remembered to drop what comes twice: more than a server sends before it knows that a
// connection is broken.
const rememberIDs = 1024

// Follow gives the events of a subscription in the order of the log, each once, until ctx ends, the loop is left, or nothing can
// come any more. Then, unless the loop was left, the last pair has the error and no event: ctx.Err(), or one that wraps
// [ErrUnauthenticated] or [ErrRefused]. Everything else is tried again. To go on later, in this process or the next, pass the ID
// of the last event that was handled as After.
//
// The loop's body holds the stream up: one that takes longer than the service's stream.writeTimeout to come back costs a
// reconnection, and no event.
func (c *Client) Follow(ctx context.Context, s Subscription) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := &follower{Client: c, s: s, after: s.After, seen: make(map[string]struct{}, rememberIDs), yield: yield}
		err := f.run(ctx)
		f.tell(State{Phase: Closed, Endpoint: f.endpoint().String(), Reason: err})
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// follower is one loop over a stream.
type follower struct {
	*Client
	s        Subscription
	after    string
	seen     map[string]struct{}
	ring     []string // what is in seen, oldest at place
	place    int
	yield    func(Event, error) bool
	failures int           // attempts since the last event or heartbeat
	retry    time.Duration // what the server asked for last
	refused  string        // a token that was not accepted…
	refusal  error         // …and how that was said
}

func (f *follower) endpoint() *url.URL { return f.endpoints[f.current.Load()] }

func (f *follower) tell(s State) {
	if f.s.OnState != nil {
		f.s.OnState(s)
	}
}

// errLeft ends run when the loop was left.
var errLeft = errors.New("left")

func (f *follower) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := f.connect(ctx)
		switch {
		case errors.Is(err, errLeft):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrRefused):
			return err
		}
		wait := f.backoff(err)
		f.tell(State{Phase: Waiting, Endpoint: f.endpoint().String(), Reason: err, Wait: wait})
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// backoff says how long to wait after a connection has ended, and takes the next endpoint unless this one ended it in good order.
func (f *follower) backoff(err error) time.Duration {
	ended := errors.Is(err, errEnded)
	if !ended {
		f.current.Store((f.current.Load() + 1) % int32(len(f.endpoints)))
	}
	f.failures++
	wait := time.Duration(0)
	if ended || f.failures%len(f.endpoints) == 0 { // all were tried
		ceiling := min(firstBackoff<<min((f.failures-1)/len(f.endpoints), 10), maxBackoff)
		wait = max(ceiling/2+rand.N(ceiling/2), f.retry) // the server spreads its clients by itself
	}
	var asked *retryAfter
	if errors.As(err, &asked) && asked.wait > wait {
		wait = asked.wait + rand.N(asked.wait/4+1) // everybody was told the same
	}
	return wait
}

// retryAfter is an answer other than 200 that may be another one next time.
type retryAfter struct {
	status int
	detail string
	wait   time.Duration // 0: not said
}

func (e *retryAfter) Error() string { return fmt.Sprintf("HTTP %d: %s", e.status, e.detail) }

// connect reads one connection to its end, which the error tells.
func (f *follower) connect(ctx context.Context) error {
	endpoint := f.endpoint()
	f.tell(State{Phase: Connecting, Endpoint: endpoint.String()})
	token, err := f.bearer(ctx)
	if err != nil {
		return err
	}
	if f.refused != "" && token == f.refused {
		return fmt.Errorf("%w by %s, and there is no other: %w", ErrUnauthenticated, endpoint, f.refusal)
	}
	path := "/v1/events"
	if f.s.AgentID != "" {
		path = "/v1/agents/" + url.PathEscape(f.s.AgentID) + "/events"
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := (&http.Request{Method: http.MethodGet, URL: at(endpoint, path, ""), Header: http.Header{"Accept": {"text/event-stream"}}}).WithContext(ctx)
	if f.after != "" {
		r.Header.Set("Last-Event-ID", f.after)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	guard := time.AfterFunc(connectTimeout, func() { cancel(errSlow) })
	answer, err := f.http.Do(r)
	guard.Stop()
	if err != nil {
		var call *url.Error
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else if errors.As(err, &call) {
			err = call.Err // without the address once more
		}
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	defer answer.Body.Close()
	if err := f.accept(answer, endpoint, token); err != nil {
		return err
	}
	f.refused = ""
	f.tell(State{Phase: Open, Endpoint: endpoint.String()})
	err = f.read(&watched{body: answer.Body, silence: f.silence, cancel: cancel})
	if errors.Is(err, errLeft) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil { // why the body could not be read
		err = cause
	}
	return fmt.Errorf("%s: %w", endpoint, err)
}

// accept judges the head of an answer.
func (f *follower) accept(answer *http.Response, endpoint *url.URL, token string) error {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if answer.StatusCode == http.StatusOK {
		if kind != "text/event-stream" {
			return &retryAfter{200, fmt.Sprintf("%s answers with %q instead of a stream: is that Changeover?", endpoint, kind), 0}
		}
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10)) // what was read is told
	detail := http.StatusText(answer.StatusCode)
	if p := (rest.Problem{}); json.Unmarshal(body, &p) == nil && p.Detail != "" {
		detail = p.Detail
	}
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized:
		if f.token == nil {
			return fmt.Errorf("%w by %s: %s", ErrUnauthenticated, endpoint, detail)
		}
		f.refused, f.refusal = token, errors.New(detail)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
	default:
		return fmt.Errorf("%w: %s: HTTP %d: %s", ErrRefused, endpoint, code, detail)
	}
	return &retryAfter{answer.StatusCode, detail, waitOf(answer.Header)}
}

// waitOf reads Retry-After: seconds or a date.
func waitOf(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// read yields the events of a connection.
func (f *follower) read(body io.Reader) error {
	stream := newFrames(body)
	for {
		frame, err := stream.next()
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return err
		}
		if frame.retry > 0 {
			f.retry = frame.retry
		} else { // more than the first frame: it works
			f.failures = 0
		}
		if frame.data == nil {
			continue
		}
		event, err := newEvent(frame)
		if err != nil {
			return err
		}
		if event.Type != draining && !f.twice(event) && !f.yield(event, nil) {
			return errLeft
		}
		if event.ID != "" {
			f.after = event.ID
		}
	}
}

// twice says whether an event has been given already. A snapshot or a reset is no event of the log: its id says where the log goes on.
func (f *follower) twice(e Event) bool {
	if e.ID == "" || e.Type == Snapshot || e.Type == Reset {
		return false
	}
	if _, ok := f.seen[e.ID]; ok {
		return true
	}
	f.seen[e.ID] = struct{}{}
	if len(f.ring) < rememberIDs {
		f.ring = append(f.ring, e.ID)
		return false
	}
	delete(f.seen, f.ring[f.place])
	f.ring[f.place] = e.ID
	f.place = (f.place + 1) % rememberIDs
	return false
}

// watched is a body of which each read that takes too long ends the connection. The time in between, which is the reader's, does not count.
type watched struct {
	body    io.Reader
	silence time.Duration
	cancel  context.CancelCauseFunc
}

func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(w.silence, func() { w.cancel(errSilent) })
	defer timer.Stop()
	return w.body.Read(p)
}
