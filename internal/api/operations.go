package api

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"

	document "changeover/api"
	"changeover/internal/api/auth"
)

// operation is what the document says of one method of one path, taken apart once at the start.
type operation struct {
	id      string
	pattern string
	public  bool // it needs no identity
	// roles may call it; auth.Agent among them means: an agent about itself. It is the document's x-roles, and there is no
	// other table of permissions.
	roles      []auth.Role
	params     []*openapi3.Parameter
	query      map[string]*openapi3.Parameter
	body       *openapi3.Schema // nil: it takes none
	idempotent bool             // it takes an Idempotency-Key, and so it is a mutation
	streams    bool             // it can answer with an event stream
}

// probe says whether the operation is asked by what keeps the process alive: whoever floods the service from the address of a
// node, behind which desktops and kubelet look alike, must not get it killed. No operation (nil) is none.
func (op *operation) probe() bool { return op != nil && (op.id == "livez" || op.id == "readyz") }

// loadOperations reads the embedded document: operations by method and pattern. That takes tens of milliseconds, once for all servers; nobody may change
// what it returns.
var loadOperations = sync.OnceValues(func() (map[string]*operation, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document.Document)
	if err != nil {
		return nil, fmt.Errorf("load openapi.yaml: %w", err)
	}
	ops := make(map[string]*operation)
	for pattern, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			op := &operation{id: o.OperationID, pattern: pattern, query: make(map[string]*openapi3.Parameter)}
			op.public = o.Security != nil && len(*o.Security) == 0
			roles, ok := o.Extensions["x-roles"].([]any)
			if !ok {
				return nil, fmt.Errorf("openapi.yaml: %s %s has no x-roles", method, pattern)
			}
			for _, r := range roles {
				role := auth.Role(fmt.Sprint(r))
				if !slices.Contains([]auth.Role{auth.Agent, auth.Viewer, auth.Operator, auth.Admin}, role) {
					return nil, fmt.Errorf("openapi.yaml: %s %s: unknown role %q in x-roles", method, pattern, role)
				}
				op.roles = append(op.roles, role)
			}
			if op.public != (len(op.roles) == 0) {
				return nil, fmt.Errorf("openapi.yaml: %s %s: x-roles must be empty exactly where security is", method, pattern)
			}
			for _, ref := range o.Parameters {
				p := ref.Value
				op.params = append(op.params, p)
				switch {
				case p.In == openapi3.ParameterInQuery:
					op.query[p.Name] = p
				case p.In == openapi3.ParameterInHeader && p.Name == headerIdempotencyKey:
					op.idempotent = true
				}
			}
			if ok := o.Responses.Status(http.StatusOK); ok != nil {
				op.streams = ok.Value.Content.Get(mediaStream) != nil && ok.Value.Content[mediaStream] != nil
			}
			if o.RequestBody != nil {
				op.body = o.RequestBody.Value.Content.Get(mediaJSON).Schema.Value
			}
			ops[method+" "+pattern] = op
		}
	}
	return ops, nil
})

const (
	headerIdempotencyKey = "Idempotency-Key"
	mediaJSON            = "application/json"
	mediaStream          = "text/event-stream"
)

// route finds the operation of a request and its path parameters, unescaped once. The same router serves the request later,
// so that no path is checked as one thing and served as another.
func (s *Server) route(r *http.Request) (*operation, map[string]string, error) {
	path := r.URL.EscapedPath()
	rctx := chi.NewRouteContext()
	pattern := s.mux.Find(rctx, r.Method, path)
	op := s.operations[r.Method+" "+pattern]
	if op == nil {
		var allow []string
		for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPost} {
			if s.mux.Match(chi.NewRouteContext(), method, path) {
				allow = append(allow, method)
			}
		}
		if len(allow) > 0 {
			p := problemf(kindMethod, "This path takes %s.", strings.Join(allow, " and "))
			p.allow = strings.Join(allow, ", ")
			return nil, nil, p
		}
		return nil, nil, problemf(kindNotFound, "There is nothing at this path. /openapi.yaml lists what there is.")
	}
	params := make(map[string]string, len(rctx.URLParams.Keys))
	for i, key := range rctx.URLParams.Keys {
		value, err := url.PathUnescape(rctx.URLParams.Values[i])
		if err != nil {
			return nil, nil, problemf(kindNotFound, "There is nothing at this path. /openapi.yaml lists what there is.")
		}
		params[key] = value
	}
	return op, params, nil
}

// acceptsStream says whether the client asked for an event stream: by name, and not less than for JSON.
func acceptsStream(accept []string) bool {
	var stream, other float64
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			media, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			q := quality(params["q"])
			switch media {
			case mediaStream:
				stream = max(stream, q)
			case mediaJSON:
				other = max(other, q)
			}
		}
	}
	return stream > 0 && stream >= other
}
