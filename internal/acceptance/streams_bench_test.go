package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
)

// BenchmarkIdleStreams measures what the whole program, with its database, its leader and 10,000 agents who do nothing, needs for each of
// 10,000 open streams: resident memory of its process (in another one than the desktops) after heartbeats have been written on all of
// them, as the kernel counts it; nobody asks the program to collect its garbage. On plain HTTP/1.1 it fails above 12 KiB.
func BenchmarkIdleStreams(b *testing.B) {
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		b.Skip("resident memory is read from /proc: ", err)
	}
	const streams = 10_000
	for _, test := range []struct {
		name    string
		tls     bool
		perConn int     // streams of one HTTP/2 connection; 0: HTTP/1.1
		most    float64 // KiB; 0: measured only
	}{
		{"HTTP/1.1", false, 0, 12}, {"HTTP/1.1 over TLS", true, 0, 0},
		{"HTTP/2", true, 1, 0}, {"HTTP/2 with 100 streams per connection", true, 100, 0},
	} {
		b.Run(test.name, func(b *testing.B) {
			sim := connectsim.New(connectsim.Config{Seed: 1, Agents: streams, RoutingProfiles: 50})
			s := newService(b, sim, func(c *config.Config) {
				c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 10*time.Second, 15*time.Second, 5*time.Second
				c.Stream.Heartbeat = time.Second
				if test.tls {
					c.HTTP.TLSCert, c.HTTP.TLSKey = newCertificate(b)
				}
			})
			agents := sim.Agents()
			var each, inAll float64
			for b.Loop() { // each time a new process, which has had no streams before
				s.start(b)
				s.until(b, "the floor is known", func() bool {
					summary := get[contract.Summary](b, s, "/v1/summary")
					return len(summary.Items) == 1 && summary.Items[0].Agents == streams
				})
				<-time.After(3 * time.Second) // what loading needed is collected
				before := s.resident(b)
				var f crowd
				for i := range streams {
					f.agents = append(f.agents, agents[i].ID)
				}
				f.connect(b, s, test.perConn)
				s.until(b, "every stream is open and has a pulse", func() bool { return f.heard.Load() == streams })
				after := s.resident(b)
				f.leave()
				s.kill(b)
				s.freeLease(b)
				each += float64(after-before) / streams / 1024
				inAll += float64(after) / (1 << 20)
			}
			b.ReportMetric(each/float64(b.N), "KiB/stream")
			b.ReportMetric(inAll/float64(b.N), "MiB-in-all")
			b.ReportMetric(0, "ns/op")
			if test.most > 0 {
				require.Less(b, each/float64(b.N), test.most)
			}
		})
	}
}

// BenchmarkNothingHappens measures the processor time of the whole program, at the default quotas and intervals, while as many streams are open as
// 50,000 or the files that a process may open and nothing happens but heartbeats, as a share of one core. It fails where 50,000 would
// need more than the promised 20 %, in proportion to the streams.
func BenchmarkNothingHappens(b *testing.B) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		b.Skip("processor time is read from /proc: ", err)
	}
	const promised = 50_000
	streams := min(promised, openFiles(b)-600)
	sim := connectsim.New(connectsim.Config{Seed: 1, Agents: streams, RoutingProfiles: 50})
	s := newService(b, sim)
	s.start(b) // reads the floor faster than the default quotas allow
	s.until(b, "the floor is known", func() bool {
		summary := get[contract.Summary](b, s, "/v1/summary")
		return len(summary.Items) == 1 && summary.Items[0].Agents == streams
	})
	s.kill(b)
	s.reconfigure(b, func(c *config.Config) { c.Connect, c.Poll = config.Default().Connect, config.Default().Poll })
	agents := sim.Agents()
	var share float64
	for b.Loop() {
		s.freeLease(b)
		s.start(b)
		get[contract.Summary](b, s, "/v1/summary")
		var f crowd
		for i := range streams {
			f.agents = append(f.agents, agents[i].ID)
		}
		f.connect(b, s, 0)
		<-time.After(20 * time.Second) // more than one turn of the wheel
		const window = 30 * time.Second
		before := s.processorTime(b)
		<-time.After(window)
		share += float64(s.processorTime(b)-before) / float64(window)
		memory := s.resident(b)
		require.EqualValues(b, streams, f.heard.Load(), "each stream has its snapshot and two heartbeats")
		b.ReportMetric(float64(memory)/(1<<20), "MiB-in-all")
		f.leave()
		s.kill(b)
	}
	share /= float64(b.N)
	b.ReportMetric(float64(streams), "streams")
	b.ReportMetric(100*share, "%-of-a-core")
	b.ReportMetric(100*share*promised/float64(streams), "%-at-50000")
	b.ReportMetric(0, "ns/op")
	require.Less(b, share*promised/float64(streams), .2)
}

// openFiles is how many files a process may open.
func openFiles(t testing.TB) int {
	t.Helper()
	var files syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	return int(min(files.Cur, 1<<30))
}

// processorTime is that of the process so far, in user and kernel mode; the kernel counts in hundredths of a second.
func (s *service) processorTime(b *testing.B) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	require.NoError(b, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// newCertificate makes a certificate for tests and returns its files.
func newCertificate(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	cert, key = filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

// crowd is a desktop for each of some agents.
type crowd struct {
	agents []string
	heard  atomic.Int64

	mu    sync.Mutex
	conns []io.Closer
}

// connect opens a stream for each agent, as browsers do: on a connection of its own, or with HTTP/2 on one that perConn streams share. A
// stream counts as heard once it has its snapshot and two heartbeats.
func (f *crowd) connect(t testing.TB, s *service, perConn int) {
	t.Helper()
	const lanes = 64
	share := max(perConn, 1)
	var dialing sync.WaitGroup
	for lane := range lanes {
		dialing.Go(func() {
			for first := lane * share; first < len(f.agents); first += lanes * share {
				if err := f.dial(s, f.agents[first:min(first+share, len(f.agents))], perConn > 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	dialing.Wait()
}

func (f *crowd) dial(s *service, agents []string, http2 bool) error {
	if http2 {
		return f.dial2(s, agents)
	}
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return err
	}
	if s.tls {
		conn = tls.Client(conn, anyServer)
	}
	f.keep(conn)
	if _, err := io.WriteString(conn, browserRequest(agents[0])); err != nil {
		return err
	}
	go f.listen(conn)
	return nil
}

// dial2 opens the streams of agents on one HTTP/2 connection.
func (f *crowd) dial2(s *service, agents []string) error {
	conn, err := http2Transport.NewClientConn(context.Background(), "https", s.address)
	if err != nil {
		return err
	}
	f.keep(conn)
	for _, agent := range agents {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(browserRequest(agent))))
		if err != nil {
			return err
		}
		r.URL.Scheme, r.URL.Host, r.RequestURI = "https", s.address, ""
		answer, err := conn.RoundTrip(r)
		if err != nil {
			return err
		}
		go f.listen(answer.Body)
	}
	return nil
}

var http2Transport = func() *http.Transport {
	t := &http.Transport{TLSClientConfig: anyServer.Clone(), Protocols: new(http.Protocols)} // which adds to it
	t.Protocols.SetHTTP2(true)
	return t
}()

func (f *crowd) keep(c io.Closer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, c)
}

// browserRequest asks for a stream with the headers that a browser sends.
func browserRequest(agent string) string {
	return "GET /v1/agents/" + agent + "/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
		"Accept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nCache-Control: no-cache\r\nSec-Fetch-Mode: cors\r\n\r\n"
}

func (f *crowd) listen(body io.Reader) {
	snapshot, beats, counted := false, 0, false
	buf := make([]byte, 2048)
	for {
		n, err := body.Read(buf)
		if err != nil {
			return
		}
		snapshot = snapshot || bytes.Contains(buf[:n], []byte("event: snapshot"))
		beats += bytes.Count(buf[:n], []byte(": heartbeat\n"))
		if !counted && snapshot && beats >= 2 {
			counted = true
			f.heard.Add(1)
		}
	}
}

// leave closes everything.
func (f *crowd) leave() {
	for _, c := range f.conns {
		_ = c.Close()
	}
}

// resident is the memory of the process, in bytes.
func (s *service) resident(b *testing.B) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.process.Process.Pid))
	require.NoError(b, err)
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	require.NoError(b, err)
	return pages * int64(os.Getpagesize())
}
