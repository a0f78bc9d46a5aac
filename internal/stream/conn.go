package stream

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"changeover/internal/store"
)

// conn is one open event stream: one connection of one desktop, or of one reader of all agents.
//
// While nothing is to be told it is this struct and a goroutine that waits for the client to go away ([conn.watch]). A goroutine that
// writes exists only while there is something to write ([Hub.write]): so no queue, timer or buffer waits with an idle
// stream, and one that cannot be written to holds up nothing but its own writer.
type conn struct {
	hub      *Hub
	number   uint64 // of the connection, on this replica
	agent    string // empty: all agents
	remote   string
	last     string // the cursor that it came with, if it was one
	since    time.Time
	out      transport
	until    time.Time // when the caller's right to the stream ends; zero: never
	nextConn *conn     // the next of the same agent; the Hub's mutex guards it
	wheelPos wheelPos

	// The writer's own.
	at          store.Position // everything up to here was sent
	told        bool           // at is true: a client may resume from it
	resume      *resumption    // what the client came with, until it was answered; nil: it does not resume
	replaying   *replayRequest // what was asked of the database, until it was answered
	begun       bool           // the snapshot is sent, or the cursor accepted
	load        int            // the load of the log that at belongs to
	measureFrom int64          // of events after this seq the way to the socket is measured

	mu      sync.Mutex // may be locked under the Hub's, never the other way round
	live    bool       // the writer has caught up: the tail puts events into pending
	writing bool       // there is a writer
	beat    bool       // a heartbeat is due
	dead    bool       // nothing can be written any more
	ending  string     // why the connection ends; empty: it does not
	pending []*frame   // behind at
	expiry  *time.Timer
	poke    chan struct{} // wakes a writer that waits; nil: none ever did
	rested  chan struct{} // closed by the writer at its end; nil: nobody waits for that
}

// resumption is the position that a client asked to go on from.
type resumption struct {
	cursor Cursor
	reset  string // it cannot, and why
	asked  int64  // the poll under way when it was found ahead of this replica
}

// maxPending is how many events may wait for a writer. Few: a stream that has more goes on by itself from the log, as fast as
// it can be written to.
const maxPending = 16

// tell hands over live events, in their turn. Where too many wait already, the stream is not live any more: its writer finds the rest
// in the log. Nobody waits for it. The caller holds the Hub's mutex.
func (c *conn) tell(frames []*frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.live || c.ending != "":
	case len(c.pending) >= maxPending, len(frames) > maxPending:
		c.live = false
		c.wake()
	default:
		c.pending = append(c.pending, frames...)
		c.wake()
	}
}

// heartbeat asks for a sign of life.
func (c *conn) heartbeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == "" {
		c.beat = true
		c.wake()
	}
}

// again lets a live stream look at the log by itself.
func (c *conn) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live {
		c.live = false
		c.wake()
	}
}

// end closes the connection: its writer says farewell behind everything that it has under way.
func (c *conn) end(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(reason)
}

func (c *conn) endLocked(reason string) {
	if c.ending == "" {
		c.ending = reason
		c.wake()
	}
}

// die says that nothing can be written any more, and why if nothing else has ended the connection. It returns what has.
func (c *conn) die(reason string) (why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == "" {
		c.ending = reason
	}
	c.dead = true
	if c.expiry != nil {
		c.expiry.Stop()
	}
	if c.writing {
		c.wake()
	}
	return c.ending
}

// expiryNotice is how long before its end a client is told that its token expires, so that it comes back with another one. It is
// jittered because tokens of a whole floor are issued together in the morning.
const expiryNotice, expiryNoticeMost = 2 * time.Second, 10 * time.Second

// expire arranges for the end of the caller's right to the stream, if it comes before somebody asks again after interval: hours
// before that, no timer waits.
func (c *conn) expire(now time.Time, interval time.Duration) {
	if c.until.IsZero() || c.until.Sub(now) > 2*interval+expiryNoticeMost {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expiry != nil || c.dead {
		return
	}
	left := c.until.Sub(now)
	notice := min(spread(expiryNotice, expiryNoticeMost), left/2)
	c.expiry = time.AfterFunc(left-notice, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.dead {
			return
		}
		// Whatever the client does, it does not go on for longer.
		c.expiry = time.AfterFunc(time.Until(c.until), c.out.abort)
		c.endLocked(closedExpired)
	})
}

// wake makes sure that a writer looks at what there is to do. The caller holds the mutex.
func (c *conn) wake() {
	switch {
	case !c.writing:
		c.writing = true
		c.hub.wg.Add(1)
		go c.hub.write(c)
	case c.poke != nil:
		select {
		case c.poke <- struct{}{}:
		default:
		}
	}
}

// task is what a writer does next: one of them, or, if there is none, it catches up with the log.
type task struct {
	over   bool // nothing: the writer ends
	frames []*frame
	ending string          // say farewell
	beat   bool            // send a heartbeat
	poke   <-chan struct{} // nothing, but it may come to
}

// task decides; waiting says that catching up has to wait for something.
func (c *conn) task(waiting bool) (t task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
		t.over = true
	case len(c.pending) > 0:
		t.frames, c.pending = c.pending, nil
	case c.ending != "":
		t.ending = c.ending
	case c.beat:
		t.beat, c.beat = true, false
	case c.live:
		t.over = true
	case waiting:
		if c.poke == nil {
			c.poke = make(chan struct{}, 1)
		}
		t.poke = c.poke
	}
	if t.over {
		c.writing, c.pending, c.poke = false, nil, nil
		if c.rested != nil {
			close(c.rested)
		}
	}
	return t
}

// leaving says that the connection ends: what is left to tell is told on the next one.
func (c *conn) leaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != ""
}

// rest waits until nothing is being written. The connection is dead.
func (c *conn) rest() {
	c.mu.Lock()
	if !c.writing {
		c.mu.Unlock()
		return
	}
	rested := make(chan struct{})
	c.rested = rested
	c.mu.Unlock()
	<-rested
}

// watch waits until the client is gone.
func (c *conn) watch() {
	c.out.gone()
	c.hub.drop(c)
}

// transmit sends pieces, and ends the connection if it cannot. It says whether they were sent.
func (c *conn) transmit(pieces ...piece) bool {
	err := c.out.write(pieces)
	if err == nil {
		return true
	}
	reason := closedClient
	if errors.Is(err, os.ErrDeadlineExceeded) {
		reason = closedSlow
	}
	c.die(reason)
	c.out.abort() // a frame may have been cut in the middle: nothing may follow it
	return false
}

// id is that of the connection in the registry.
func (c *conn) id() string { return c.hub.prefix + strconv.FormatUint(c.number, 36) }

// entry is the connection as the registry shows it.
func (c *conn) entry() store.Connection {
	return store.Connection{
		ID: c.id(), Replica: c.hub.o.Replica, AgentID: c.agent, Since: c.since, LastEventID: c.last, RemoteAddr: c.remote,
	}
}
