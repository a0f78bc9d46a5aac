package connect

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// dialTimeout bounds the connection attempt: a Region whose network swallows packets is told from a slow one quickly.
const dialTimeout = 2 * time.Second

// buildableClient is what the AWS configuration is loaded with: AWS_CA_BUNDLE can only be applied to the SDK's own type.
func buildableClient(o Options) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithTimeout(o.RequestTimeout).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			// An HTTP/1 connection ends with the request that times out on it. An HTTP/2 connection whose peer
			// has vanished would go on being used for minutes after the Region's recovery.
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP1(true)
			// The SDK has prepared its transport for HTTP/2 already; the server must not be offered it either.
			t.ForceAttemptHTTP2 = false
			t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			t.TLSClientConfig.NextProtos = nil
		})
}

// httpClient is what the Region's requests are made with; loaded is the client of the loaded AWS configuration.
func httpClient(o Options, loaded aws.HTTPClient) (*http.Client, error) {
	next := o.Transport
	if next == nil {
		b, ok := loaded.(*awshttp.BuildableClient)
		if !ok {
			return nil, fmt.Errorf("the AWS configuration brings an HTTP client of type %T", loaded)
		}
		next = b.GetTransport()
	}
	return &http.Client{
		Transport: plainBody{next},
		// Requests end by their contexts; this ends the renewal of credentials, which goes on when its request has ended.
		Timeout: o.RequestTimeout + time.Second,
		// Amazon Connect does not redirect; whoever does is not given the signed request.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
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
