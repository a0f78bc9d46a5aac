package store_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// wire stands between a program and PostgreSQL, counts what is executed, and can freeze: it then forwards nothing any more and
// closes nothing, like a process that was stopped or a network that swallows.
type wire struct {
	url      string
	executed atomic.Int64 // Execute and simple Query messages
	// freeze chooses the message, by its type and size, in whose middle the wire freezes; nil: none. A message without a middle is
	// kept back whole.
	freeze atomic.Pointer[func(kind byte, size int) bool]
	frozen chan struct{}
	once   sync.Once
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	config, err := pgx.ParseConfig(target)
	require.NoError(t, err)
	network, address := pgxNetwork(config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{frozen: make(chan struct{})}
	q := url.Values{"sslmode": {"disable"}}
	w.url = "postgres://" + config.User + "@" + listener.Addr().String() + "/" + config.Database + "?" + q.Encode()

	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			wg.Go(func() { w.forward(server, client) })
			wg.Go(func() {
				defer client.Close()
				buf := make([]byte, 32<<10)
				for {
					n, err := server.Read(buf)
					if err != nil {
						return
					}
					if w.isFrozen() {
						continue
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return w
}

func pgxNetwork(config *pgx.ConnConfig) (network, address string) {
	return "unix", config.Host + "/.s.PGSQL.5432"
}

func (w *wire) isFrozen() bool {
	select {
	case <-w.frozen:
		return true
	default:
		return false
	}
}

// forward sends the client's messages on and looks at their types.
func (w *wire) forward(server, client net.Conn) {
	defer func() {
		if !w.isFrozen() {
			server.Close()
		}
	}()
	startup := true
	for {
		header := make([]byte, 5)
		if startup { // the first message has no type
			header = header[:4]
		}
		if _, err := io.ReadFull(client, header); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[len(header)-4:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		// The pool pings a connection that was idle for a second, as may happen on a busy machine.
		if !startup && (header[0] == 'E' || header[0] == 'Q') && !bytes.HasPrefix(body, []byte("-- ping")) {
			w.executed.Add(1)
		}
		message := append(header, body...)
		if freeze := w.freeze.Load(); !startup && freeze != nil && !w.isFrozen() && (*freeze)(header[0], len(body)) {
			message = message[:len(message)/2]
			w.once.Do(func() { close(w.frozen) })
		}
		startup = false
		if _, err := server.Write(message); err != nil {
			return
		}
		if w.isFrozen() {
			_, _ = io.Copy(io.Discard, client) // until the test ends
			return
		}
	}
}
