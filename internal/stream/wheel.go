package stream

import (
	"math/rand/v2"
	"sync"
)

// wheelSlots is how many times per heartbeat interval the wheel turns. Each connection stands in one slot, so heartbeats
// of ten thousand streams are spread over the interval and one timer serves them all.
const wheelSlots = 32

// wheel says which connections are due for a heartbeat.
type wheel struct {
	mu    sync.Mutex
	slots [wheelSlots][]*conn
	hand  int
}

// add puts a connection into a slot chosen at random: whole floors connect at once.
func (w *wheel) add(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.wheelSlot = rand.IntN(wheelSlots)
	c.wheelPlace = len(w.slots[c.wheelSlot])
	w.slots[c.wheelSlot] = append(w.slots[c.wheelSlot], c)
}

func (w *wheel) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.slots[c.wheelSlot]
	last := s[len(s)-1]
	s[c.wheelPlace] = last
	last.wheelPlace = c.wheelPlace
	s[len(s)-1] = nil
	w.slots[c.wheelSlot] = s[:len(s)-1]
}

// turn moves the hand and appends the connections that are due to due.
func (w *wheel) turn(due []*conn) []*conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hand = (w.hand + 1) % wheelSlots
	return append(due, w.slots[w.hand]...)
}
