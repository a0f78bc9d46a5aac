// Package apitest holds HTTP traffic in tests against api/openapi.yaml: each response must have a status, a content type, headers
// and a body that the document knows for its operation, and each event of a stream the data of its name.
//
// It is stricter than a client should be: a field that the document does not name is a fault too, because a field that
// nobody described is one that nobody decided to promise.
package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-chi/chi/v5"

	document "changeover/api"
	"changeover/internal/logtest"
)

// spec is the document, closed: unnamed fields are faults.
type spec struct {
	doc    *openapi3.T
	mux    *chi.Mux
	routes map[string]*routers.Route
}

var load = sync.OnceValues(func() (*spec, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	if err != nil {
		return nil, err
	}
	s := &spec{doc: doc, mux: chi.NewRouter(), routes: make(map[string]*routers.Route)}
	closed := make(map[*openapi3.Schema]bool)
	for _, ref := range doc.Components.Schemas {
		closeSchema(ref, closed)
	}
	for pattern, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			s.mux.Method(method, pattern, http.NotFoundHandler())
			s.routes[method+" "+pattern] = &routers.Route{Spec: doc, Path: pattern, PathItem: item, Method: method, Operation: op}
		}
	}
	return s, nil
})

func closeSchema(ref *openapi3.SchemaRef, done map[*openapi3.Schema]bool) {
	if ref == nil || ref.Value == nil || done[ref.Value] {
		return
	}
	s := ref.Value
	done[s] = true
	if len(s.Properties) > 0 && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties.Has = &no
	}
	for _, p := range s.Properties {
		closeSchema(p, done)
	}
	closeSchema(s.Items, done)
	for _, list := range []openapi3.SchemaRefs{s.OneOf, s.AnyOf, s.AllOf} {
		for _, one := range list {
			closeSchema(one, done)
		}
	}
}

// NewTransport returns a RoundTripper that passes requests on to base (nil: http.DefaultTransport) and reports every
// response that does not match the document as an error of the test.
func NewTransport(t testing.TB, base http.RoundTripper) http.RoundTripper {
	t.Helper()
	s, err := load()
	if err != nil {
		t.Fatalf("load openapi.yaml: %v", err)
	}
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{t: t, spec: s, base: base}
}

type transport struct {
	t    testing.TB
	spec *spec
	base http.RoundTripper
}

// Secrets notes the credentials of a request, so that no log may hold them: the token, cookies, and a ticket in the URL (nil: none).
func Secrets(h http.Header, u *url.URL) {
	for _, value := range h.Values("Authorization") {
		_, token, _ := strings.Cut(value, " ")
		secret(token)
	}
	for _, value := range h.Values("Cookie") {
		for pair := range strings.SplitSeq(value, ";") {
			if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.HasPrefix(name, "__Host-") {
				secret(value)
			}
		}
	}
	if u != nil {
		for _, ticket := range u.Query()["ticket"] {
			secret(ticket)
		}
	}
}

// secret leaves out what is too short for a credential that is good.
func secret(s string) {
	if len(s) >= 20 {
		logtest.Secret(s)
	}
}

// RoundTrip implements http.RoundTripper.
func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	Secrets(r.Header, r.URL)
	resp, err := tr.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	Secrets(http.Header{"Cookie": resp.Header["Set-Cookie"]}, nil)
	fault := func(format string, args ...any) {
		tr.t.Errorf("%s %s answered %d: %s", r.Method, r.URL.Path, resp.StatusCode, fmt.Sprintf(format, args...))
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media == "text/event-stream" {
		route := tr.route(r)
		if route == nil || route.Operation.Responses.Value("200") == nil || route.Operation.Responses.Value("200").Value.Content.Get(media) == nil || resp.StatusCode != http.StatusOK {
			fault("an event stream is not what the document says")
		}
		resp.Body = &streamChecker{ReadCloser: resp.Body, t: tr.t}
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var issued struct{ Ticket string }
	if json.Unmarshal(body, &issued) == nil {
		secret(issued.Ticket)
	}
	if err := tr.check(r, resp, media, body); err != nil {
		fault("%v\nbody: %s", err, body)
	}
	return resp, nil
}

func (tr *transport) route(r *http.Request) *routers.Route {
	return tr.spec.routes[r.Method+" "+tr.spec.mux.Find(chi.NewRouteContext(), r.Method, r.URL.EscapedPath())]
}

func (tr *transport) check(r *http.Request, resp *http.Response, media string, body []byte) error {
	if resp.StatusCode >= 400 && media != "application/problem+json" && !(media == "application/json" && r.URL.Path == "/readyz") {
		return fmt.Errorf("an error of type %q instead of a problem", media)
	}
	if media == "application/problem+json" {
		var p struct{ Status int }
		if err := json.Unmarshal(body, &p); err != nil || p.Status != resp.StatusCode {
			return fmt.Errorf("the problem's status is %d", p.Status)
		}
	}
	route := tr.route(r)
	if route == nil { // no such path, or no such method: there is no operation to look it up in, but the shape holds
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			return fmt.Errorf("the document knows no such operation")
		}
		return tr.spec.checkJSON("Problem", body)
	}
	ref := route.Operation.Responses.Status(resp.StatusCode)
	if ref == nil {
		return fmt.Errorf("the document does not have this status for %s", route.Operation.OperationID)
	}
	if len(ref.Value.Content) > 0 && ref.Value.Content.Get(media) == nil {
		return fmt.Errorf("the document does not have the content type %q for %s", media, route.Operation.OperationID)
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true, MultiError: true,
		ExcludeResponseBody: media != "application/json" && media != "application/problem+json",
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: route, Options: options},
		Status:                 resp.StatusCode, Header: resp.Header, Options: options,
	}
	input.SetBodyBytes(body)
	return openapi3filter.ValidateResponse(r.Context(), input)
}

// checkJSON validates a JSON text against a schema of the document.
func (s *spec) checkJSON(schema string, body []byte) error {
	ref := s.doc.Components.Schemas[schema]
	if ref == nil {
		return fmt.Errorf("the document has no schema %s", schema)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return fmt.Errorf("%s: %w", schema, err)
	}
	if err := ref.Value.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.VisitAsResponse(), openapi3.MultiErrors()); err != nil {
		return fmt.Errorf("%s: %w", schema, err)
	}
	return nil
}

// CheckEvent validates the data of an event against the schema of its name.
func CheckEvent(name string, data []byte) error {
	s, err := load()
	if err != nil {
		return err
	}
	if name == "" {
		return fmt.Errorf("an event without a name")
	}
	return s.checkJSON(strings.ToUpper(name[:1])+name[1:]+"Data", data)
}

// streamChecker looks at the frames that pass by.
type streamChecker struct {
	io.ReadCloser
	t       testing.TB
	pending []byte
}

func (c *streamChecker) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.pending = append(c.pending, p[:n]...)
	for {
		frame, rest, ok := bytes.Cut(c.pending, []byte("\n\n"))
		if !ok {
			break
		}
		c.pending = rest
		c.frame(frame)
	}
	return n, err
}

func (c *streamChecker) frame(frame []byte) {
	var name, id string
	var data [][]byte
	for line := range bytes.SplitSeq(frame, []byte("\n")) {
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = string(value)
		case "id":
			id = string(value)
		case "data":
			data = append(data, value)
		case "", "retry":
		default:
			c.t.Errorf("the stream holds the field %q:\n%s", field, frame)
		}
	}
	if data == nil && name == "" && id == "" {
		return // a comment or a retry
	}
	if len(data) != 1 || id == "" {
		c.t.Errorf("a frame must hold an id and one line of data:\n%s", frame)
		return
	}
	if err := CheckEvent(name, data[0]); err != nil {
		c.t.Errorf("event %s: %v\n%s", name, err, frame)
	}
}
