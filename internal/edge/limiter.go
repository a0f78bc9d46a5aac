package edge

import (
	"hash/maphash"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// burst is the time whose requests may come at once.
const burst = 10 * time.Second

// Limiter says whether a token or an address asks too often. It is for floods, not for fairness: its rates are so high that no
// honest client meets them.
type Limiter struct {
	tokens, addresses *table // nil: no limit
	seed              maphash.Seed
	began             time.Time
	metrics           *Metrics
}

// NewLimiter makes a Limiter of requests per second, with a burst of ten seconds' worth; 0: no limit. Metrics may be nil.
func NewLimiter(perToken, perAddress float64, m *Metrics) *Limiter {
	if m == nil {
		m = NewMetrics(nil)
	}
	return &Limiter{
		tokens: newTable(perToken), addresses: newTable(perAddress), seed: maphash.MakeSeed(), began: time.Now(), metrics: m,
	}
}

// Wait counts a request and returns how long its sender has to wait before it would be let through; 0: it is.
//
// The token is whatever was sent as one, good or not: it is asked before anybody looks at it, so that a flood costs no
// verification. Junk in place of a token is a new one each time and counts for the address only; so does a ticket, which is
// used once.
func (l *Limiter) Wait(r *http.Request) time.Duration {
	now := time.Since(l.began)
	if l.addresses != nil {
		if a, ok := parseAddress(r.RemoteAddr); ok {
			if wait := l.addresses.take(maphash.Comparable[netip.Addr](l.seed, group(a)), now); wait > 0 {
				l.metrics.limited.WithLabelValues("address").Inc()
				return wait
			}
		}
	}
	if l.tokens != nil {
		if token := credential(r); token != "" {
			if wait := l.tokens.take(maphash.String(l.seed, token), now); wait > 0 {
				l.metrics.limited.WithLabelValues("token").Inc()
				return wait
			}
		}
	}
	return 0
}

// Handler refuses with 429 who asks too often, for pages that people see; the API does it in its own words.
func (l *Limiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait := l.Wait(r); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			http.Error(w, "Too many requests. Try again later.", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// cookie is the session's, as the contract names it.
const cookie = "__Host-changeover"

// credential is what a request shows as its token; empty: nothing.
func credential(r *http.Request) string {
	if header := r.Header.Get("Authorization"); header != "" {
		_, token, _ := strings.Cut(header, " ")
		return strings.TrimSpace(token)
	}
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); name == cookie {
				return value
			}
		}
	}
	return ""
}

// The size of a table: 32,768 rates of 16 bytes.
const (
	sets = 1 << 12
	ways = 8
)

// table holds the rates of many by the hash of what they are: the generic cell rate algorithm, which needs one number each, in
// memory of a fixed size. A hash has its place in one of a few ways of one set, as in a processor's cache. When all are taken, the one
// gives way that is nearest to having its whole burst again; most have it again after a few milliseconds, and then
// nothing is forgotten. Somebody in debt is forgotten only when seven others of the set owe more.
type table struct {
	interval time.Duration // between two requests at the limit
	sets     [sets]set
}

type set struct {
	mu    sync.Mutex
	hash  [ways]uint64
	until [ways]time.Duration // when the whole burst is there again; past: it is
}

func newTable(perSecond float64) *table {
	if perSecond == 0 {
		return nil
	}
	return &table{interval: time.Duration(float64(time.Second) / perSecond)}
}

// take counts one request at a time, and returns how long to wait instead; a request that has to wait does not count.
func (t *table) take(hash uint64, now time.Duration) time.Duration {
	s := &t.sets[hash%sets]
	s.mu.Lock()
	defer s.mu.Unlock()
	place := 0
	for i := range s.hash {
		if s.hash[i] == hash {
			place = i
			break
		}
		if s.until[i] < s.until[place] {
			place = i
		}
	}
	if s.hash[place] != hash {
		s.hash[place], s.until[place] = hash, 0
	}
	until := max(s.until[place], now) + t.interval
	if wait := until - burst - now; wait > 0 {
		return wait
	}
	s.until[place] = until
	return 0
}
