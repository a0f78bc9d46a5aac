package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// drip sends begin, and then s byte by byte, one a second, until it is through or the connection is closed. wait waits for that.
func drip(c net.Conn, begin, s string) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.WriteString(c, begin)
		for i := range len(s) {
			if _, err := io.WriteString(c, s[i:i+1]); err != nil {
				return
			}
			time.Sleep(time.Second) // of synctest's clock: the attack itself
		}
	})
	return wg.Wait
}

// Slowloris: a header that never ends, a byte at a time, holds a connection for ten seconds and no longer.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{})
		c := s.pipes.dial(t, "198.51.100.1:1")
		defer drip(c, "", "GET /v1/agents HTTP/1.1\r\nHost: x\r\nX-Padding: "+strings.Repeat("a", 1000))()
		require.Equal(t, readHeaderTimeout, closedAfter(c))
		require.Zero(t, s.open())
	})
}

// Slowloris on a connection that has served a request: the next header has no more time than the first.
func TestSlowlorisOnTheSecondRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{})
		c := s.pipes.dial(t, "198.51.100.1:1")
		go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		status, _ := readAnswer(t, c)
		require.Equal(t, http.StatusOK, status)
		defer drip(c, "", "GET / HTTP/1.1\r\nHost: x\r\nX-Padding: "+strings.Repeat("a", 1000))()
		// The header's time begins when its first four bytes are there.
		require.InDelta(t, readHeaderTimeout.Seconds(), closedAfter(c).Seconds(), 4)
		require.Zero(t, s.open())
	})
}

// Silence: a connection on which nothing is ever sent, in the clear, before the TLS handshake, in its middle, after it, and
// after the preface of HTTP/2.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	handshake := func(protocol string) func(net.Conn) net.Conn {
		return func(c net.Conn) net.Conn {
			t := tls.Client(c, &tls.Config{RootCAs: ca().pool, ServerName: "desktop.example.com", NextProtos: []string{protocol}})
			must(t.Handshake())
			return t
		}
	}
	for name, test := range map[string]struct {
		tls   bool
		begin func(net.Conn) net.Conn
		until time.Duration
	}{
		"in the clear":        {false, func(c net.Conn) net.Conn { return c }, readHeaderTimeout},
		"no handshake":        {true, func(c net.Conn) net.Conn { return c }, readHeaderTimeout},
		"half a handshake":    {true, func(c net.Conn) net.Conn { _, _ = c.Write([]byte{22, 3, 1, 1, 0, 1}); return c }, readHeaderTimeout},
		"after the handshake": {true, handshake("http/1.1"), readHeaderTimeout},
		"HTTP/2, no preface":  {true, handshake("h2"), readHeaderTimeout},
		"HTTP/2, no settings": {true, func(c net.Conn) net.Conn {
			c = handshake("h2")(c)
			_, _ = io.WriteString(c, http2.ClientPreface)
			return c
		}, readHeaderTimeout},
		"HTTP/2, no request":   {true, idleHTTP2(handshake("h2")), idleTimeout},
		"HTTP/2, no pong":      {true, deafHTTP2(handshake("h2")), pingAfter + 15*time.Second},
		"HTTP/2, half headers": {true, halfHeaders(handshake("h2")), idleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var o Options
				if test.tls {
					o.Certificates = certificates(t)
				}
				s := start(t, o)
				c := s.pipes.dial(t, "198.51.100.1:1")
				began := time.Now()
				c = test.begin(c)
				closedAfter(c)
				require.LessOrEqual(t, time.Since(began), test.until+time.Second)
				synctest.Wait()
				require.Zero(t, s.open())
			})
		})
	}
}

// idleHTTP2 opens a connection and answers pings, so that it looks alive.
func idleHTTP2(handshake func(net.Conn) net.Conn) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		c = handshake(c)
		_, _ = io.WriteString(c, http2.ClientPreface)
		f := http2.NewFramer(c, c)
		must(f.WriteSettings())
		answerPings(f)
		return c
	}
}

func answerPings(f *http2.Framer) {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		if ping, ok := frame.(*http2.PingFrame); ok && !ping.IsAck() {
			_ = f.WritePing(true, ping.Data)
		}
	}
}

func deafHTTP2(handshake func(net.Conn) net.Conn) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		c = handshake(c)
		_, _ = io.WriteString(c, http2.ClientPreface)
		must(http2.NewFramer(c, c).WriteSettings())
		return c
	}
}

// halfHeaders begins a request whose header never ends, and answers pings.
func halfHeaders(handshake func(net.Conn) net.Conn) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		c = handshake(c)
		_, _ = io.WriteString(c, http2.ClientPreface)
		f := http2.NewFramer(c, c)
		must(f.WriteSettings())
		must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}))
		answerPings(f)
		return c
	}
}

// Slow-drip body (R-U-Dead-Yet): a body of which a byte comes each second, to a handler that reads it, and to one that has refused the
// request and reads nothing: net/http would wait for the rest before it answers.
func TestSlowDripBody(t *testing.T) {
	t.Parallel()
	for name, reads := range map[string]bool{"the handler reads": true, "the handler does not read": false} {
		for _, header := range []string{"Content-Length: 10000", "Transfer-Encoding: chunked"} {
			t.Run(name+", "+header, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					readErr := make(chan error, 1)
					s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if reads {
							_, err := io.ReadAll(r.Body)
							readErr <- err
						}
						w.WriteHeader(http.StatusUnauthorized)
					})})
					c := s.pipes.dial(t, "198.51.100.1:1")
					body := strings.Repeat("x", 10000)
					if strings.HasPrefix(header, "Transfer") {
						body = "2710\r\n" + body
					}
					defer drip(c, "POST /v1/failovers/force HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n", body)()
					began := time.Now()
					status, _ := readAnswer(t, c)
					require.Equal(t, http.StatusUnauthorized, status, "the answer comes all the same")
					closedAfter(c)
					require.LessOrEqual(t, time.Since(began), readTimeout+time.Second)
					if reads {
						require.ErrorIs(t, <-readErr, os.ErrDeadlineExceeded)
					}
					synctest.Wait()
					require.Zero(t, s.open())
				})
			})
		}
	}
}

// Slow-drip body over HTTP/2, where the connection belongs to others too: the request ends, the connection lives.
func TestSlowDripBodyOverHTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		readErr := make(chan error, 1)
		s := start(t, Options{Certificates: certificates(t), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_, err := io.ReadAll(r.Body)
				readErr <- err
			}
		})})
		client := s.client(t, "198.51.100.1:1", overTLS, func(tr *http.Transport) { tr.DisableKeepAlives = false })
		body, drops := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				if _, err := drops.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second) // the attack itself
			}
		})
		began := time.Now()
		r, err := http.NewRequest(http.MethodPost, "https://desktop.example.com/", body)
		require.NoError(t, err)
		resp, err := client.Do(r)
		require.ErrorIs(t, <-readErr, os.ErrDeadlineExceeded)
		require.LessOrEqual(t, time.Since(began), readTimeout+time.Second)
		if err == nil {
			resp.Body.Close()
		}
		body.Close()
		require.Equal(t, "HTTP/2.0", get(t, client, "https://desktop.example.com/").Proto)
		require.Equal(t, 1, s.open())
		client.CloseIdleConnections()
		wg.Wait()
	})
}

// Slow read: a client that asks for much and reads nothing keeps its handler for a minute, not for ever.
func TestSlowRead(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", tls), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan time.Duration, 1)
				o := Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					began := time.Now()
					for {
						if _, err := w.Write(make([]byte, 64<<10)); err != nil {
							ended <- time.Since(began)
							return
						}
					}
				})}
				if tls {
					o.Certificates = certificates(t)
				}
				s := start(t, o)
				c := s.pipes.dial(t, "198.51.100.1:1")
				defer c.Close()
				if tls {
					c = silentTLS(c)
				}
				_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				require.NoError(t, err)
				require.LessOrEqual(t, <-ended, writeTimeout+5*time.Second) // crypto/tls tries to say goodbye for five
			})
		})
	}
}

func silentTLS(c net.Conn) net.Conn {
	t := tls.Client(c, &tls.Config{RootCAs: ca().pool, ServerName: "desktop.example.com"})
	must(t.Handshake())
	return t
}

// Keeping connections for nothing: after a request a connection may wait for the next one for two minutes.
func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{})
		c := s.pipes.dial(t, "198.51.100.1:1")
		go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = readAnswer(t, c)
		require.Equal(t, idleTimeout, closedAfter(c))
		require.Zero(t, s.open())
	})
}

// All these deadlines must not touch a stream: taken over from HTTP/1, or written from the handler as internal/stream does on HTTP/2. Nor
// a long poll.
func TestStreamsOutliveEveryDeadline(t *testing.T) {
	t.Parallel()
	const beats, beat = 40, 15 * time.Second // ten minutes
	stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		if r.ProtoMajor == 1 {
			c, _, err := controller.Hijack()
			if err != nil {
				panic(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			for range beats {
				time.Sleep(beat)
				if _, err := io.WriteString(c, ":\n\n"); err != nil {
					return
				}
			}
			return
		}
		for range beats {
			if controller.SetWriteDeadline(time.Now().Add(5*time.Second)) != nil {
				return
			}
			if _, err := io.WriteString(w, ":\n\n"); err != nil || controller.Flush() != nil {
				return
			}
			if controller.SetWriteDeadline(time.Time{}) != nil {
				return
			}
			select {
			case <-time.After(beat):
			case <-r.Context().Done():
				return
			}
		}
	})
	for name, o := range map[string]struct {
		tls     bool
		proto   string
		options []func(*http.Transport)
	}{
		"HTTP/1.1":          {false, "HTTP/1.1", nil},
		"HTTP/1.1 over TLS": {true, "HTTP/1.1", []func(*http.Transport){overTLS, func(tr *http.Transport) { tr.ForceAttemptHTTP2 = false }}},
		"HTTP/2":            {true, "HTTP/2.0", []func(*http.Transport){overTLS}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				options := Options{Handler: stream}
				scheme := "http"
				if o.tls {
					options.Certificates, scheme = certificates(t), "https"
				}
				s := start(t, options)
				client := s.client(t, "198.51.100.1:1", o.options...)
				r, err := http.NewRequest(http.MethodGet, scheme+"://desktop.example.com/v1/events", nil)
				require.NoError(t, err)
				resp, err := client.Do(r)
				require.NoError(t, err)
				require.Equal(t, o.proto, resp.Proto)
				require.Equal(t, 1, s.open())
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				resp.Body.Close()
				require.Len(t, body, 3*beats)
				client.CloseIdleConnections()
				synctest.Wait()
				require.Zero(t, s.open())
			})
		})
	}
	t.Run("long poll", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-time.After(33 * time.Second): // the longest wait, and the database's time
					_, _ = io.WriteString(w, "[]")
				case <-r.Context().Done():
				}
			})})
			resp := get(t, s.client(t, "198.51.100.1:1"), "http://desktop.example.com/")
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "[]", string(body))
		})
	})
}

// Browsers connect ahead of need. Neither such a connection nor one of an attacker who says nothing may hold up the end of the
// process.
func TestShutdownDoesNotWaitForUnusedConnections(t *testing.T) {
	t.Parallel()
	for _, withTLS := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			o := Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-release
				_, _ = io.WriteString(w, "ok")
			})}
			if withTLS {
				o.Certificates = certificates(t)
			}
			s := start(t, o)
			ahead, working := s.pipes.dial(t, "198.51.100.1:1"), s.pipes.dial(t, "198.51.100.1:2")
			if withTLS {
				ahead, working = silentTLS(ahead), silentTLS(working)
			}
			_, err := io.WriteString(working, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			synctest.Wait()
			began := time.Now()
			down := make(chan error, 1)
			go func() { down <- s.Shutdown(t.Context()) }()
			require.Zero(t, closedAfter(ahead))
			close(release) // a request under way is answered
			status, body := readAnswer(t, working)
			require.Equal(t, "200 ok", fmt.Sprint(status, " ", body))
			closedAfter(working)
			require.NoError(t, <-down)
			require.Less(t, time.Since(began), time.Second)
		})
	}
}

// A handler that panics is a fault of ours and must be seen, unlike what clients break.
func TestPanicsAreLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(errors.New("a fault")) })})
		_, err := s.client(t, "198.51.100.1:1").Get("http://desktop.example.com/")
		require.Error(t, err)
		require.Contains(t, s.log.String(), "level=ERROR")
		require.Contains(t, s.log.String(), "a fault")

		c := s.pipes.dial(t, "198.51.100.1:1")
		go fmt.Fprintf(c, "nonsense\r\n\r\n")
		status, _ := readAnswer(t, c)
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, 1, strings.Count(s.log.String(), "level=ERROR"))
	})
}
