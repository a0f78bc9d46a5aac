package stream

import (
	"errors"
	"math"
	"time"

	"github.com/r3labs/sse/v2"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// feedBatch is how many events a writer takes from memory at a time.
const feedBatch = 256

// writeSize is how much is put together for one write.
const writeSize = 16 << 10

// write is a stream's writer. It ends when there is nothing left to tell.
func (h *Hub) write(c *conn) {
	defer h.wg.Done()
	var wait <-chan struct{}
	for {
		t := c.task(wait != nil)
		switch {
		case t.over:
			return
		case t.frames != nil:
			h.send(c, t.frames)
		case t.ending != "":
			h.sayFarewell(c, t.ending)
		case t.beat:
			c.transmit(heartbeat)
		case wait != nil:
			select {
			case <-wait:
				wait = nil
			case <-t.poke:
			}
		default:
			wait = h.catchUp(c)
		}
	}
}

// step is how a stream comes nearer to the present.
type step struct {
	live   bool            // it is there
	wait   <-chan struct{} // for this
	frames []*frame        // send these
	reset  string          // start anew: send a reset for this reason…
	views  []store.AgentView
	logID  string
	at     store.Position // …and the snapshots, true at this position
	replay bool           // ask the database for events after the stream's position, up to at
}

// catchUp brings a stream nearer to the present: snapshot or missed events first, then what happened meanwhile, until nothing is
// left and the tail takes over under the same lock that showed it, so there is no gap between history and live. The
// stream of all agents is fed like this for all of its life. It returns what to wait for before it is called again; nil: nothing.
func (h *Hub) catchUp(c *conn) (wait <-chan struct{}) {
	if r := c.replaying; r != nil {
		select {
		case <-r.done:
			c.replaying = nil
			return h.tellReplayed(c, r)
		default:
			return r.done
		}
	}
	h.mu.Lock()
	s := h.next(c)
	h.mu.Unlock()
	switch {
	case s.live, s.wait != nil:
		return s.wait
	case s.replay:
		c.replaying = h.replays.ask(c.agent, c.at, s, c.leaving)
		return c.replaying.done
	case s.frames != nil:
		h.send(c, s.frames)
	default:
		h.sendSnapshots(c, s)
	}
	return nil
}

// next decides. The caller holds the mutex.
func (h *Hub) next(c *conn) step {
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
			c.resume, c.told, c.measureFrom = nil, false, math.MaxInt64
			return step{reset: reset, views: m.viewsFor(c.agent), logID: m.logID, at: m.head}
		}
		c.at, c.told, c.resume = c.resume.cursor.position(), true, nil
	}
	var frames []*frame
	var ok bool
	if c.agent == "" {
		frames, ok = m.sinceAll(c.at.Seq, feedBatch)
	} else {
		frames, ok = m.since(c.agent, c.at.Seq, feedBatch)
	}
	switch {
	case ok && len(frames) > 0:
		return step{frames: frames}
	case ok && c.agent == "":
		h.measureFromHere(c)
		return step{wait: h.changed}
	case ok:
		h.measureFromHere(c)
		c.mu.Lock()
		c.live = true
		c.mu.Unlock()
		return step{live: true}
	case m.pruned(c.at.Seq):
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
		r.asked, h.doubted = h.begun, h.begun
	}
	if h.complete <= r.asked {
		h.Ring()
		return "", h.polled
	}
	return resetUnknown, nil
}

// measureFromHere begins to measure deliveries once the stream has caught up for the first time: what it missed while
// it was away says nothing about this service.
func (h *Hub) measureFromHere(c *conn) {
	if c.measureFrom == math.MaxInt64 {
		c.measureFrom = h.mem.head.Seq
	}
}

// send tells events, several with one write where there are several. What is left when the connection ends is told on the
// next one.
func (h *Hub) send(c *conn, frames []*frame) {
	for len(frames) > 0 && !c.leaving() {
		var pieces []piece
		size, n := 0, 0
		for n < len(frames) && size < writeSize {
			if f := frames[n]; f.name != "" {
				pieces = append(pieces, f.piece)
				size += len(f.chunk)
			}
			n++
		}
		if len(pieces) > 0 && !c.transmit(pieces...) {
			return
		}
		h.sent(c, frames[:n])
		frames = frames[n:]
	}
}

// sent takes note of events that a stream has told.
func (h *Hub) sent(c *conn, frames []*frame) {
	now := time.Now()
	for _, f := range frames {
		c.at = f.position
		if f.name == "" {
			continue
		}
		h.metrics.sent(f.name, 1)
		if f.delivery != nil {
			f.delivery.wrote(now)
		}
		if f.position.Seq > c.measureFrom {
			h.metrics.delivery.Observe(max(0, time.Duration(now.UnixNano()-f.committed).Seconds()))
		}
	}
}

// sendSnapshots begins a stream anew. Only the id of the last snapshot is one to resume from: whoever is cut off before has
// not been told everything.
func (h *Hub) sendSnapshots(c *conn, s step) {
	if s.reset != "" {
		if !c.transmit(h.encoder.piece(resetEvent(s.logID, s.at, c.agent, s.reset, time.Now()))) {
			return
		}
		h.metrics.sent(eventReset, 1)
	}
	for views := s.views; len(views) > 0; {
		if c.leaving() {
			return
		}
		batch := views[:min(encoderBatch, len(views))]
		views = views[len(batch):]
		events := make([]*sse.Event, len(batch))
		for i := range batch {
			v := &batch[i]
			id := nowhere(s.logID, s.at)
			if i == len(batch)-1 && len(views) == 0 {
				id = Cursor{LogID: s.logID, Epoch: s.at.Epoch, Seq: s.at.Seq}
			}
			events[i] = snapshotEvent(id, v, h.o.CCPURL(v.Group, v.ActiveRegion), time.Now())
		}
		if !c.transmit(h.encoder.pieces(events)...) {
			return
		}
		h.metrics.sent(string(failover.EventSnapshot), len(batch))
	}
	c.at, c.told = s.at, true
}

// tellReplayed sends what is older than memory.
func (h *Hub) tellReplayed(c *conn, r *replayRequest) (wait <-chan struct{}) {
	switch {
	case errors.Is(r.err, store.ErrPruned):
		c.begun, c.resume = false, &resumption{reset: resetPruned}
	case r.err != nil:
		// The database is away. The stream stays open with its heartbeats.
		pause := make(chan struct{})
		time.AfterFunc(spread(pollInterval/2, 2*pollInterval), func() { close(pause) })
		return pause
	default:
		h.send(c, h.framesOf(r.rows, h.eventsOf(r.logID, r.rows)))
		if !c.leaving() { // else perhaps not all of them
			c.at = r.upto
		}
	}
	return nil
}

// sayFarewell ends a response in form.
func (h *Hub) sayFarewell(c *conn, ending string) {
	if ending == closedDraining || ending == closedExpired {
		if !c.transmit(h.encoder.piece(h.farewell(c, ending))) {
			return
		}
	}
	c.die(ending)
	c.out.finish()
}

// farewell is the last frame of a connection that the server closes.
func (h *Hub) farewell(c *conn, reason string) *sse.Event {
	var logID string
	h.mu.Lock()
	if h.mem != nil {
		logID = h.mem.logID
	}
	h.mu.Unlock()
	id := Cursor{LogID: logID, Epoch: c.at.Epoch, Seq: c.at.Seq}
	switch {
	case !c.told && c.resume != nil && c.resume.reset == "":
		id = c.resume.cursor
	case !c.told:
		id = nowhere(logID, c.at)
	}
	retry := time.Duration(0)
	if reason == closedDraining {
		reason, retry = "shutdown", spread(time.Second, 5*time.Second)
	}
	return drainingEvent(id, c.agent, reason, retry, time.Now())
}
