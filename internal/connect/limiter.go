package connect

import (
	"container/list"
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Priority orders the waiters for one operation's requests: as long as one of a higher priority waits, none of a lower is let
// through. Within a priority they go in the order in which they came.
type Priority int

// The priorities, highest first.
const (
	Drain  Priority = iota // contacts of agents whose failover is open
	Sweep                  // the periodic reads
	Roster                 // the long background passes
	priorities
)

const (
	// throttleFactor cuts the rate at a 429: somebody else uses the same quota.
	throttleFactor = 0.5
	// leastShare of the configured rate is kept however often Amazon throttles, so that every operation still makes progress.
	leastShare = 0.125
	// recoveryTime is how long the rate takes from nothing to the configured one; a single 429 is forgotten after half of it.
	recoveryTime = time.Minute
	// recheck bounds how long a waiter trusts a computed wait while the rate recovers.
	recheck = time.Second
)

// limiter is the request rate of one operation: a token bucket whose tokens go to waiters by priority, and whose rate is
// halved at a 429 and recovers linearly (AIMD), never above the configured one. It has no goroutine: callers wait
// on a channel, and one timer is armed while anybody waits.
type limiter struct {
	mu      sync.Mutex
	bucket  *rate.Limiter
	waiting [priorities]list.List // of chan struct{}, closed when the token is granted
	timer   *time.Timer           // nil: nobody waits

	configured rate.Limit
	cut        rate.Limit // the rate at cutAt
	cutAt      time.Time  // of the last cut; zero: none
}

func newLimiter(perSecond float64, burst int) *limiter {
	return &limiter{bucket: rate.NewLimiter(rate.Limit(perSecond), burst), configured: rate.Limit(perSecond)}
}

// wait returns nil when the caller may send one request, or the context's error. A token that is granted while the context
// ends is spent.
func (l *limiter) wait(ctx context.Context, p Priority) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	granted := make(chan struct{})
	l.mu.Lock()
	place := l.waiting[p].PushBack(granted)
	l.grant(time.Now())
	l.mu.Unlock()

	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-granted:
		return nil
	default:
	}
	l.waiting[p].Remove(place)
	l.grant(time.Now()) // stops the timer if this was the last
	return ctx.Err()
}

// throttled takes notice of a 429 to a request that was sent at the given time. Requests that were already on their way at
// the last cut belong to the same overrun and do not cut again.
func (l *limiter) throttled(sentAt time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sentAt.Before(l.cutAt) {
		return
	}
	now := time.Now()
	l.cut, l.cutAt = max(l.rate(now)*throttleFactor, l.configured*leastShare), now
	l.bucket.SetLimitAt(now, l.cut)
	if left := int(l.bucket.TokensAt(now)); left > 0 { // Amazon's bucket is empty, so ours is
		l.bucket.AllowN(now, left)
	}
	l.grant(now)
}

// rate is what is allowed at the given time.
func (l *limiter) rate(now time.Time) rate.Limit {
	if l.cutAt.IsZero() {
		return l.configured
	}
	recovered := l.configured * rate.Limit(now.Sub(l.cutAt).Seconds()/recoveryTime.Seconds())
	return min(l.cut+recovered, l.configured)
}

// grant lets as many waiters through as there are tokens and arms the timer for the next; l.mu is held.
func (l *limiter) grant(now time.Time) {
	if limit := l.rate(now); limit != l.bucket.Limit() {
		l.bucket.SetLimitAt(now, limit)
	}
	for {
		queue := l.first()
		if queue == nil {
			if l.timer != nil {
				l.timer.Stop()
				l.timer = nil
			}
			return
		}
		if !l.bucket.AllowN(now, 1) {
			break
		}
		close(queue.Remove(queue.Front()).(chan struct{}))
	}
	missing := (1 - l.bucket.TokensAt(now)) / float64(l.bucket.Limit())
	// A microsecond more than computed, so that rounding does not make the timer find 0.9999 tokens.
	delay := min(time.Duration(missing*float64(time.Second))+time.Microsecond, recheck)
	if l.timer == nil {
		l.timer = time.AfterFunc(delay, l.fire)
		return
	}
	l.timer.Reset(delay)
}

func (l *limiter) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil { // else the last waiter left meanwhile
		l.grant(time.Now())
	}
}

// first is the queue whose head is next, or nil.
func (l *limiter) first() *list.List {
	for p := range l.waiting {
		if l.waiting[p].Len() > 0 {
			return &l.waiting[p]
		}
	}
	return nil
}
