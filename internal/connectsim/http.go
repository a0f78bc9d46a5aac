package connectsim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// reply is what a request gets: an answer, or none.
type reply struct {
	abort  abort
	status int
	header http.Header
	body   []byte
	errTyp string
}

// abort says how a request ends without an answer.
type abort int

const (
	answered abort = iota
	hung           // the client gave up
	reset
	refused
)

// Error is an error as Amazon Connect sends it.
type Error struct {
	Status  int    // of HTTP
	Type    string // such as InvalidRequestException
	Message string
	members map[string]any // besides the message
}

// Error gives the type and the message.
func (e *Error) Error() string { return e.Type + ": " + e.Message }

func invalidRequest(msg string) *Error {
	return &Error{Status: http.StatusBadRequest, Type: "InvalidRequestException", Message: msg}
}
func invalidParameter(msg string) *Error {
	return &Error{Status: http.StatusBadRequest, Type: "InvalidParameterException", Message: msg}
}
func notFound(msg string) *Error {
	return &Error{Status: http.StatusNotFound, Type: "ResourceNotFoundException", Message: msg}
}
func conflict(msg string) *Error {
	return &Error{Status: http.StatusConflict, Type: "ResourceConflictException", Message: msg}
}
func throttled() *Error {
	return &Error{Status: http.StatusTooManyRequests, Type: "ThrottlingException", Message: "Rate exceeded"}
}
func denied(operation string) *Error {
	return &Error{
		Status: http.StatusForbidden, Type: "AccessDeniedException",
		Message: "User: arn:aws:sts::111122223333:assumed-role/changeover/session is not authorized to perform: connect:" + operation,
	}
}

func (e *Error) reply() reply {
	body := map[string]any{"Message": e.Message}
	for k, v := range e.members {
		body[k] = v
	}
	r := jsonReply(e.Status, body)
	r.header.Set("x-amzn-ErrorType", e.Type)
	r.errTyp = e.Type
	return r
}

// jsonReply is an answer with a JSON body. What is encoded is the simulator's own: it cannot fail.
func jsonReply(status int, v any) reply {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return reply{status: status, header: http.Header{"Content-Type": {"application/json"}}, body: b}
}

const unavailablePage = "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n" +
	"<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n"

func unavailable() reply {
	return reply{status: http.StatusServiceUnavailable, header: http.Header{"Content-Type": {"text/html"}}, body: []byte(unavailablePage)}
}

var credentialPattern = regexp.MustCompile(`Credential=[^/,\s]+/[0-9]{8}/([^/,\s]+)/([^/,\s]+)/aws4_request`)

// regionOf reads the Region that a request was signed for. The signature itself is not checked: the simulator has no
// secrets.
func (s *Sim) regionOf(r *http.Request) (int, *Error) {
	auth := r.Header.Get("Authorization")
	if auth == "" {
		return 0, &Error{Status: http.StatusForbidden, Type: "MissingAuthenticationTokenException", Message: "Missing Authentication Token"}
	}
	bad := func(msg string) (int, *Error) {
		return 0, &Error{Status: http.StatusForbidden, Type: "InvalidSignatureException", Message: msg}
	}
	m := credentialPattern.FindStringSubmatch(auth)
	if m == nil || !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 ") {
		return bad("Authorization header requires an AWS4-HMAC-SHA256 credential scope.")
	}
	if m[2] != "connect" {
		return bad("Credential should be scoped to correct service: 'connect'.")
	}
	i := s.regionIndex(m[1])
	if i < 0 {
		return bad("Credential should be scoped to a valid region.")
	}
	return i, nil
}

// request is a request as an operation sees it.
type request struct {
	region int
	fault  Fault // under which it was answered
	op     *operation
	label  map[string]string
	query  url.Values
	body   []byte
	busy   []string // see Call
}

// respond decides what a request gets. It waits as long as an answer takes, or until ctx ends.
func (s *Sim) respond(ctx context.Context, r *http.Request) reply {
	req, rep := s.route(r)
	call := Call{At: time.Now(), Path: r.URL.EscapedPath(), Query: r.URL.RawQuery}
	if req != nil {
		call.Region, call.Operation = s.cfg.Regions[req.region], req.op.name
		call.Body = string(req.body[:min(len(req.body), 2000)])
		rep = s.answer(ctx, req)
	}
	call.Status, call.Error = rep.status, rep.errTyp
	if req != nil {
		call.Busy = req.busy
	}
	s.record(call)
	if rep.abort == answered {
		rep.header.Set("x-amzn-RequestId", uuid.NewString())
	}
	if s.observe != nil && req != nil {
		s.observe(req, rep)
	}
	return rep
}

// route finds the Region and the operation of a request; nil with the answer if there is none.
func (s *Sim) route(r *http.Request) (*request, reply) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, 1<<20)); err != nil {
			return nil, (&Error{Status: http.StatusBadRequest, Type: "SerializationException", Message: "the body cannot be read"}).reply()
		}
	}
	region, apiErr := s.regionOf(r)
	if apiErr != nil {
		return nil, apiErr.reply()
	}
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i := range s.ops {
		op := &s.ops[i]
		if label, ok := op.match(r.Method, segments); ok {
			return &request{region: region, op: op, label: label, query: r.URL.Query(), body: body}, reply{}
		}
	}
	return nil, (&Error{Status: http.StatusNotFound, Type: "UnknownOperationException", Message: "no operation of the simulator has this method and path"}).reply()
}

// match compares the escaped segments of a path, so that an ARN that came as one segment stays one.
func (o *operation) match(method string, segments []string) (map[string]string, bool) {
	if method != o.method || len(segments) != len(o.segments) {
		return nil, false
	}
	var label map[string]string
	for i, want := range o.segments {
		if name, ok := strings.CutPrefix(want, "{"); ok {
			v, err := url.PathUnescape(segments[i])
			if err != nil || v == "" {
				return nil, false
			}
			if label == nil {
				label = make(map[string]string, 2)
			}
			label[strings.TrimSuffix(name, "}")] = v
			continue
		}
		if segments[i] != want {
			return nil, false
		}
	}
	return label, true
}

// answer runs an operation under the conditions that are set.
func (s *Sim) answer(ctx context.Context, req *request) reply {
	down, fault, latency := s.conditions(req.region, req.op.name)
	req.fault = fault
	if down == DownRefuse {
		return reply{abort: refused}
	}
	if down == DownHang || down == Up && fault == FaultHang {
		<-ctx.Done()
		return reply{abort: hung}
	}
	if latency > 0 {
		t := time.NewTimer(latency)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return reply{abort: hung}
		case <-t.C:
		}
		if down, _, _ = s.conditions(req.region, req.op.name); down == DownRefuse { // the Region went down meanwhile
			return reply{abort: reset}
		}
	}
	if down == DownHang {
		<-ctx.Done()
		return reply{abort: hung}
	}
	if down == DownUnavailable {
		return unavailable()
	}
	switch fault {
	case FaultReset:
		return reply{abort: reset}
	case FaultInternal:
		return (&Error{Status: http.StatusInternalServerError, Type: "InternalServiceException", Message: "Request processing failed because of an error or failure with the service."}).reply()
	case FaultUnavailable:
		return unavailable()
	case FaultThrottled:
		return throttled().reply()
	case FaultTooMany:
		return (&Error{Status: http.StatusTooManyRequests, Type: "TooManyRequestsException", Message: "Rate exceeded"}).reply()
	case FaultThrottledBare:
		return jsonReply(http.StatusTooManyRequests, map[string]string{"message": "Too Many Requests"})
	case FaultDenied:
		return denied(req.op.name).reply()
	case FaultNotFound:
		if req.op.no404 {
			return invalidRequest("The specified resource was not found.").reply()
		}
		return notFound("The specified resource was not found.").reply()
	}
	s.lock()
	if !s.admit(req.region, req.op.name, s.now) {
		s.mu.Unlock()
		return throttled().reply()
	}
	out, err := req.op.run(s, req, fault == FaultEmptyPages)
	s.mu.Unlock()
	if err != nil {
		var api *Error
		if !errors.As(err, &api) {
			panic(err) // operations know no other errors
		}
		return api.reply()
	}
	rep := jsonReply(http.StatusOK, out)
	switch fault {
	case FaultTruncated:
		rep.body = rep.body[:len(rep.body)/2]
	case FaultMissingList, FaultNullList, FaultUnknownMembers:
		rep.body = spoil(rep.body, req.op.lists, fault)
	}
	return rep
}

// spoil takes the lists out of an answer, or adds what nobody knows yet.
func spoil(body []byte, lists []string, f Fault) []byte {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		panic(err) // the simulator wrote it
	}
	for _, l := range lists {
		switch f {
		case FaultMissingList:
			delete(m, l)
		case FaultNullList:
			m[l] = json.RawMessage("null")
		}
	}
	if f == FaultUnknownMembers {
		m["FromTheFuture"] = json.RawMessage(`{"Level":[1,{"Deep":null}]}`)
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	if f == FaultUnknownMembers {
		b = bytes.ReplaceAll(b, []byte(`"AgentContactState":"CONNECTED"`), []byte(`"AgentContactState":"CONNECTED_ELSEWHERE","Mood":"fine"`))
	}
	return b
}

// serveHTTP is the handler for real connections.
func (s *Sim) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/_control/") {
		s.control.ServeHTTP(w, r)
		return
	}
	rep := s.respond(r.Context(), r)
	if rep.abort != answered {
		drop(w)
		return
	}
	h := w.Header()
	for k, v := range rep.header {
		h[k] = v
	}
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	w.WriteHeader(rep.status)
	_, _ = w.Write(rep.body) // a client that went away is its own affair
}

// drop resets the connection.
func drop(w http.ResponseWriter) {
	if hj, ok := w.(http.Hijacker); ok {
		if conn, _, err := hj.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // RST instead of FIN
			}
			_ = conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// Transport calls the simulator in process, without sockets, for clients in testing/synctest bubbles. It obeys the
// context of the request; resets, refused connections and hangs look as they do over TCP. It serves Amazon Connect's
// operations, not the control API.
func (s *Sim) Transport() http.RoundTripper { return transport{s} }

type transport struct{ sim *Sim }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rep := t.sim.respond(ctx, r)
	switch rep.abort {
	case hung:
		return nil, ctx.Err()
	case reset:
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	case refused:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	rep.header.Set("Content-Length", strconv.Itoa(len(rep.body)))
	return &http.Response{
		Status: strconv.Itoa(rep.status) + " " + http.StatusText(rep.status), StatusCode: rep.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: rep.header,
		Body: io.NopCloser(bytes.NewReader(rep.body)), ContentLength: int64(len(rep.body)), Request: r,
	}, nil
}
