package stream

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

// Attack: clients that connect and go away as fast as they can, some without a word and some with a reset, some before they have read anything,
// while failovers happen all the time. Those who stay hear everything once and in order, and nothing is left of those who went.
func TestChurnWhileEventsCome(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.Heartbeat = 100 * time.Millisecond })
	server := serveLive(t, h.hub)
	goroutines := runtime.NumGoroutine()
	const stay, rounds = 20, 150
	var staying []*reading
	for i := range stay {
		r := read(t, server.Client(), server.URL+"/agents/agent-"+strconv.Itoa(i), "")
		r.expect(t, "snapshot")
		staying = append(staying, r)
	}
	stop := make(chan struct{})
	var churn sync.WaitGroup
	var came atomic.Int64
	for lane := range 32 {
		churn.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(lane)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				hitAndRun(server, random)
				came.Add(1)
			}
		})
	}
	for round := range rounds {
		var events []failover.Event
		for i := range stay {
			events = append(events, detected("agent-"+strconv.Itoa(i), strconv.Itoa(round)))
		}
		s.commit(events...)
		<-time.After(5 * time.Millisecond)
	}
	close(stop)
	churn.Wait()
	t.Logf("%d came and went", came.Load())
	for _, r := range staying {
		for round := range rounds {
			select {
			case f := <-r.frames:
				require.Contains(t, f, `"failoverId":"`+strconv.Itoa(round)+`"`)
			case <-time.After(10 * time.Second):
				require.Fail(t, "nothing came", "round %d", round)
			}
		}
		r.cancel()
	}
	server.Client().CloseIdleConnections()
	eventually(t, func() bool { return h.metric("stream_connections") == 0 })
	eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+20 })
	h.hub.mu.Lock()
	defer h.hub.mu.Unlock()
	require.Empty(t, h.hub.conns)
	require.Empty(t, h.hub.agents)
	for _, slot := range h.hub.wheel.slots {
		require.Empty(t, slot)
	}
}

// hitAndRun opens a stream, reads a little or nothing of it, and goes away without a word or with a reset.
func hitAndRun(server *httptest.Server, random *rand.Rand) {
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /agents/agent-%d HTTP/1.1\r\nHost: x\r\n\r\n", random.IntN(20))
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // a refusal is shorter
	if random.IntN(3) > 0 {
		_, _ = io.ReadFull(conn, make([]byte, random.IntN(600)))
	}
	if random.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
}

// A replica stops while a floor is still coming to it: whoever was let in is told where to go on from, whoever comes later is turned away, and
// the end comes in time.
func TestDrainInTheMiddleOfAHerd(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.Drain = 300 * time.Millisecond })
	server := serveLive(t, h.hub)
	s.commit(detected("agent-1", "f1"))
	cursor := Cursor{s.logID, s.epoch, 1}.String()
	const lanes, each = 16, 100
	var ended [3]atomic.Int64 // told, refused, neither
	var herd sync.WaitGroup
	for lane := range lanes {
		herd.Go(func() {
			for i := range each {
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					ended[2].Add(1)
					continue
				}
				fmt.Fprintf(conn, "GET /agents/agent-%d-%d HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %s\r\nConnection: close\r\n\r\n", lane, i, cursor)
				herd.Go(func() {
					defer conn.Close()
					body, err := io.ReadAll(bufio.NewReader(conn))
					switch {
					case err == nil && strings.Contains(string(body), "event: draining") && strings.Contains(string(body), "id: "+cursor):
						ended[0].Add(1)
					case err == nil && strings.Contains(string(body), ": "+refusedDrain):
						ended[1].Add(1)
					default:
						ended[2].Add(1)
					}
				})
			}
		})
	}
	eventually(t, func() bool { return h.metric("stream_connections") > lanes })
	began := time.Now()
	h.hub.Drain(t.Context())
	require.Less(t, time.Since(began), 5*time.Second)
	herd.Wait()
	require.Positive(t, ended[0].Load())
	require.Zero(t, ended[2].Load(), "%d told, %d refused", ended[0].Load(), ended[1].Load())
	require.InDelta(t, 0, h.metric("stream_connections"), 0)
}

// Attack: a client reads one byte at a time, so that every write makes a little way. The deadline is that of the whole write.
func TestClientThatReadsByteByByteIsCutOff(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.WriteTimeout = 300 * time.Millisecond })
	server := serveLive(t, h.hub)
	conn := dial(t, server, "GET /agents/agent-1 HTTP/1.1\r\nHost: x\r\n\r\n")
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for b := make([]byte, 1); ; {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if _, err := conn.Read(b); err != nil {
				return
			}
		}
	})
	eventually(t, func() bool { return h.hub.Connections("agent-1") == 1 })
	long := strings.Repeat("x", 64<<10)
	eventually(t, func() bool {
		s.commit(event("agent-1", failover.EventConfigureError, failover.Event{Code: "TDG_NOT_FOUND", Message: long}))
		return h.metric("stream_closed_total", "reason=slow") == 1
	})
	close(stop)
	reading.Wait()
}
