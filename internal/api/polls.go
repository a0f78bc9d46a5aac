package api

import (
	"math/rand/v2"
	"sync"
	"time"
)

// polls counts the long polls that wait. Each costs about what a stream does, and many of them fit into one HTTP/2 connection, so that
// limits of connections do not hold them.
type polls struct {
	max, perKey int           // 0: no limit
	ended       chan struct{} // closed: the replica drains, nobody waits any more

	mu   sync.Mutex
	open int
	by   map[string]int // those with any
}

func newPolls(limit, perKey int) *polls {
	return &polls{max: limit, perKey: perKey, ended: make(chan struct{}), by: make(map[string]int)}
}

// end answers all that wait.
func (p *polls) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.draining() {
		close(p.ended)
	}
}

func (p *polls) draining() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// begin counts a poll, and returns what takes it out of the count, or why it may not wait. The key is the agent whose events they are, or the caller who
// waits for everybody's.
func (p *polls) begin(key string) (done func(), refused *problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := 5 * time.Second
	switch {
	case p.draining():
		least, refused = 0, problemf(kindUnavailable, "This replica is being stopped. Try again.")
	case p.perKey > 0 && p.by[key] >= p.perKey:
		refused = problemf(kindTooMany, "%d long polls wait for these events already. Let one end first, or use one stream.", p.by[key])
	case p.max > 0 && p.open >= p.max:
		refused = problemf(kindUnavailable, "As many long polls wait as this replica takes. Try again.")
	}
	if refused != nil {
		refused.after = least + rand.N(max(least*2, 4*time.Second)) // so that they do not come back together
		return nil, refused
	}
	p.open++
	p.by[key]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open--
		if p.by[key]--; p.by[key] == 0 {
			delete(p.by, key)
		}
	}, nil
}
