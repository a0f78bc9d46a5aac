package stream

import (
	"math/rand/v2"
	"sync"
)

// wheelSlots is how many times per heartbeat interval the wheel turns. Each connection stands in one slot, so heartbeats
// of fifty thousand streams are spread over the interval, some two hundred at a time, and one timer serves them all.
const wheelSlots = 256

// wheel says which connections are due for a heartbeat.
type wheel struct {
	mu    sync.Mutex
	slots [wheelSlots][]*conn
	hand  int
}

// wheelPos is where a connection stands.
type wheelPos struct{ slot, place int32 }

// add puts a connection into a slot chosen at random: whole floors connect at once.
func (w *wheel) add(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot := rand.Int32N(wheelSlots)
	c.wheelPos = wheelPos{slot, int32(len(w.slots[slot]))}
	w.slots[slot] = append(w.slots[slot], c)
}

func (w *wheel) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.slots[c.wheelPos.slot]
	last := s[len(s)-1]
	s[c.wheelPos.place] = last
	last.wheelPos.place = c.wheelPos.place
	s[len(s)-1] = nil
	w.slots[c.wheelPos.slot] = s[:len(s)-1]
}

// turn moves the hand and appends the connections that are due to due.
func (w *wheel) turn(due []*conn) []*conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hand = (w.hand + 1) % wheelSlots
	return append(due, w.slots[w.hand]...)
}
