package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/webhook"
)

// Instance is one of the two linked Amazon Connect instances of a failover group.
type Instance struct {
	Region, InstanceID string
	CCPURL             string // empty: not configured
}

// Group is a failover group as it is configured.
type Group struct {
	Name      string
	Routing   failover.Routing
	Instances []Instance // the first is the source
}

// Options of a Server; all are required but those of which it is said otherwise.
type Options struct {
	Store Store
	Hub   Hub
	Auth  auth.Authenticator
	// Sessions makes sessions and lets stream tickets be issued; nil: there are no tokens (auth.mode none).
	Sessions Sessions
	// Limiter refuses who asks too often; nil: nobody does.
	Limiter Limiter
	// Leader is how this replica leads, for /readyz; nil: it says nothing of that.
	Leader func() contract.Check
	// Identified hears of each request whose caller has proved who they are; it may be nil.
	Identified func(context.Context)
	Groups     []Group
	Settings   failover.Settings // of the leader, which plans rest on
	Webhooks   []webhook.Hook
	// MaxPolls is how many long polls may wait at a time, MaxPollsPerAgent how many of them for one agent's events, or as one caller for
	// everybody's; 0: no limit.
	MaxPolls, MaxPollsPerAgent int
	Metrics                    http.Handler // of /metrics; nil: it is 404, because metrics have a port of their own
	Log                        *slog.Logger
}

// Server answers everything of api/openapi.yaml. It is an http.Handler.
type Server struct {
	store      Store
	hub        Hub
	auth       auth.Authenticator
	sessions   Sessions
	limiter    Limiter
	leader     func() contract.Check
	identified func(context.Context)
	groups     map[string]*Group
	settings   failover.Settings
	webhooks   []webhook.Hook
	names      []string // of the groups, sorted
	metrics    http.Handler
	log        *slog.Logger
	mux        *chi.Mux
	operations map[string]*operation // by method and pattern
	polls      *polls
	pace       pace
	health     health
	aliases    aliases
	plans      plans
	draining   atomic.Bool
}

// Deadlines of what a request asks of the store, for a database that accepts connections and does not answer. Where memory has
// the answer too, nobody waits long for the better one.
const (
	storeTimeout  = 8 * time.Second
	memoryTimeout = 2 * time.Second
)

// New makes a Server. An error means that the embedded document and the code do not fit together.
func New(o Options) (*Server, error) {
	s := &Server{
		store: o.Store, hub: o.Hub, auth: o.Auth, sessions: o.Sessions, limiter: o.Limiter, leader: o.Leader, identified: o.Identified, metrics: o.Metrics, log: o.Log,
		groups: make(map[string]*Group, len(o.Groups)), settings: o.Settings, webhooks: o.Webhooks, mux: chi.NewRouter(), polls: newPolls(o.MaxPolls, o.MaxPollsPerAgent),
	}
	for i := range o.Groups {
		g := &o.Groups[i]
		s.groups[g.Name] = g
		s.names = append(s.names, g.Name)
	}
	slices.Sort(s.names)
	var err error
	if s.operations, err = loadOperations(); err != nil {
		return nil, err
	}
	strict := contract.NewStrictHandlerWithOptions(s, nil, contract.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: s.fail, ResponseErrorHandlerFunc: s.fail,
	})
	contract.HandlerWithOptions(strict, contract.ChiServerOptions{BaseRouter: s.mux, ErrorHandlerFunc: s.fail})
	return s, nil
}

// Drain makes /readyz answer 503 from now on, so that no new clients are sent here, and answers the long polls that wait. Everything
// else goes on.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.polls.end()
}

// Polls counts the long polls that wait.
func (s *Server) Polls() int {
	s.polls.mu.Lock()
	defer s.polls.mu.Unlock()
	return s.polls.open
}

// call is what is known of a request while it is answered.
type call struct {
	requestID string
	op        *operation // nil: no such path
	identity  auth.Identity
	request   *http.Request
	body      []byte // as it was sent, and valid; nil: none
}

type callKey struct{}

// callOf returns the call that ServeHTTP began.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

func (c *call) operationID() string {
	if c.op == nil {
		return ""
	}
	return c.op.id
}

// ServeHTTP answers a request: see the package's documentation for the steps.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{requestID: requestID(r)}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	url := *r.URL
	url.RawPath = url.EscapedPath() // so that chi routes the escaped path always, and parameters are unescaped once
	r.URL = &url
	c.request = r

	answer := &response{ResponseWriter: w}
	defer s.recover(answer, r)
	h := answer.Header()
	h.Set("X-Request-Id", c.requestID)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

	op, params, err := s.route(r)
	c.op = op
	if s.limiter != nil && !op.probe() {
		if wait := s.limiter.Wait(r); wait > 0 {
			s.later(answer, r, &problem{kind: kindTooMany, detail: "There are too many requests with this token or from this address.", after: wait})
			return
		}
	}
	if err != nil {
		s.fail(answer, r, err)
		return
	}
	if !op.public {
		if c.identity, err = s.auth.Authenticate(r); err != nil {
			s.later(answer, r, unauthenticated(err))
			return
		}
		if s.identified != nil {
			s.identified(r.Context())
		}
		s.unalias(r, c, params)
		if refused := s.tooMany(c); refused != nil {
			s.fail(answer, r, refused)
			return
		}
		if refused := op.authorise(c.identity, params); refused != nil {
			s.refuseEarly(answer, r, refused)
			return
		}
	}
	body, err := op.readBody(answer, r)
	if err == nil {
		err = op.validate(r, params, body)
	}
	if err != nil {
		s.fail(answer, r, err)
		return
	}
	c.body = body
	r.Body = io.NopCloser(bytes.NewReader(body))
	if key := r.Header.Get(headerIdempotencyKey); op.remembered() && key != "" {
		s.once(answer, r, key, body)
		return
	}
	s.mux.ServeHTTP(answer, r)
}

// later fails a request for a reason that may pass. A stream is then answered so that the client comes back by itself.
func (s *Server) later(w http.ResponseWriter, r *http.Request, p *problem) {
	passes := p.kind == kindTooMany || p.kind == kindUnavailable
	if op := callOf(r.Context()).op; passes && op != nil && op.streams && acceptsStream(r.Header.Values("Accept")) {
		s.hub.Refuse(w, r)
		return
	}
	s.fail(w, r, p)
}

// recover turns a panic into a 500, if nothing was sent yet, and a log entry.
func (s *Server) recover(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	err := fmt.Errorf("panic: %v\n%s", v, debug.Stack())
	if w.wrote {
		s.log.ErrorContext(r.Context(), "request broke off", "request_id", callOf(r.Context()).requestID, "operation", callOf(r.Context()).operationID(), "error", err)
		panic(http.ErrAbortHandler) // the client must not take what it got for the whole
	}
	s.fail(w, r, err)
}

// response remembers whether anything was sent.
type response struct {
	http.ResponseWriter
	wrote bool
}

func (w *response) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController flush, hijack and set deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// requestID returns the caller's id for the request if it is a harmless one, else a new one: it is written into headers, logs
// and the audit trail.
func requestID(r *http.Request) string {
	if ids := r.Header.Values("X-Request-Id"); len(ids) == 1 && validRequestID(ids[0]) {
		return ids[0]
	}
	return uuid.NewString()
}

func validRequestID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
