package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

const desktopOrigin, otherOrigin = "https://desktop.example.com", "https://other.example.com:8443"

// answer gives what the front makes of a request; served is how often the handler was asked.
func answer(o Options, r *http.Request) (w *httptest.ResponseRecorder, served int) {
	o.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ })
	w = httptest.NewRecorder()
	newFront(o, o.TrustedProxies).ServeHTTP(w, r)
	return w, served
}

func request(method, url string, header ...string) *http.Request {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func corsOf(h http.Header) http.Header {
	only := http.Header{}
	for name, values := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			only[name] = values
		}
	}
	return only
}

func TestCORSForConfiguredOrigins(t *testing.T) {
	t.Parallel()
	o := Options{AllowedOrigins: []string{desktopOrigin, otherOrigin}}
	for _, origin := range o.AllowedOrigins {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			w, served := answer(o, request(method, "/v1/agents", "Origin", origin))
			require.Equal(t, http.Header{
				"Access-Control-Allow-Origin":      {origin},
				"Access-Control-Allow-Credentials": {"true"},
				"Access-Control-Expose-Headers":    {"Content-Disposition, Location, Retry-After, X-Request-Id"},
			}, corsOf(w.Header()))
			require.Equal(t, "Origin", w.Header().Get("Vary"))
			require.Equal(t, 1, served)
		}
		w, served := answer(o, request(http.MethodOptions, "/v1/failovers/force", "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,idempotency-key,last-event-id,x-request-id"))
		require.Equal(t, http.StatusNoContent, w.Code)
		require.Equal(t, http.Header{
			"Access-Control-Allow-Origin":      {origin},
			"Access-Control-Allow-Credentials": {"true"},
			"Access-Control-Allow-Methods":     {"POST"},
			"Access-Control-Allow-Headers":     {"authorization,content-type,idempotency-key,last-event-id,x-request-id"},
			"Access-Control-Max-Age":           {"7200"},
		}, corsOf(w.Header()))
		require.Contains(t, w.Header().Get("Vary"), "Origin")
		require.Zero(t, served, "a preflight needs no identity and reaches nobody")
	}
}

// Origin spoofing: everything that looks like a configured origin and is another one. A browser must not let such a page read an
// answer, and a cache must not serve it one that was meant for another.
func TestOriginSpoofing(t *testing.T) {
	t.Parallel()
	o := Options{AllowedOrigins: []string{desktopOrigin, otherOrigin}}
	for name, origins := range map[string][]string{
		"none":                     nil,
		"null of a sandbox":        {"null"},
		"empty":                    {""},
		"any":                      {"*"},
		"another host":             {"https://evil.example"},
		"suffix":                   {"https://desktop.example.com.evil.example"},
		"prefix":                   {"https://evildesktop.example.com"},
		"a subdomain":              {"https://evil.desktop.example.com"},
		"the parent domain":        {"https://example.com"},
		"another port":             {"https://desktop.example.com:8443"},
		"no port":                  {"https://other.example.com"},
		"the default port":         {"https://desktop.example.com:443"},
		"plain HTTP":               {"http://desktop.example.com"},
		"capitals":                 {"HTTPS://DESKTOP.EXAMPLE.COM"},
		"a capital":                {"https://Desktop.example.com"},
		"a slash":                  {"https://desktop.example.com/"},
		"a path":                   {"https://desktop.example.com/page"},
		"a user":                   {"https://desktop.example.com@evil.example"},
		"a dot at the end":         {"https://desktop.example.com."},
		"any character for a dot":  {"https://desktopxexample.com"},
		"two in one":               {"https://desktop.example.com https://evil.example"},
		"two with a comma":         {"https://desktop.example.com, https://evil.example"},
		"two lines":                {"https://desktop.example.com", "https://evil.example"},
		"a NUL":                    {"https://desktop.example.com\x00.evil.example"},
		"a line break":             {"https://desktop.example.com\r\nX: y"},
		"an extension":             {"chrome-extension://desktop.example.com"},
		"a file":                   {"file://"},
		"bytes before the host":    {"https://\u200bdesktop.example.com"},
		"both configured in a row": {desktopOrigin, otherOrigin},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			r := request(method, "/v1/agents")
			if origins != nil {
				r.Header["Origin"] = origins
			}
			if method == http.MethodOptions {
				r.Header.Set("Access-Control-Request-Method", "POST")
			}
			w, _ := answer(o, r)
			require.Empty(t, corsOf(w.Header()), "%s %s", method, name)
			require.Contains(t, w.Header().Get("Vary"), "Origin", name)
		}
	}
	// With nothing configured nobody is told anything.
	w, served := answer(Options{}, request(http.MethodOptions, "/v1/agents", "Origin", desktopOrigin, "Access-Control-Request-Method", "GET"))
	require.Empty(t, corsOf(w.Header()))
	require.Equal(t, 1, served, "which the handler refuses like any other unknown method")
}

// Preflight abuse: preflights need no token, so nothing may be had by them: not the handler's work, no memory in an answer, nothing
// that was sent by another than a configured origin, no method or header but those of the contract.
func TestPreflightAbuse(t *testing.T) {
	t.Parallel()
	o := Options{AllowedOrigins: []string{desktopOrigin}}
	preflight := func(header ...string) *httptest.ResponseRecorder {
		w, served := answer(o, request(http.MethodOptions, "/v1/agents", header...))
		require.Zero(t, served)
		require.Empty(t, w.Body.String())
		return w
	}
	for _, method := range []string{"PUT", "PATCH", "TRACE", "CONNECT", "post", "POST\r\nX: y", strings.Repeat("A", 10_000)} {
		require.Empty(t, corsOf(preflight("Origin", desktopOrigin, "Access-Control-Request-Method", method).Header()), method)
	}
	for _, headers := range []string{
		"x-forwarded-for", "authorization,x-evil", "*", "Authorization", "authorization, authorization", strings.Repeat("authorization,", 1000),
		strings.Repeat("a", 30_000), strings.Repeat(",", 30_000), "authorization\r\nx: y",
	} {
		w := preflight("Origin", desktopOrigin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", headers)
		require.Empty(t, corsOf(w.Header()), "%.40s", headers)
	}
	w := preflight("Origin", strings.Repeat("https://evil.example", 1000), "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
	require.Empty(t, corsOf(w.Header()))
	require.Empty(t, w.Header().Get("Access-Control-Allow-Private-Network"))
}

// Clickjacking, sniffing, scripts by injection, leaks by Referer, downgrade to HTTP.
func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	https := "https://changeover.example.com"
	for _, path := range []string{"/v1/agents", "/", "/livez", "/metrics", "/openapi.yaml", "/nothing", "/consolex", "/v1/agents/x/events"} {
		w, _ := answer(Options{FrameAncestors: []string{"https://portal.example.com"}}, request(http.MethodGet, https+path))
		h := w.Header()
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		require.Equal(t, "default-src 'none'; frame-ancestors 'none'", h.Get("Content-Security-Policy"))
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"))
		require.Equal(t, "max-age=31536000", h.Get("Strict-Transport-Security"))
	}
	for _, path := range []string{"/console/", "/console/agents/x", "/console/assets/index.js"} {
		w, _ := answer(Options{}, request(http.MethodGet, https+path))
		csp := w.Header().Get("Content-Security-Policy")
		require.Contains(t, csp, "default-src 'none'; script-src 'self';")
		require.Contains(t, csp, "base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		require.NotContains(t, csp, "unsafe")
		require.NotContains(t, csp, "*")
		w, _ = answer(Options{FrameAncestors: []string{"https://portal.example.com", "https://desktop.example.com"}}, request(http.MethodGet, https+path))
		require.True(t, strings.HasSuffix(w.Header().Get("Content-Security-Policy"), "; frame-ancestors https://portal.example.com https://desktop.example.com"))
	}
}

func TestHSTSOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"https://changeover.example.com/": true, "https://changeover.example.com:8443/": true,
		"http://changeover.example.com/": false, "https://localhost:8443/": false, "https://app.localhost/": false,
		"https://192.0.2.1/": false, "https://[2001:db8::1]:8443/": false, "https://[::1]/": false,
	} {
		w, _ := answer(Options{}, request(http.MethodGet, url))
		require.Equal(t, want, w.Header().Get("Strict-Transport-Security") != "", url)
	}
	r := request(http.MethodGet, "http://changeover.example.com/", "X-Forwarded-Proto", "https")
	w, _ := answer(Options{}, r)
	require.Empty(t, w.Header().Get("Strict-Transport-Security"), "a stranger says so")
	r = request(http.MethodGet, "http://changeover.example.com/", "X-Forwarded-Proto", "https")
	o := Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix(r.RemoteAddr[:strings.IndexByte(r.RemoteAddr, ':')] + "/32")}}
	w, _ = answer(o, r)
	require.NotEmpty(t, w.Header().Get("Strict-Transport-Security"))
}

// The handler gets what net/http made: what is behind takes connections over, flushes and sets deadlines.
func TestResponseWriterIsNotWrapped(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	var got http.ResponseWriter
	newFront(Options{AllowedOrigins: []string{desktopOrigin}, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { got = w })}, nil).
		ServeHTTP(w, request(http.MethodGet, "/", "Origin", desktopOrigin))
	require.Same(t, w, got)
}

// Header injection and response splitting by everything that comes back in a header or could: the request is refused, or the answer
// holds nothing of it.
func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{AllowedOrigins: []string{desktopOrigin}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		for _, raw := range []string{
			"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://desktop.example.com\rInjected: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://desktop.example.com\nInjected: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://desktop.example.com\x00Injected: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://desktop.example.com\r\n Injected: 1\r\n\r\n", // a folded line
			"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: y\rInjected: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\rInjected: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
			"GET /\rInjected: 1 HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /%0d%0aInjected:%201 HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\nInjected : 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\n: 1\r\nInjected\r\n\r\n",
			"OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: https://desktop.example.com\r\nAccess-Control-Request-Method: GET\rInjected: 1\r\n\r\n",
		} {
			c := s.pipes.dial(t, "10.0.0.1:1")
			go func() { _, _ = io.WriteString(c, raw) }()
			status, header := readHead(t, c)
			require.Empty(t, header.Get("Injected"), "%q", raw)
			if status == http.StatusOK || status == http.StatusNoContent {
				for name, values := range header {
					require.NotContains(t, strings.Join(values, ""), "Injected", "%q: %s", raw, name)
				}
			}
			c.Close()
		}
	})
}

// Request smuggling: a request of two lengths is one request, or none; the second never becomes another.
func TestRequestSmuggling(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"two lengths":             "Content-Length: 5\r\nContent-Length: 44\r\n",
		"chunks in disguise":      "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
		"chunks twice":            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
		"a signed length":         "Content-Length: +5\r\n",
		"a length with a comma":   "Content-Length: 5, 44\r\n",
		"a space before a colon":  "Transfer-Encoding : chunked\r\n",
		"chunks with a tab":       "Transfer-Encoding: \x0bchunked\r\n",
		"HTTP/1.0 and two bodies": "Content-Length: 0\r\nContent-Length: 44\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var paths []string
				s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					paths = append(paths, r.URL.Path)
					_, _ = io.Copy(io.Discard, r.Body)
				})})
				c := s.pipes.dial(t, "198.51.100.1:1")
				go fmt.Fprintf(c, "POST /first HTTP/1.1\r\nHost: x\r\n%s\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", header)
				closedAfter(c)
				require.Empty(t, paths)
			})
		})
	}
}

func readHead(t *testing.T, c net.Conn) (int, http.Header) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// Huge headers: in one piece, in thousands, in the request line, and such that never end.
func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"one huge":         "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"thousands":        "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n",
		"the request line": "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"no end":           "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a", 1<<20),
		"cookies":          "GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("a=b; ", 10_000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				served := false
				s := start(t, Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true })})
				c := s.pipes.dial(t, "198.51.100.1:1")
				sent := make(chan int, 1)
				go func() {
					n, _ := io.WriteString(c, raw)
					sent <- n
				}()
				status, _ := readAnswer(t, c)
				require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, status)
				c.Close()
				require.Less(t, <-sent, 2*maxHeaderBytes, "no more is read")
				require.False(t, served)
			})
		})
	}
	// What an honest client sends has room: a token of 8 KiB and a cookie of 4.
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{})
		resp := get(t, s.client(t, "198.51.100.1:1"), "http://x/", "Authorization", "Bearer "+strings.Repeat("a", 8<<10), "Cookie", "__Host-changeover="+strings.Repeat("a", 4<<10))
		require.Equal(t, http.StatusOK, resp.StatusCode)
	})
}
