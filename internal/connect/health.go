package connect

import (
	"sync"
	"time"
)

// The states of a Region or of one of its operations.
const (
	StateUnknown  = "unknown"  // not asked yet
	StateHealthy  = "healthy"  // the last request was answered; of a Region: that of every operation
	StateDegraded = "degraded" // the last request failed; of a Region: that of some operation
	StateDown     = "down"     // the last three requests had no answer at all; of a Region: of whatever operations
)

// downAfter consecutive Unavailable requests mean down, and open the operation's breaker.
const downAfter = 3

// Health is how a Region, or one operation in it, answers. Times are zero for what never happened.
type Health struct {
	State       string    // one of the State constants
	Since       time.Time // when State was entered
	LastSuccess time.Time
	LastError   string // names operation and kind; kept after recovery
	LastErrorAt time.Time
}

// health derives the health of a Region and its operations from results, in the order in which they come. An open
// breaker's rejections are no results.
type health struct {
	mu         sync.Mutex
	region     tracked
	operations map[string]*tracked
}

// tracked is one Health and the length of its present outage.
type tracked struct {
	Health
	unavailable int // consecutive
}

func newHealth(now time.Time, operations []string) *health {
	h := &health{operations: make(map[string]*tracked, len(operations))}
	h.region.Health = Health{State: StateUnknown, Since: now}
	for _, name := range operations {
		h.operations[name] = &tracked{Health: h.region.Health}
	}
	return h
}

// record takes notice of the result of one request; e is nil for success.
func (h *health) record(now time.Time, operation string, e *Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := h.operations[operation]
	own.enter(own.take(now, e), now)
	state := h.region.take(now, e)
	if state == StateHealthy {
		for _, other := range h.operations {
			if other.State == StateDegraded || other.State == StateDown {
				state = StateDegraded
			}
		}
	}
	h.region.enter(state, now)
}

// take records the result and returns the state that follows from it.
func (t *tracked) take(now time.Time, e *Error) string {
	if e == nil {
		t.LastSuccess = now
		t.unavailable = 0
		return StateHealthy
	}
	t.LastError, t.LastErrorAt = e.text(), now
	switch e.Kind {
	case Unavailable:
		t.unavailable++
		if t.unavailable >= downAfter {
			return StateDown
		}
		return StateDegraded
	case NotFound: // a good answer to a question about something that is not there
		t.unavailable = 0
		return StateHealthy
	}
	t.unavailable = 0
	return StateDegraded
}

func (t *tracked) enter(state string, now time.Time) {
	if t.State != state {
		t.State, t.Since = state, now
	}
}

func (h *health) ofRegion() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.region.Health
}

func (h *health) of(operation string) Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.operations[operation]; t != nil {
		return t.Health
	}
	return Health{State: StateUnknown}
}
