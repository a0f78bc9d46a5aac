package edge

import (
	"container/heap"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Why there was no room for a connection: the label of changeover_http_connections_rejected_total.
const (
	rejectedTotal   = "total"   // MaxConnections, and all were known
	rejectedAddress = "address" // MaxConnectionsPerAddress, and all were known
	rejectedEvicted = "evicted" // it made room for a newer one
)

// reportInterval is how often the log tells that there is no room.
const reportInterval = time.Minute

// gate counts connections and makes room for new ones.
type gate struct {
	max, perAddress int // 0: no limit
	trusted         proxies
	log             *slog.Logger
	metrics         *Metrics

	mu        sync.Mutex
	open      int
	admitted  uint64                  // so far
	addresses map[netip.Addr]*address // those with connections
	crowds    crowds                  // those with connections on which nobody is known
	reported  time.Time               // when the log last told that there was no room
}

// address is where connections come from.
type address struct {
	open      int
	anonymous list.List // of *conn on which nobody is known, oldest first
	place     int       // in crowds, if there is one
}

// crowds is a heap: the address with most connections on which nobody is known comes first, among equals that with the oldest
// one.
type crowds []*address

func (c crowds) Len() int { return len(c) }

func (c crowds) Less(i, j int) bool {
	a, b := &c[i].anonymous, &c[j].anonymous
	if a.Len() != b.Len() {
		return a.Len() > b.Len()
	}
	return a.Front().Value.(*conn).number < b.Front().Value.(*conn).number
}

func (c crowds) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].place, c[j].place = i, j
}

// Push implements heap.Interface.
func (c *crowds) Push(a any) {
	a.(*address).place = len(*c)
	*c = append(*c, a.(*address))
}

// Pop implements heap.Interface.
func (c *crowds) Pop() any {
	last := (*c)[len(*c)-1]
	(*c)[len(*c)-1] = nil
	*c = (*c)[:len(*c)-1]
	return last
}

func newGate(o Options, trusted proxies) *gate {
	g := &gate{
		max: o.MaxConnections, perAddress: o.MaxConnectionsPerAddress, trusted: trusted, log: o.Log, metrics: o.Metrics,
		addresses: make(map[netip.Addr]*address),
	}
	// Without a free descriptor nothing is accepted and the database is not reached: the files that the process may open
	// are the limit behind the limit.
	if files := maxOpenFiles(); files > 0 {
		if room := files - min(files/4, reservedFiles); g.max == 0 || room < g.max {
			if g.max > 0 {
				g.log.Info("the process may open fewer files than http.maxConnections", "max_connections", g.max, "open_files", files, "connections", room)
			}
			g.max = room
		}
	}
	return g
}

// reservedFiles are left for the database, Amazon Connect, files and the listeners.
const reservedFiles = 256

// admit registers a connection, at the cost of another one if there has to be one; nil: there is no room.
func (g *gate) admit(raw net.Conn) *conn {
	from, _ := parseAddress(raw.RemoteAddr().String())
	limited := g.perAddress > 0 && !g.trusted.contain(from)
	c := &conn{Conn: raw, gate: g, from: group(from)}

	g.mu.Lock()
	a := g.addresses[c.from]
	if a == nil {
		a = &address{}
	}
	var victim *list.Element
	reason := ""
	switch {
	case limited && a.open >= g.perAddress:
		reason, victim = rejectedAddress, a.anonymous.Front()
	case g.max > 0 && g.open >= g.max:
		reason = rejectedTotal
		if len(g.crowds) > 0 {
			victim = g.crowds[0].anonymous.Front()
		}
	}
	report := reason != "" && time.Since(g.reported) >= reportInterval
	if report {
		g.reported = time.Now()
	}
	var evicted *conn
	if victim != nil {
		evicted = victim.Value.(*conn)
		g.forget(evicted)
		reason = rejectedEvicted
	}
	admitted := reason == "" || evicted != nil
	if admitted {
		g.addresses[c.from] = a
		a.open++
		g.open++
		g.admitted++
		c.number = g.admitted
		c.element = a.anonymous.PushBack(c)
		if a.anonymous.Len() == 1 {
			heap.Push(&g.crowds, a)
		} else {
			heap.Fix(&g.crowds, a.place)
		}
		g.metrics.connections.Inc()
	}
	open, held := g.open, a.open
	g.mu.Unlock()

	if reason != "" {
		g.metrics.rejected.WithLabelValues(reason).Inc()
	}
	if report {
		g.log.Warn("connections are at their limit; those of unknown callers make room, the oldest of the largest crowd first", "connections", open,
			"address", c.from, "connections_of_address", held, "hint", "a proxy or load balancer belongs into http.trustedProxies")
	}
	if evicted != nil {
		_ = evicted.Conn.Close() // its goroutine finds out
	}
	if !admitted {
		return nil
	}
	return c
}

// forget takes a connection out of the books; again is harmless. The caller holds the mutex.
func (g *gate) forget(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	g.settle(c)
	a := g.addresses[c.from]
	a.open--
	g.open--
	if a.open == 0 {
		delete(g.addresses, c.from)
	}
	g.metrics.connections.Dec()
}

// settle takes a connection from those that make room. The caller holds the mutex.
func (g *gate) settle(c *conn) {
	if c.element == nil {
		return
	}
	a := g.addresses[c.from]
	if a.anonymous.Len() == 1 { // before it is empty: the heap compares
		heap.Remove(&g.crowds, a.place)
		a.anonymous.Remove(c.element)
	} else {
		a.anonymous.Remove(c.element)
		heap.Fix(&g.crowds, a.place)
	}
	c.element = nil
}

// closeUnused closes the connections on which no request has come yet.
func (g *gate) closeUnused() {
	g.mu.Lock()
	var unused []*conn
	for _, a := range g.crowds {
		for e := a.anonymous.Front(); e != nil; e = e.Next() {
			if c := e.Value.(*conn); !c.used.Load() {
				unused = append(unused, c)
			}
		}
	}
	g.mu.Unlock()
	for _, c := range unused {
		_ = c.Close()
	}
}

// listener admits what it accepts.
type listener struct {
	net.Listener
	gate *gate
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.gate.admit(raw); c != nil {
			return c, nil
		}
		_ = raw.Close()
	}
}

// conn is a connection that counts until it is closed.
type conn struct {
	net.Conn
	gate *gate
	from netip.Addr
	used atomic.Bool // a request has come

	// Guarded by the gate's mutex.
	gone    bool
	number  uint64
	element *list.Element // of its address's anonymous; nil: the caller is known

	known atomic.Bool // the same, to be read without the mutex
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.gate.mu.Lock()
	c.gate.forget(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end a connection so that the client reads the answer before it.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection itself, for options of the socket, as that of *tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }

type connKey struct{}

// withConn lets a request's context know its connection.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// Identified says that the caller who sent the request with this context has proved who they are: the connection is not
// closed any more to make room for another.
func Identified(ctx context.Context) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok || c.known.Swap(true) {
		return
	}
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.settle(c)
}
