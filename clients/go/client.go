package changeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"changeover/clients/go/rest"
)

// Options are what a Client needs to know.
type Options struct {
	// Endpoints are base addresses of the service, such as https://changeover.example.com: at least one. The first that works is used
	// until it fails.
	Endpoints []string
	// Token gives the bearer token for a request; it is asked for each one, so it should keep a token as long as that is good. Nil: requests
	// go without, for a service whose auth.mode is none.
	Token func(context.Context) (string, error)
	// HTTPClient makes the requests; redirects are not followed, whatever it says. It must not have a Timeout, which would end streams.
	// Nil: one of the Client's own.
	HTTPClient *http.Client
	// Heartbeat is the service's stream.heartbeat. A stream that is silent for more than twice as long counts as dead. Default: 15 s, as
	// the service's.
	Heartbeat time.Duration
}

// connectTimeout is for the head of an answer of a stream, which the service sends at once.
const connectTimeout = 10 * time.Second

// Client calls one deployment of Changeover, by one or several addresses. Its methods may be called from any goroutine.
type Client struct {
	endpoints []*url.URL
	current   atomic.Int32 // the endpoint that worked last
	token     func(context.Context) (string, error)
	http      *http.Client
	silence   time.Duration
	rest      *rest.ClientWithResponses
}

// New makes a client; nothing is called yet. The error says which option is wrong.
func New(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("endpoints: expected at least one address")
	}
	c := &Client{token: o.Token, http: o.HTTPClient}
	for _, endpoint := range o.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("endpoint %q: expected an address such as https://changeover.example.com", endpoint)
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		c.endpoints = append(c.endpoints, u)
	}
	if o.Heartbeat < 0 {
		return nil, fmt.Errorf("heartbeat %v: expected a positive duration", o.Heartbeat)
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	c.silence = 2*o.Heartbeat + o.Heartbeat/2 // the second heartbeat may be on its way
	if c.http == nil {
		c.http = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	// The service never sends anybody elsewhere; whoever does would be brought the token, in the clear too.
	own := *c.http
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &own
	if c.http.Timeout != 0 {
		return nil, fmt.Errorf("HTTPClient.Timeout %v: expected none, it would end streams", c.http.Timeout)
	}
	var err error
	c.rest, err = rest.NewClientWithResponses(c.endpoints[0].String(), rest.WithHTTPClient(doer{c}))
	return c, err
}

// REST is the generated client of the REST API, with the endpoints and the token of c. A request that did not reach an endpoint, and
// one that reads and was answered 502, 503 or 504 or not at all, is sent to the next. Set a deadline by the context.
func (c *Client) REST() *rest.ClientWithResponses { return c.rest }

// Close closes idle connections. Streams end by their contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// doer sends the requests of the generated client.
type doer struct{ *Client }

func (d doer) Do(r *http.Request) (*http.Response, error) {
	token, err := d.bearer(r.Context())
	if err != nil {
		return nil, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), d.endpoints[0].EscapedPath())
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	first := int(d.current.Load())
	for try := 0; ; try++ {
		i := (first + try) % len(d.endpoints)
		last := try == len(d.endpoints)-1
		attempt := r.Clone(r.Context())
		attempt.URL = at(d.endpoints[i], path, r.URL.RawQuery)
		attempt.Host = ""
		if r.GetBody != nil {
			if attempt.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
		answer, err := d.http.Do(attempt)
		switch {
		case err != nil && (last || r.Context().Err() != nil || !reads && !unreached(err)):
			return nil, err
		case err != nil:
		case !last && reads && (answer.StatusCode == 502 || answer.StatusCode == 503 || answer.StatusCode == 504):
			_ = answer.Body.Close()
		default:
			d.current.Store(int32(i))
			return answer, nil
		}
	}
}

// unreached says that no connection was made: nobody has seen the request.
func unreached(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// bearer asks for the token.
func (c *Client) bearer(ctx context.Context) (string, error) {
	if c.token == nil {
		return "", nil
	}
	token, err := c.token(ctx)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	return token, nil
}

// at is a path, escaped, below an endpoint.
func at(endpoint *url.URL, path, query string) *url.URL {
	u := *endpoint
	u.RawPath = endpoint.EscapedPath() + path
	if p, err := url.PathUnescape(u.RawPath); err == nil {
		u.Path = p
	}
	u.RawQuery = query
	return &u
}
