package nemesis

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a replica and PostgreSQL, and can be the network that fails.
type proxy struct {
	listener net.Listener
	target   string // PostgreSQL's Unix socket
	wg       sync.WaitGroup

	mu     sync.Mutex
	moved  *sync.Cond // when one of these changes:
	open   map[net.Conn]bool
	refuse bool
	trap   bool // the next transaction that is begun makes it silent
	silent bool // nothing passes…
	spared bool // …but that transaction
	caught net.Conn
	shut   bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, target: target, open: map[net.Conn]bool{}}
	p.moved = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.mend()
		p.mu.Lock()
		p.shut = true
		p.mu.Unlock()
		l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.mu.Lock()
		refuse := p.refuse || p.shut
		if !refuse {
			p.open[client] = true
		}
		p.mu.Unlock()
		if refuse {
			reset(client)
			continue
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer p.forget(client)
	p.wait(client, nil)
	server, err := net.Dial("unix", p.target)
	if err != nil {
		reset(client)
		return
	}
	defer server.Close()
	p.wg.Go(func() {
		p.copy(server, client, client)
		server.Close()
	})
	p.copy(client, server, client)
}

// wait returns when what was said on a connection may pass.
func (p *proxy) wait(client net.Conn, said []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trap && bytes.Contains(said, []byte("begin\x00")) { // as the driver says it
		p.trap, p.silent, p.caught = false, true, client
	}
	for p.silent && !(p.spared && p.caught == client) {
		p.moved.Wait()
	}
}

func (p *proxy) copy(to, from, client net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			p.wait(client, b[:n])
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				reset(to)
			}
			return
		}
	}
}

func (p *proxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// cut breaks every connection that there is.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		reset(c)
	}
}

// lose breaks every connection and refuses new ones.
func (p *proxy) lose() {
	p.mu.Lock()
	p.refuse = true
	p.mu.Unlock()
	p.cut()
}

// hang keeps the connections and carries nothing.
func (p *proxy) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
}

// hangInCommit hangs as soon as a transaction is begun, which is not carried either.
func (p *proxy) hangInCommit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = !p.silent
}

// hangs says whether it does.
func (p *proxy) hangs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent
}

// spare carries the transaction on which it hangs, and nothing else yet.
func (p *proxy) spare() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spared = true
	p.moved.Broadcast()
}

// mend carries everything again, what was held back first.
func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse, p.trap, p.silent, p.spared, p.caught = false, false, false, false, nil
	p.moved.Broadcast()
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}
