package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Linked instances that were replicated before November 2023 can know one person by two user ids, which the username joins
// (R2). A desktop that works in the Region that is not the source may know the other id only, from its CCP or from its token. So an id
// that no agent has is looked up among the aliases before anything is decided, and everything behind this knows one id.
const (
	aliasFresh = time.Minute // how long the answer to a look-up stands
	aliasMost  = 10_000      // answers that are remembered
)

// aliases remembers look-ups.
type aliases struct {
	mu    sync.Mutex
	found map[aliasKey]alias
}

type aliasKey struct{ id, own string }

type alias struct {
	agentID string
	at      time.Time
}

// canonical is the id under which an agent is known; an id that nobody has is returned as it is. Without the database nothing can be
// looked up. own is the only agent whose alias it may be; empty: anybody's. For an agent, ids that somebody else has and ids that nobody has
// are looked up alike: the time that it takes tells neither from the other.
func (s *Server) canonical(ctx context.Context, id, own string) string {
	if own == "" {
		if _, ok := s.hub.View(id); ok {
			return id
		}
	}
	s.aliases.mu.Lock()
	known, ok := s.aliases.found[aliasKey{id, own}]
	s.aliases.mu.Unlock()
	if ok && time.Since(known.at) < aliasFresh {
		return known.agentID
	}
	ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	found, err := s.store.AgentByAlias(ctx, id, own)
	switch {
	case isNotFound(err):
		found = id
	case err != nil:
		return id
	}
	s.aliases.mu.Lock()
	defer s.aliases.mu.Unlock()
	if s.aliases.found == nil || len(s.aliases.found) >= aliasMost {
		s.aliases.found = make(map[aliasKey]alias)
	}
	s.aliases.found[aliasKey{id, own}] = alias{found, time.Now()}
	return found
}

// unalias puts the id under which the agent is known into the caller's identity and into the path. Nobody but who may see every agent
// can have all of them looked through for any id.
func (s *Server) unalias(r *http.Request, c *call, params map[string]string) {
	if c.identity.AgentID != "" {
		c.identity.AgentID = s.canonical(r.Context(), c.identity.AgentID, "")
	}
	id, ok := params["agentId"]
	if !ok || id == c.identity.AgentID {
		return
	}
	own := ""
	if !c.op.everybodys(c.identity) && !c.identity.AnyAgent {
		if own = c.identity.AgentID; own == "" {
			return
		}
	}
	known := s.canonical(r.Context(), id, own)
	if known == id {
		return
	}
	params["agentId"] = known
	path := c.op.pattern
	for name, value := range params {
		path = strings.Replace(path, "{"+name+"}", url.PathEscape(value), 1)
	}
	r.URL.RawPath = path
	r.URL.Path, _ = url.PathUnescape(path) // it was escaped just now
}
