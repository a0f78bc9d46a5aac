package api

import (
	"sync"
	"time"
)

// How often one desktop may change something. Each of its mutations, refused ones too, leaves an entry in the audit for as long as that is
// kept, so that a desktop in a loop must not write at the rate that the front door's fuses let through.
const (
	paceInterval = time.Second
	paceBurst    = time.Minute // whose mutations may come at once
	paceTidy     = 50_000      // desktops, beyond which those are forgotten that have all of their burst again
)

// pace counts mutations by their callers: the generic cell rate algorithm.
type pace struct {
	mu    sync.Mutex
	until map[string]time.Time // when the whole burst is there again
}

// take counts a mutation, and returns how long to wait instead; one that has to wait does not count.
func (p *pace) take(who string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := p.until[who]
	if until.Before(now) {
		until = now
	}
	until = until.Add(paceInterval)
	if wait := until.Sub(now) - paceBurst; wait > 0 {
		return wait
	}
	if p.until == nil {
		p.until = make(map[string]time.Time)
	}
	if len(p.until) >= paceTidy {
		for other, at := range p.until {
			if at.Before(now) {
				delete(p.until, other)
			}
		}
	}
	p.until[who] = until
	return 0
}

// tooMany says whether the caller changes things too often. Whoever may do the operation to everybody's things has the trust to do it often.
func (s *Server) tooMany(c *call) *problem {
	if !c.op.idempotent || c.op.everybodys(c.identity) || c.identity.AnyAgent {
		return nil
	}
	if wait := s.pace.take(c.identity.Subject+"\x00"+c.identity.AgentID, time.Now()); wait > 0 {
		return &problem{kind: kindTooMany, detail: "A desktop may change something once a second.", after: wait}
	}
	return nil
}
