package acceptance

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
)

// BenchmarkIdleStreams measures what the whole program, with its database, its leader and 10,000 agents who do nothing, needs for each of
// 10,000 open streams: resident memory of its process (in another one than the desktops), after heartbeats have been written on all of
// them. It fails above the promised 30 KiB.
func BenchmarkIdleStreams(b *testing.B) {
	const streams = 10_000
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		b.Skip("resident memory is read from /proc: ", err)
	}
	sim := connectsim.New(connectsim.Config{Seed: 1, Agents: streams, RoutingProfiles: 50})
	s := newService(b, sim, func(c *config.Config) {
		c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 10*time.Second, 15*time.Second, 5*time.Second
		c.Stream.Heartbeat = time.Second
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
		var heard atomic.Int64
		var dialing sync.WaitGroup
		conns := make([]net.Conn, streams)
		for lane := range 64 {
			dialing.Go(func() {
				for i := lane; i < streams; i += 64 {
					conns[i] = follow(b, s.address, agents[i].ID, &heard)
				}
			})
		}
		dialing.Wait()
		s.until(b, "every stream is open and has a pulse", func() bool { return heard.Load() == streams })
		after := s.resident(b)
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		s.kill(b)
		s.freeLease(b)
		each += float64(after-before) / streams / 1024
		inAll += float64(after) / (1 << 20)
	}
	b.ReportMetric(each/float64(b.N), "KiB/stream")
	b.ReportMetric(inAll/float64(b.N), "MiB-in-all")
	b.ReportMetric(0, "ns/op")
	require.Less(b, each/float64(b.N), 30.0)
}

// follow opens a stream as a browser does and counts it once it has got its snapshot and two heartbeats.
func follow(b *testing.B, address, agent string, heard *atomic.Int64) net.Conn {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Error(err)
		return nil
	}
	fmt.Fprintf(conn, "GET /v1/agents/%s/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"+
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"+
		"Accept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nCache-Control: no-cache\r\nSec-Fetch-Mode: cors\r\n\r\n", agent)
	go func() {
		snapshot, beats, counted := false, 0, false
		buf := make([]byte, 2048)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			snapshot = snapshot || bytes.Contains(buf[:n], []byte("event: snapshot"))
			beats += bytes.Count(buf[:n], []byte("\n:")) + bytes.Count(buf[:min(n, 1)], []byte(":"))
			if !counted && snapshot && beats >= 2 {
				counted = true
				heard.Add(1)
			}
		}
	}()
	return conn
}

// resident is the memory of the process, in bytes.
func (s *service) resident(b *testing.B) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.process.Process.Pid))
	require.NoError(b, err)
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	require.NoError(b, err)
	return pages * int64(os.Getpagesize())
}
