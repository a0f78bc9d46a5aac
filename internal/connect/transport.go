package connect

import (
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// dialTimeout bounds the connection attempt: a Region whose network swallows packets is told from a slow one quickly.
const dialTimeout = 2 * time.Second

// httpClients returns the client to load the AWS configuration with, and what makes the one for the requests of it: loading
// applies AWS_CA_BUNDLE, and can do so to the SDK's own type only.
func httpClients(o Options) (base aws.HTTPClient, finish func(loaded aws.HTTPClient) aws.HTTPClient) {
	client := &http.Client{
		Timeout: o.RequestTimeout,
		// Amazon Connect does not redirect; whoever does is not given the signed request.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if o.Transport != nil {
		client.Transport = plainBody{o.Transport}
		return client, func(aws.HTTPClient) aws.HTTPClient { return client }
	}
	buildable := awshttp.NewBuildableClient().
		WithTimeout(o.RequestTimeout).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			// An HTTP/1 connection ends with the request that times out on it. An HTTP/2 connection whose peer
			// has vanished would go on being used for minutes after the Region's recovery.
			t.ForceAttemptHTTP2 = false
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP1(true)
		})
	return buildable, func(loaded aws.HTTPClient) aws.HTTPClient {
		if b, ok := loaded.(*awshttp.BuildableClient); ok {
			client.Transport = plainBody{b.GetTransport()}
		}
		return client
	}
}

// plainBody hides WriteTo of the SDK's request bodies. With it net/http copies a body in one call that goes on while the
// SDK, whose request was answered already, closes it; the connection then breaks with "use of closed network
// connection" in the middle of a good answer.
type plainBody struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t plainBody) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil && req.Body != http.NoBody {
		req = req.WithContext(req.Context()) // a copy: a RoundTripper must not change its request
		req.Body = struct{ io.ReadCloser }{req.Body}
	}
	return t.next.RoundTrip(req)
}

// CloseIdleConnections lets [http.Client.CloseIdleConnections] through.
func (t plainBody) CloseIdleConnections() {
	if closer, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}
