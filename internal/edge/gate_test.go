package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// token is what the handlers of these tests take for a proof.
const token = "Bearer good"

// knowing is a handler that knows whoever shows the token.
func knowing(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == token {
		Identified(r.Context())
	}
	_, _ = io.WriteString(w, "ok")
}

// ask makes a request on a connection and reads the answer.
func ask(t *testing.T, c net.Conn, header string) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", header)
		done <- err
	}()
	status, _ := readAnswer(t, c)
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, <-done)
}

// closed says whether the other side has closed a pipe.
func closed(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func gateTest(t *testing.T, o Options, f func(t *testing.T, s *started, m *Metrics)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o.Metrics = NewMetrics(prometheus.NewRegistry())
		o.Handler = http.HandlerFunc(knowing)
		f(t, start(t, o), o.Metrics)
	})
}

func (m *Metrics) rejections(reason string) int {
	return int(testutil.ToFloat64(m.rejected.WithLabelValues(reason)))
}

// Exhaustion of connections: at the limit the oldest unknown one makes room; those whose callers are known stay.
func TestTheOldestUnknownMakesRoom(t *testing.T) {
	gateTest(t, Options{MaxConnections: 4}, func(t *testing.T, s *started, m *Metrics) {
		known := s.pipes.dial(t, "192.0.2.1:1")
		ask(t, known, "Authorization: "+token+"\r\n")
		silent, asking := s.pipes.dial(t, "192.0.2.2:1"), s.pipes.dial(t, "192.0.2.3:1")
		ask(t, asking, "")
		third := s.pipes.dial(t, "192.0.2.4:1")
		synctest.Wait()
		require.Equal(t, 4, s.open())

		ask(t, s.pipes.dial(t, "192.0.2.5:1"), "Authorization: "+token+"\r\n")
		require.True(t, closed(silent))
		ask(t, s.pipes.dial(t, "192.0.2.6:1"), "Authorization: "+token+"\r\n")
		require.True(t, closed(asking), "what anybody may ask proves nothing")
		ask(t, s.pipes.dial(t, "192.0.2.7:1"), "Authorization: "+token+"\r\n")
		require.True(t, closed(third))
		require.Equal(t, 3, m.rejections(rejectedEvicted))

		// All are known: now the new one has to go.
		require.True(t, closed(s.pipes.dial(t, "192.0.2.8:1")))
		require.Equal(t, 1, m.rejections(rejectedTotal))
		ask(t, known, "")
		require.Equal(t, 4, s.open())
		require.InDelta(t, 4, testutil.ToFloat64(m.connections), 0)
		require.Equal(t, 1, strings.Count(s.log.String(), "connections are at their limit"), "once a minute")

		known.Close()
		synctest.Wait()
		require.Equal(t, 3, s.open())
		require.Len(t, s.gate.addresses, 3, "no address without connections is remembered")
	})
}

// Exhaustion by one address: it gets no more than its share, and pays for its new connections with its own.
func TestLimitOfAnAddress(t *testing.T) {
	o := Options{MaxConnections: 100, MaxConnectionsPerAddress: 2, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	gateTest(t, o, func(t *testing.T, s *started, m *Metrics) {
		other := s.pipes.dial(t, "192.0.2.2:1")
		first, second := s.pipes.dial(t, "192.0.2.1:1"), s.pipes.dial(t, "192.0.2.1:2")
		ask(t, second, "Authorization: "+token+"\r\n")
		third := s.pipes.dial(t, "192.0.2.1:3")
		require.True(t, closed(first))
		ask(t, third, "Authorization: "+token+"\r\n")
		require.True(t, closed(s.pipes.dial(t, "192.0.2.1:4")))
		require.Equal(t, 1, m.rejections(rejectedAddress))
		require.Equal(t, 1, m.rejections(rejectedEvicted))
		ask(t, other, "")

		// Of IPv6 a machine has a whole /64.
		six := s.pipes.dial(t, "[2001:db8:0:1::1]:1")
		s.pipes.dial(t, "[2001:db8:0:1:ffff::2]:1")
		s.pipes.dial(t, "[2001:db8:0:2::1]:1")
		require.False(t, closed(six))
		s.pipes.dial(t, "[2001:db8:0:1::3]:1")
		require.True(t, closed(six))
		// And IPv4 may come as IPv6.
		require.True(t, closed(s.pipes.dial(t, "[::ffff:192.0.2.1]:5")))

		// A proxy brings everybody's connections.
		for port := range 5 {
			ask(t, s.pipes.dial(t, fmt.Sprintf("10.1.2.3:%d", port+1)), "Authorization: "+token+"\r\n")
		}
	})
}

// A flood from several machines that keeps the house full: whoever holds most of the unknown connections loses one, so that a
// desktop in the middle of its handshake is not pushed out.
func TestTheFloodersPayFirst(t *testing.T) {
	gateTest(t, Options{MaxConnections: 10}, func(t *testing.T, s *started, m *Metrics) {
		desktop := s.pipes.dial(t, "192.0.2.1:1") // older than every connection of the flood
		for n := range 100 {
			s.pipes.dial(t, fmt.Sprintf("198.51.100.%d:%d", n%4+1, n+1))
		}
		synctest.Wait()
		require.Equal(t, 91, m.rejections(rejectedEvicted))
		ask(t, desktop, "Authorization: "+token+"\r\n")
		require.Equal(t, 10, s.open())
	})
}

// Half-open handshakes count and make room like every other connection.
func TestHalfOpenHandshakesCount(t *testing.T) {
	gateTest(t, Options{MaxConnections: 3, Certificates: certificates(t)}, func(t *testing.T, s *started, m *Metrics) {
		for port := range 50 {
			c := s.pipes.dial(t, fmt.Sprintf("198.51.100.1:%d", port+1))
			if port%2 == 0 {
				_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) // the beginning of a ClientHello
			}
			synctest.Wait()
			require.LessOrEqual(t, s.open(), 3)
		}
		for range 3 {
			resp := get(t, s.client(t, "192.0.2.1:1", overTLS), "https://desktop.example.com/", "Authorization", token)
			require.Equal(t, http.StatusOK, resp.StatusCode)
		}
	})
}

// A connection that a handler has taken over, a stream, counts until it is closed; and it is known, so nothing evicts it.
func TestStreamsCountUntilTheyAreClosed(t *testing.T) {
	t.Parallel()
	for _, withTLS := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			taken := make(chan net.Conn, 1)
			o := Options{MaxConnections: 2, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				Identified(r.Context())
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					panic(err)
				}
				taken <- c
			})}
			if withTLS {
				o.Certificates = certificates(t)
			}
			s := start(t, o)
			client := s.pipes.dial(t, "192.0.2.1:1")
			if withTLS {
				client = silentTLS(client)
			}
			_, err := io.WriteString(client, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			stream := <-taken
			for port := range 20 {
				s.pipes.dial(t, fmt.Sprintf("198.51.100.1:%d", port+1))
			}
			synctest.Wait()
			require.Equal(t, 2, s.open())
			go func() { _, _ = io.WriteString(stream, "still here") }()
			text := make([]byte, 10)
			_, err = io.ReadFull(client, text)
			require.NoError(t, err)
			require.Equal(t, "still here", string(text))

			go func() { _, _ = io.Copy(io.Discard, client) }() // for what TLS says at the end
			require.NoError(t, stream.Close())
			_ = stream.Close() // again, as careful code does
			require.Equal(t, 1, s.open())
		})
	}
}

// Thousands of unauthenticated connections from several machines, silent ones, slow ones and such that ask what anybody may, on real
// sockets: a desktop connects, asks and keeps its stream all the same, while they come and when the house is full of them.
func TestThousandsOfUnauthenticatedConnections(t *testing.T) {
	const flood, room = 4000, 1000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	streams := make(chan net.Conn, 1)
	s := serve(t, Options{MaxConnections: room, MaxConnectionsPerAddress: room / 2, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			knowing(w, r)
			return
		}
		Identified(r.Context())
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		streams <- c
	})}, l)

	desktop := dialFrom(t, l, "127.0.0.1")
	fmt.Fprintf(desktop, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
	stream := <-streams
	defer stream.Close()
	defer desktop.Close()

	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer func() {
		stop()
		require.NoError(t, s.Close())
		wg.Wait()
	}()
	var opened atomic.Int64
	for machine := range 4 {
		wg.Go(func() {
			for n := 0; n < flood/4; {
				c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(machine+1))}}).DialContext(ctx, "tcp", l.Addr().String())
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					continue
				}
				n++
				opened.Add(1)
				switch n % 3 {
				case 1:
					fmt.Fprintf(c, "GET / HTTP/1.1\r\nHos")
				case 2:
					fmt.Fprintf(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				wg.Go(func() { _, _ = io.Copy(io.Discard, c); c.Close() }) // until it is evicted, or the server ends
			}
		})
	}

	answered := 0
	for began := time.Now(); opened.Load() < flood || answered < 100; {
		require.Less(t, time.Since(began), time.Minute, "nobody is let in")
		tr := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, 1)}}).DialContext}
		resp := get(t, &http.Client{Transport: tr, Timeout: 10 * time.Second}, "http://"+l.Addr().String()+"/", "Authorization", token)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		tr.CloseIdleConnections()
		answered++
		require.LessOrEqual(t, s.open(), room)
	}
	t.Logf("%d connections of the flood, %d of a desktop", opened.Load(), answered)
	_, err = io.WriteString(stream, "still here")
	require.NoError(t, err)
	text := make([]byte, 10)
	_, err = io.ReadFull(desktop, text)
	require.NoError(t, err)
}

func dialFrom(t *testing.T, l net.Listener, ip string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	return c
}

// The limit of open files is the limit behind the limit.
func TestOpenFilesLimitConnections(t *testing.T) {
	t.Parallel()
	files := maxOpenFiles()
	require.Positive(t, files)
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{MaxConnections: files * 2})
		require.Less(t, s.gate.max, files)
		require.Contains(t, s.log.String(), "may open fewer files than http.maxConnections")
		s = start(t, Options{})
		require.Less(t, s.gate.max, files)
		require.Empty(t, s.log.String())
		s = start(t, Options{MaxConnections: 10})
		require.Equal(t, 10, s.gate.max)
	})
}

// The books stay right whatever happens at once.
func TestGateUnderContention(t *testing.T) {
	t.Parallel()
	g := newGate(Options{MaxConnections: 50, MaxConnectionsPerAddress: 20, Metrics: NewMetrics(nil), Log: discard}, nil)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			var mine []*conn
			for n := range 2000 {
				client, server := net.Pipe()
				client.Close()
				c := g.admit(remote{server, address4(fmt.Sprintf("192.0.2.%d:1", (worker+n)%10))})
				if c == nil {
					continue
				}
				if n%3 == 0 {
					Identified(withConn(context.Background(), c))
				}
				if mine = append(mine, c); len(mine) > 10 {
					_ = mine[0].Close()
					mine = mine[1:]
				}
				if n%100 == 0 {
					g.closeUnused()
				}
			}
			for _, c := range mine {
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	require.Zero(t, g.open)
	require.Empty(t, g.addresses)
	require.Empty(t, g.crowds)
	require.InDelta(t, 0, testutil.ToFloat64(g.metrics.connections), 0)
}
