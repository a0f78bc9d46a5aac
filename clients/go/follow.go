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
	// After is the cursor of the last event that was handled, [Event.ID]. Empty: the stream begins with a snapshot of each agent. Where streams are
	// blocked and the log of all agents is polled, it begins with a Reset alone: list the agents by [Client.REST].
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
	Polling    Phase = "polling" // streams do not get through, so events are asked for; streams are tried again now and then
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
	errSilent  = errors.New("silent for more than two heartbeats")
	errSlow    = errors.New("no answer")
	errEnded   = errors.New("the server ended the stream")
	errThrough = errors.New("streams get through again")
)

// Waits between attempts. The first attempt at each endpoint is made at once; then these, where the server does not ask for another.
const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// Long polls, where something on the way blocks streams.
const (
	pollWait   = 20 * time.Second // proxies give up on silent answers after half a minute
	firstPoll  = time.Second      // only has to show that it gets through
	pollGrace  = 5 * time.Second  // for an answer beyond what it may wait
	pollLimit  = 1000             // events of an answer
	maxPage    = 64 << 20         // bytes, longer than any
	tooQuick   = 250 * time.Millisecond
	firstTrial = time.Minute // until streams are tried again; twice as long each time
	maxTrial   = 15 * time.Minute
	beginning  = time.Second // what comes later after the first byte is not of the beginning of a stream any more
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
		f := &follower{Client: c, s: s, after: s.After, seen: make(map[string]struct{}, rememberIDs), yield: yield, ways: make([]way, len(c.endpoints))}
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
	ways     []way         // to the endpoints
}

// way is what is known of the way to an endpoint.
type way struct {
	blocked  bool // streams do not get through: it is polled
	polled   bool // a poll got through
	silences int  // streams that fell silent right after their beginning, one after the other
	trial    time.Duration
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
		var err error
		if f.ways[f.current.Load()].blocked {
			err = f.poll(ctx)
		} else {
			err = f.connect(ctx)
		}
		switch {
		case errors.Is(err, errLeft):
			return nil
		case errors.Is(err, errThrough):
			continue
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
	endpoint, way := f.endpoint(), &f.ways[f.current.Load()]
	f.tell(State{Phase: Connecting, Endpoint: endpoint.String()})
	token, err := f.proof(ctx, endpoint)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answer, err := f.ask(ctx, cancel, f.streamRequest(ctx, endpoint, token), connectTimeout)
	if err != nil {
		way.blocked = errors.Is(err, errSlow) // a proxy that hands answers on when they are complete does not begin either
		return err
	}
	defer answer.Body.Close()
	if err := f.accept(answer, endpoint, token); err != nil {
		return err
	}
	if !isStream(answer) {
		way.blocked = true
		return &retryAfter{answer.StatusCode, fmt.Sprintf("%s answers with %q instead of a stream: is that Changeover?", endpoint, answer.Header.Get("Content-Type")), 0}
	}
	f.refused = ""
	f.tell(State{Phase: Open, Endpoint: endpoint.String()})
	body := &watched{body: answer.Body, silence: f.silence, cancel: cancel}
	err = f.read(body)
	if errors.Is(err, errLeft) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil { // why the body could not be read
		err = cause
	}
	switch {
	case body.beyond:
		way.silences = 0
	case errors.Is(err, errSilent):
		way.silences++
		way.blocked = way.silences > 1
	}
	return fmt.Errorf("%s: %w", endpoint, err)
}

// proof gets the token. One that was refused is not sent again.
func (f *follower) proof(ctx context.Context, endpoint *url.URL) (string, error) {
	token, err := f.bearer(ctx)
	if err == nil && f.refused != "" && token == f.refused {
		err = fmt.Errorf("%w by %s, and there is no other: %w", ErrUnauthenticated, endpoint, f.refusal)
	}
	return token, err
}

// request is one for the subscription's events.
func (f *follower) request(ctx context.Context, endpoint *url.URL, accept, query, token string) *http.Request {
	path := "/v1/events"
	if f.s.AgentID != "" {
		path = "/v1/agents/" + url.PathEscape(f.s.AgentID) + "/events"
	}
	r := (&http.Request{Method: http.MethodGet, URL: at(endpoint, path, query), Header: http.Header{"Accept": {accept}}}).WithContext(ctx)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func (f *follower) streamRequest(ctx context.Context, endpoint *url.URL, token string) *http.Request {
	r := f.request(ctx, endpoint, "text/event-stream", "", token)
	if f.after != "" {
		r.Header.Set("Last-Event-ID", f.after)
	}
	return r
}

// ask sends a request and waits for the head of its answer.
func (c *Client) ask(ctx context.Context, cancel context.CancelCauseFunc, r *http.Request, patience time.Duration) (*http.Response, error) {
	guard := time.AfterFunc(patience, func() { cancel(errSlow) })
	defer guard.Stop()
	answer, err := c.http.Do(r)
	if err == nil {
		return answer, nil
	}
	var call *url.Error
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if errors.As(err, &call) {
		err = call.Err // without the address once more
	}
	return nil, fmt.Errorf("%s: %w", r.URL.Host, err)
}

func isStream(answer *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	return answer.StatusCode == http.StatusOK && kind == "text/event-stream"
}

// accept judges the status of an answer.
func (f *follower) accept(answer *http.Response, endpoint *url.URL, token string) error {
	if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusNotAcceptable {
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
		if err := f.take(frame); err != nil {
			return err
		}
	}
}

// take yields the event of a frame, unless it was yielded before.
func (f *follower) take(frame frame) error {
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
	return nil
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
	began   time.Time // when the first byte came
	beyond  bool      // something came after the beginning
}

func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(w.silence, func() { w.cancel(errSilent) })
	defer timer.Stop()
	n, err := w.body.Read(p)
	switch {
	case n == 0:
	case w.began.IsZero():
		w.began = time.Now()
	default:
		w.beyond = w.beyond || time.Since(w.began) > beginning
	}
	return n, err
}
