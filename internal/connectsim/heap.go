package connectsim

import (
	"container/heap"
	"context"
	"time"
)

// eventKind says what happens at an event.
type eventKind uint8

const (
	eventFunc    eventKind = iota // something rare
	eventArrival                  // the floor offers a contact to an agent
	eventContact                  // a contact of the floor goes on to its next state
	eventMove                     // an agent's desktop acts on a new target Region
	eventReady                    // an agent becomes available after a move
)

// event is something that happens at a time. There is one heap of them and no goroutine or timer per agent, so that
// a floor of 50,000 costs what happens on it and nothing more.
type event struct {
	at      time.Duration
	n       uint64 // order among equal times
	kind    eventKind
	gen     uint32
	agent   *agent
	contact *contact
	fn      func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is for container/heap.
func (h *eventHeap) Push(x any) { *h = append(*h, x.(event)) }

// Pop is for container/heap.
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

// schedule adds an event after a delay from the moment that is being simulated.
func (s *Sim) schedule(after time.Duration, e event) {
	e.at = s.now + max(after, 0)
	e.n = s.nextN
	s.nextN++
	heap.Push(&s.events, e)
	if s.events[0].n == e.n {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// advance lets everything happen that is due. Whatever looks at the state calls it first, so that the state is
// a function of time, whether or not Run is running.
func (s *Sim) advance(to time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= to {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		switch e.kind {
		case eventFunc:
			e.fn()
		case eventArrival:
			s.arrive(e.agent, e.gen)
		case eventContact:
			s.progress(e.contact)
		case eventMove:
			s.tryMove(e.agent, e.gen)
		case eventReady:
			s.setReady(e.agent, e.gen)
		}
	}
	s.now = max(s.now, to)
}

// Run lets the floor live until the context ends. Without it the simulator is just as up to date whenever it is
// looked at, but has to catch up then.
func (s *Sim) Run(ctx context.Context) {
	for {
		s.lock()
		wait := time.Hour
		if len(s.events) > 0 {
			// A busy floor has thousands of events a second: a few at a time are soon enough.
			wait = max(s.events[0].at-s.now, 10*time.Millisecond)
		}
		s.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.wake:
			timer.Stop()
		}
	}
}
