package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// cacheSize bounds each of the two generations of the cache: some megabytes, enough for the callers of one replica.
const cacheSize = 20_000

// cache remembers what verified tokens say, so that a caller's next request costs a hash in place of a signature. It is safe
// because it holds nothing that was not verified, knows tokens by a hash that nobody can aim at, and gives an answer only
// while the token has not expired and the issuer still publishes the key.
type cache struct {
	mu         sync.Mutex
	young, old map[tokenHash]remembered // when young is full it becomes old, and what was old is forgotten
	limit      int
}

type tokenHash [sha256.Size]byte

type remembered struct {
	identity Identity
	signedBy thumbprint
}

func newCache(limit int) *cache {
	return &cache{young: make(map[tokenHash]remembered), limit: limit}
}

func (c *cache) get(token tokenHash, now time.Time, keys *keySet) (Identity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.young[token]
	if !ok {
		if r, ok = c.old[token]; !ok {
			return Identity{}, false
		}
	}
	if !now.Before(r.identity.Expires) || !keys.prints[r.signedBy] {
		delete(c.young, token)
		delete(c.old, token)
		return Identity{}, false
	}
	return r.identity, true
}

func (c *cache) put(token tokenHash, r remembered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.limit {
		c.old, c.young = c.young, make(map[tokenHash]remembered, c.limit)
	}
	c.young[token] = r
}
