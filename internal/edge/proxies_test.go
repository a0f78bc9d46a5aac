package edge

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

var balancers = proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48"), netip.MustParsePrefix("203.0.113.9/32")}

// X-Forwarded-For spoofing: whoever is no trusted proxy is believed nothing, and of what passes through one only what the proxies wrote
// themselves counts: the rightmost address that is not theirs.
func TestForwardedFor(t *testing.T) {
	t.Parallel()
	const proxy, stranger = "10.1.1.1:4711", "198.51.100.7:4711"
	for name, test := range map[string]struct {
		peer string
		sent []string
		want string
	}{
		"no header":                           {proxy, nil, proxy},
		"one client":                          {proxy, []string{"192.0.2.1"}, "192.0.2.1"},
		"from a stranger":                     {stranger, []string{"192.0.2.1"}, stranger},
		"a stranger poses as a proxy":         {stranger, []string{"192.0.2.1, 10.0.0.1"}, stranger},
		"a client writes the header itself":   {proxy, []string{"127.0.0.1, 192.0.2.1"}, "192.0.2.1"},
		"a client poses as a proxy":           {proxy, []string{"8.8.8.8, 10.9.9.9, 192.0.2.1"}, "192.0.2.1"},
		"two proxies":                         {proxy, []string{"8.8.8.8, 192.0.2.1, 10.9.9.9"}, "192.0.2.1"},
		"three proxies, two lines":            {proxy, []string{"8.8.8.8, 192.0.2.1, 203.0.113.9", "10.9.9.9"}, "192.0.2.1"},
		"a client's own line before":          {proxy, []string{"127.0.0.1", "192.0.2.1"}, "192.0.2.1"},
		"a client within the trusted network": {proxy, []string{"10.5.5.5"}, "10.5.5.5"},
		"junk before the client":              {proxy, []string{"'; DROP TABLE, 192.0.2.1"}, "192.0.2.1"},
		"junk in the client's place":          {proxy, []string{"192.0.2.1, unknown"}, proxy},
		"junk behind a proxy":                 {proxy, []string{"unknown, 10.9.9.9"}, "10.9.9.9"},
		"nothing between commas":              {proxy, []string{"192.0.2.1,, 10.9.9.9"}, "10.9.9.9"},
		"empty":                               {proxy, []string{""}, proxy},
		"spaces and tabs":                     {proxy, []string{"  192.0.2.1\t"}, "192.0.2.1"},
		"with a port":                         {proxy, []string{"192.0.2.1:50000"}, "192.0.2.1"},
		"IPv6":                                {proxy, []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv6 with a port":                    {proxy, []string{"[2001:db8::1]:50000"}, "2001:db8::1"},
		"IPv6 with a zone":                    {proxy, []string{"fe80::1%eth0"}, "fe80::1"},
		"IPv4 as IPv6":                        {proxy, []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		"a proxy as IPv6":                     {proxy, []string{"192.0.2.1, ::ffff:10.9.9.9"}, "192.0.2.1"},
		"the peer as IPv6":                    {"[::ffff:10.1.1.1]:4711", []string{"192.0.2.1"}, "192.0.2.1"},
		"an IPv6 proxy":                       {"[2001:db8:ffff::1]:4711", []string{"192.0.2.1"}, "192.0.2.1"},
		"a name":                              {proxy, []string{"desktop.example.com"}, proxy},
		"octal":                               {proxy, []string{"010.0.0.1"}, proxy},
		"a line break that HTTP let through":  {proxy, []string{"192.0.2.1\r\nX: y"}, proxy},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://desktop.example.com/", nil)
		r.RemoteAddr = test.peer
		for _, line := range test.sent {
			r.Header.Add("X-Forwarded-For", line)
		}
		balancers.resolve(r)
		require.Equal(t, test.want, r.RemoteAddr, name)
		require.Empty(t, r.Header, "nobody behind may read it")
	}
}

// Host and scheme spoofing: a stranger chooses neither where a link leads, nor whether the connection counts as safe.
func TestForwardedHostAndProto(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		peer, proto, host string
		tls               bool
		wantHost          string
		wantSecure        bool
	}{
		"a stranger":                 {"198.51.100.7:1", "https", "evil.example", false, "inner:8080", false},
		"a stranger over TLS":        {"198.51.100.7:1", "http", "evil.example", true, "inner:8080", true},
		"a proxy":                    {"10.0.0.1:1", "https", "desktop.example.com", false, "desktop.example.com", true},
		"a proxy that says nothing":  {"10.0.0.1:1", "", "", false, "inner:8080", false},
		"a proxy over TLS":           {"10.0.0.1:1", "http", "desktop.example.com:8443", true, "desktop.example.com:8443", false},
		"what a client wrote before": {"10.0.0.1:1", "https, http", "evil.example, desktop.example.com", false, "desktop.example.com", false},
		"another case":               {"10.0.0.1:1", "HTTPS", "Desktop.Example.com", false, "Desktop.Example.com", true},
		"nonsense":                   {"10.0.0.1:1", "ftp", "evil.example/path", false, "inner:8080", false},
		"a line break":               {"10.0.0.1:1", "https\r\nX: y", "evil.example\r\nSet-Cookie: x=1", false, "inner:8080", false},
		"a user":                     {"10.0.0.1:1", "", "good@evil.example", false, "inner:8080", false},
		"IPv6":                       {"10.0.0.1:1", "https", "[2001:db8::1]:443", false, "[2001:db8::1]:443", true},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://inner:8080/", nil)
		r.RemoteAddr = test.peer
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		r.Header["X-Forwarded-Proto"] = []string{test.proto}
		r.Header["X-Forwarded-Host"] = []string{test.host}
		for _, other := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-Port", "X-Forwarded-Prefix"} {
			r.Header.Set(other, "for=192.0.2.1;host=evil.example")
		}
		require.Equal(t, test.wantSecure, balancers.resolve(r), name)
		require.Equal(t, test.wantHost, r.Host, name)
		require.Empty(t, r.Header, name)
	}
}

// Without trusted proxies nobody is one, not even this machine.
func TestNoTrustedProxies(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "http://inner:8080/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	r.Header.Set("X-Forwarded-Proto", "https")
	require.False(t, proxies(nil).resolve(r))
	require.Equal(t, "127.0.0.1:1", r.RemoteAddr)
	require.Empty(t, r.Header)
}

// FuzzForwardedFor: whatever stands in the header, the result is an address, the peer's or one that stands in it, and nothing but the
// rightmost strangers counts: what a client puts before never changes it.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "192.0.2.1", "10.0.0.1, 10.0.0.2", "a,b,,c", "[::1]:1, 10.0.0.1", ",", "1.2.3.4:99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		resolve := func(lines ...string) string {
			r := &http.Request{RemoteAddr: "10.1.1.1:4711", Header: http.Header{"X-Forwarded-For": lines}}
			balancers.resolve(r)
			return r.RemoteAddr
		}
		got := resolve(sent)
		if _, ok := parseAddress(got); !ok {
			t.Fatalf("%q is no address", got)
		}
		if a, ok := parseAddress(got); ok && !balancers.contain(a) {
			if spoofed := resolve("8.8.8.8, " + sent); spoofed != got {
				t.Fatalf("%q before made %s of %s", sent, spoofed, got)
			}
			if spoofed := resolve("8.8.8.8", sent); spoofed != got {
				t.Fatalf("a line before %q made %s of %s", sent, spoofed, got)
			}
		}
		if got := resolve(sent, "192.0.2.1"); got != "192.0.2.1" {
			t.Fatalf("%q before the client made %s of it", sent, got)
		}
	})
}
