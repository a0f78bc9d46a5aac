package postgrestest

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy is a TCP address that leads to a database, and fails as networks do. It ends with the test.
type Proxy struct {
	t        testing.TB
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	to    *pgx.ConnConfig
	mode  proxyMode
	delay time.Duration
	links map[*link]bool
}

type proxyMode int

const (
	open   proxyMode = iota
	cut              // whoever comes is turned away
	silent           // whoever comes is let in, and nothing is said
)

// NewProxy makes a proxy that leads to the database of a URL.
func NewProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, links: map[*link]bool{}}
	p.Lead(to)
	var err error
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.listener.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// URL is that of the database, by way of the proxy.
func (p *Proxy) URL() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "postgres://" + p.to.User + "@" + p.Addr() + "/" + url.PathEscape(p.to.Database) + "?sslmode=disable"
}

// Addr is the proxy's host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Lead sends whoever comes from now on to another database, as a changed DNS record does.
func (p *Proxy) Lead(to string) {
	config, err := pgx.ParseConfig(to)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = config
}

// Drop breaks every connection; new ones are let in.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// Cut breaks every connection and refuses new ones.
func (p *Proxy) Cut() {
	p.set(cut)
	p.Drop()
}

// Silence forwards nothing any more and closes nothing; who comes is let in and hears nothing. Connections of that time stay silent
// after [Proxy.Restore], as those do that a firewall has forgotten.
func (p *Proxy) Silence() {
	p.set(silent)
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.silence()
	}
}

// Delay makes everything that is sent, in both directions, arrive that much later.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Restore lets connections through again, without delay.
func (p *Proxy) Restore() {
	p.set(open)
	p.Delay(0)
}

func (p *Proxy) set(m proxyMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		l := &link{p: p, client: client, mute: make(chan struct{}), over: make(chan struct{})}
		mode, to := p.mode, p.to
		if mode == cut {
			p.mu.Unlock()
			client.Close()
			continue
		}
		p.links[l] = true
		p.mu.Unlock()
		if mode == silent {
			l.silence()
		} else {
			network, address := pgconn.NetworkAddress(to.Host, to.Port)
			if l.server, err = net.Dial(network, address); err != nil {
				l.close()
				p.forget(l)
				continue
			}
		}
		p.wg.Go(func() {
			l.run()
			p.forget(l)
		})
	}
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// link is one connection through the proxy.
type link struct {
	p              *Proxy
	client, server net.Conn
	muting, ending sync.Once
	mute, over     chan struct{}
}

func (l *link) silence() { l.muting.Do(func() { close(l.mute) }) }

func (l *link) close() {
	l.ending.Do(func() {
		close(l.over)
		l.client.Close()
	})
}

func (l *link) run() {
	var wg sync.WaitGroup
	if l.server != nil {
		wg.Go(func() { l.forward(l.server, l.client) })
		wg.Go(func() { l.forward(l.client, l.server) })
	}
	<-l.over
	if l.server != nil {
		l.server.Close()
	}
	wg.Wait()
}

// forward sends on what is read, each part after the delay of its time.
func (l *link) forward(to, from net.Conn) {
	type part struct {
		data []byte
		due  time.Time
	}
	parts := make(chan part, 1024)
	var writer sync.WaitGroup
	writer.Go(func() {
		for part := range parts {
			if wait := time.Until(part.due); wait > 0 {
				select {
				case <-time.After(wait):
				case <-l.over:
				}
			}
			select {
			case <-l.mute:
			default:
				_, _ = to.Write(part.data) // a broken connection is noticed by its reader
			}
		}
	})
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			l.p.mu.Lock()
			due := time.Now().Add(l.p.delay)
			l.p.mu.Unlock()
			parts <- part{buf[:n], due}
		}
		if err != nil {
			break
		}
	}
	close(parts)
	writer.Wait()
	select {
	case <-l.mute: // the end is not forwarded either
	default:
		l.close()
	}
}
