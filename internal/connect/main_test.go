package connect

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/logtest"
	"changeover/internal/servertest"
)

// Credentials of the tests; no text that is shown or logged may hold them.
const (
	testAccessKey    = "AKIDCHANGEOVERTEST00"
	testSecretKey    = "secret/of+the/tests"
	testSessionToken = "session-token-of-the-tests"
)

const (
	testInstance = "12345678-1234-1234-1234-123456789012"
	testTDG      = "arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/0aaaaaaa-0000-0000-0000-000000000001"
)

func TestMain(m *testing.M) {
	servertest.Environment()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": testAccessKey, "AWS_SECRET_ACCESS_KEY": testSecretKey, "AWS_SESSION_TOKEN": testSessionToken,
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	logtest.Secret(testSecretKey)
	logtest.Secret(testSessionToken)
	logtest.Main(m)
}

// newClient makes a Client with generous limits; change is applied to its options.
func newClient(t testing.TB, change func(*Options)) *Client {
	t.Helper()
	o := Options{Region: "us-west-2", RequestsPerSecond: 1000, Burst: 1000, RequestTimeout: 2 * time.Second, Log: logtest.New(nil)}
	if change != nil {
		change(&o)
	}
	c, err := New(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// serve starts a server on loopback and returns a Client of it.
func serve(t testing.TB, handler http.HandlerFunc, change func(*Options)) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newClient(t, func(o *Options) {
		o.Endpoint = server.URL
		if change != nil {
			change(o)
		}
	})
}

// roundTripper is a transport without a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answer is what a handler would write, as a response.
func answer(req *http.Request, handler http.HandlerFunc) *http.Response {
	w := httptest.NewRecorder()
	handler(w, req)
	res := w.Result()
	res.Request = req
	return res
}

// write answers with a status, an error type in Amazon's header, and a body.
func write(status int, errorType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if errorType != "" {
			w.Header().Set("X-Amzn-ErrorType", errorType)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}
