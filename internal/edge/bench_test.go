package edge

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
)

// nowhere is a ResponseWriter that costs nothing itself.
type nowhere struct{ header http.Header }

func (w nowhere) Header() http.Header         { return w.header }
func (w nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w nowhere) WriteHeader(int)             {}

// BenchmarkFront is what every request pays before its handler.
func BenchmarkFront(b *testing.B) {
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	full := Options{
		Handler: next, AllowedOrigins: []string{desktopOrigin, otherOrigin},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
	}
	for name, bench := range map[string]struct {
		o       Options
		request *http.Request
		proxied bool
	}{
		"direct":                  {Options{Handler: next}, from("192.0.2.1:4711"), false},
		"browser":                 {full, from("192.0.2.1:4711", "Origin", desktopOrigin), false},
		"browser through a proxy": {full, from("10.0.0.1:4711", "Origin", desktopOrigin), true},
	} {
		b.Run(name, func(b *testing.B) {
			f := newFront(bench.o, bench.o.TrustedProxies)
			w := nowhere{http.Header{}}
			client, proto := []string{"192.0.2.1, 10.0.0.7"}, []string{"https"}
			peer := bench.request.RemoteAddr
			b.ReportAllocs()
			for b.Loop() {
				if bench.proxied {
					bench.request.RemoteAddr = peer
					bench.request.Header["X-Forwarded-For"], bench.request.Header["X-Forwarded-Proto"] = client, proto
				}
				clear(w.header)
				f.ServeHTTP(w, bench.request)
			}
		})
	}
	b.Run("preflight", func(b *testing.B) {
		f := newFront(full, full.TrustedProxies)
		w := nowhere{http.Header{}}
		r := request(http.MethodOptions, "/v1/agents", "Origin", desktopOrigin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
		b.ReportAllocs()
		for b.Loop() {
			clear(w.header)
			f.ServeHTTP(w, r)
		}
	})
}

func BenchmarkLimiter(b *testing.B) {
	token := make([]byte, 1200) // a JWT
	for i := range token {
		token[i] = 'a' + byte(i%26)
	}
	b.Run("one token", func(b *testing.B) {
		l := NewLimiter(1e9, 1e9, nil)
		r := from("192.0.2.1:4711", "Authorization", "Bearer "+string(token))
		b.ReportAllocs()
		for b.Loop() {
			l.Wait(r)
		}
	})
	b.Run("many tokens at once", func(b *testing.B) {
		l := NewLimiter(1e9, 1e9, nil)
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			r := from("192.0.2.1:4711", "Authorization", "")
			tokens := make([]string, 1000)
			for i := range tokens {
				tokens[i] = "Bearer " + strconv.Itoa(i) + string(token)
			}
			for i := 0; p.Next(); i++ {
				r.Header["Authorization"][0] = tokens[i%len(tokens)]
				l.Wait(r)
			}
		})
	})
}

// BenchmarkGate is what a connection pays: while there is room, and while 100,000 are there and each new one needs another's place.
func BenchmarkGate(b *testing.B) {
	addresses := make([]net.Addr, 1000)
	for i := range addresses {
		addresses[i] = address4(fmt.Sprintf("192.0.%d.%d:1", i/250, i%250))
	}
	gate := func(limit int) *gate {
		g := newGate(Options{Metrics: NewMetrics(nil), Log: discard}, nil)
		g.max = limit
		return g
	}
	b.Run("room", func(b *testing.B) {
		g := gate(1 << 30)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			_ = g.admit(remote{nothing{}, addresses[i%len(addresses)]}).Close()
		}
	})
	b.Run("full of unknown", func(b *testing.B) {
		g := gate(100_000)
		for i := range 100_000 {
			g.admit(remote{nothing{}, addresses[i%len(addresses)]})
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			g.admit(remote{nothing{}, addresses[i%len(addresses)]})
		}
	})
}

type nothing struct{ net.Conn }

func (nothing) Close() error { return nil }
