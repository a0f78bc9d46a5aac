package stream

import (
	"errors"
	"math"
	"time"

	"github.com/r3labs/sse/v2"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// feedBatch is how many events a feeder takes at a time.
const feedBatch = 256

// step is what a feeder does next.
type step struct {
	over   bool            // the stream is live, or has ended: the feeder ends
	bye    *sse.Event      // say this first
	wait   <-chan struct{} // for this, or the connection's end
	frames []*frame        // send these
	reset  string          // start anew: send a reset for this reason…
	views  []*store.AgentView
	logID  string
	at     store.Position // …and the snapshots, true at this position
	replay bool           // ask the database for events after the stream's position, up to at
}

// startFeeder lets a live stream go on by itself. The caller holds the mutex.
func (h *Hub) startFeeder(c *conn) {
	c.live = false
	c.stop = make(chan struct{})
	h.wg.Add(1)
	go func() { defer h.wg.Done(); h.feed(c) }()
}

// feed brings a stream to the present: snapshot or missed events first, then what happened meanwhile, until nothing is
// left and the tail takes over under the same lock that showed it, so there is no gap between history and live. The
// stream of all agents is fed like this for all of its life.
//
// It publishes with Publish, which waits for the client. A client that does not read ends that by its write deadline.
func (h *Hub) feed(c *conn) {
	for {
		h.mu.Lock()
		s := h.next(c)
		stop := c.stop
		h.mu.Unlock()
		switch {
		case s.over:
			if s.bye != nil {
				h.server.Publish(c.id, s.bye)
				h.server.Publish(c.id, endOfStream)
			}
			return
		case s.wait != nil:
			select {
			case <-s.wait:
			case <-stop:
			}
		case s.replay:
			h.replay(c, s, stop)
		case s.frames != nil:
			h.send(c, s.frames, stop)
		default:
			h.sendSnapshots(c, s, stop)
		}
	}
}

// next decides. The caller holds the mutex.
func (h *Hub) next(c *conn) step {
	if c.ending != "" {
		if c.ending == closedDraining || c.ending == closedExpired {
			return step{over: true, bye: h.farewell(c)}
		}
		return step{over: true}
	}
	m := h.mem
	if m == nil {
		return step{wait: h.changed}
	}
	if c.begun && c.load != h.load {
		c.begun, c.resume = false, &resumption{reset: resetLost}
	}
	c.load = h.load
	if !c.begun {
		reset, wait := "", (<-chan struct{})(nil)
		if c.resume != nil {
			reset, wait = h.verdict(c.resume)
		}
		if wait != nil {
			return step{wait: wait}
		}
		c.begun = true
		if c.resume == nil || reset != "" {
			c.resume, c.told = nil, false
			c.measureFrom.Store(math.MaxInt64)
			return step{reset: reset, views: m.viewsFor(c.agent), logID: m.logID, at: m.head}
		}
		c.at, c.told, c.resume = c.resume.cursor.position(), true, nil
	}
	if c.agent == "" {
		frames, ok := m.sinceAll(c.at.Seq, feedBatch)
		if len(frames) > 0 && ok {
			return step{frames: frames}
		}
		if ok {
			h.measureFromHere(c)
			return step{wait: h.changed}
		}
	} else {
		frames, ok := m.since(c.agent, c.at.Seq, feedBatch)
		if len(frames) > 0 && ok {
			return step{frames: frames}
		}
		if ok {
			h.measureFromHere(c)
			c.live, c.stop = true, nil
			return step{over: true}
		}
	}
	if m.pruned(c.at.Seq) {
		c.begun, c.resume = false, &resumption{reset: resetPruned}
		return h.next(c)
	}
	return step{replay: true, at: m.head, logID: m.logID}
}

// verdict says whether a client can go on from where it was: a reason why not, or what to wait for before that is known.
// The caller holds the mutex.
func (h *Hub) verdict(r *resumption) (reset string, wait <-chan struct{}) {
	if r.reset != "" {
		return r.reset, nil
	}
	v := h.mem.check(r.cursor)
	if !v.ahead {
		return v.reset, nil
	}
	// Another replica read it already. A poll that began after it was asked for tells whether the log has it.
	if r.asked == 0 {
		r.asked = h.begun
	}
	if h.complete <= r.asked {
		h.ring()
		return "", h.polled
	}
	return resetUnknown, nil
}

// measureFromHere begins to measure deliveries once the stream has caught up for the first time: what it missed while
// it was away says nothing about this service.
func (h *Hub) measureFromHere(c *conn) {
	if c.measureFrom.Load() == math.MaxInt64 {
		c.measureFrom.Store(h.mem.head.Seq)
	}
}

// send publishes events. What is left when the connection ends is told on the next one.
func (h *Hub) send(c *conn, frames []*frame, stop <-chan struct{}) {
	for _, f := range frames {
		select {
		case <-stop:
			return
		default:
		}
		if f.event != nil {
			h.server.Publish(c.id, f.event)
			h.count(string(f.event.Event), 1)
		}
		c.at = f.position
	}
}

// sendSnapshots begins a stream anew. Only the id of the last snapshot is one to resume from: whoever is cut off before has
// not been told everything.
func (h *Hub) sendSnapshots(c *conn, s step, stop <-chan struct{}) {
	if s.reset != "" {
		h.server.Publish(c.id, resetEvent(s.logID, s.at, c.agent, s.reset, time.Now()))
		h.count(eventReset, 1)
	}
	for i, v := range s.views {
		select {
		case <-stop:
			return
		default:
		}
		id := nowhere(s.logID, s.at)
		if i == len(s.views)-1 {
			id = Cursor{LogID: s.logID, Epoch: s.at.Epoch, Seq: s.at.Seq}
		}
		h.server.Publish(c.id, snapshotEvent(id, v, h.o.CCPURL(v.Group, v.ActiveRegion), time.Now()))
		h.count(string(failover.EventSnapshot), 1)
	}
	c.at, c.told = s.at, true
}

// replay sends what is older than memory.
func (h *Hub) replay(c *conn, s step, stop <-chan struct{}) {
	r := h.replays.ask(c.agent, c.at, s.at, stop)
	switch {
	case errors.Is(r.err, store.ErrPruned):
		c.begun, c.resume = false, &resumption{reset: resetPruned}
	case r.err != nil:
		// The database is away. The stream stays open with its heartbeats.
		select {
		case <-time.After(spread(pollInterval/2, 2*pollInterval)):
		case <-stop:
		}
	default:
		h.send(c, framesOf(s.logID, r.rows, h.log), stop)
		select {
		case <-stop: // perhaps not all of them
		default:
			c.at = r.upto
		}
	}
}
