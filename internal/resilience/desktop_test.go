package resilience

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"changeover/internal/api/contract"
)

// desktop follows its stream as an EventSource does, over every break and from replica to replica. It is the console if agent is empty.
type desktop struct {
	agent  string
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	at        *replica // whom it is connected to
	snapshots int      // that the stream begins with and that are still to come
	cursor    string   // of the last of them
	heard     []contract.LoggedEvent
	resets    []string  // reasons
	forgotten int       // events heard before the last reset
	breaks    int       // of its connection
	drained   int       // of them announced
	last      time.Time // when anything came last, heartbeats included
	silence   time.Duration
}

// listen opens a desktop's stream at the n-th replica; after a break it goes to the next one. The console's begins with a snapshot of
// every agent.
func (c *cluster) listen(agent string, n int) *desktop {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &desktop{agent: agent, cancel: cancel, done: make(chan struct{}), last: time.Now()}
	path := "/v1/events"
	if agent != "" {
		path = "/v1/agents/" + agent + "/events"
	}
	d.snapshots = c.snapshots(agent)
	replicas := append([]*replica{}, c.replicas...)
	go func() {
		defer close(d.done)
		last := ""
		for ; ctx.Err() == nil; n++ {
			r := replicas[n%len(replicas)]
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+path, nil)
			if err != nil {
				panic(err) // it is ours
			}
			request.Header.Set("Accept", "text/event-stream")
			if last != "" {
				request.Header.Set("Last-Event-ID", last)
			}
			answer, err := (&http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 5 * time.Second}).RoundTrip(request)
			if err == nil {
				d.mu.Lock()
				d.at = r
				d.mu.Unlock()
				last = d.read(answer, last, func() int { return c.snapshots(agent) })
				answer.Body.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // the replica is down
			}
		}
	}()
	c.desktops = append(c.desktops, d)
	c.t.Cleanup(func() { cancel(); <-d.done })
	return d
}

// snapshots is how many a stream begins with.
func (c *cluster) snapshots(agent string) int {
	if agent == "" {
		return len(c.sim.Agents())
	}
	return 1
}

// read follows one connection to its end and returns the last cursor.
func (d *desktop) read(answer *http.Response, last string, snapshots func() int) string {
	var f contract.LoggedEvent
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		d.mu.Lock()
		d.silence = max(d.silence, time.Since(d.last))
		d.last = time.Now()
		d.mu.Unlock()
		if lines.Text() == "" {
			if f.Data != nil {
				if f.ID != "" {
					last = f.ID
				}
				d.hear(f, snapshots)
			}
			f = contract.LoggedEvent{}
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			f.ID = value
		case "event":
			f.Event = value
		case "data":
			f.Data = json.RawMessage(value)
		}
	}
	d.mu.Lock()
	d.breaks++
	d.mu.Unlock()
	return last
}

func (d *desktop) hear(f contract.LoggedEvent, snapshots func() int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case f.Event == "draining":
		d.drained++
	case f.Event == "reset":
		var data struct{ Reason string }
		_ = json.Unmarshal(f.Data, &data)
		d.resets = append(d.resets, data.Reason)
		d.forgotten += len(d.heard)
		d.snapshots, d.cursor, d.heard = snapshots(), "", nil
	case d.snapshots > 0:
		if d.snapshots--; d.snapshots == 0 {
			d.cursor = f.ID
		}
	default:
		d.heard = append(d.heard, f)
	}
}

// first is the cursor of what the stream began with; empty: that is not complete.
func (d *desktop) first() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cursor
}

func (d *desktop) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.heard)
}

// reasons are those of the resets.
func (d *desktop) reasons() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.resets...)
}

// has counts the events of a name that were heard after the n-th.
func (d *desktop) has(event string, after int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, e := range d.heard[min(after, len(d.heard)):] {
		if e.Event == event {
			n++
		}
	}
	return n
}

// connection returns whom it is connected to, the breaks so far, and the longest time without a sign of life since the last call.
func (d *desktop) connection() (at *replica, breaks int, silence time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	silence, d.silence = max(d.silence, time.Since(d.last)), 0
	return d.at, d.breaks, silence
}

// pause lets the processes work for a while, which is what is tested: no one waits for anything by it.
func pause(d time.Duration) { <-time.After(d) }

// console is the desktop that hears everything.
func (c *cluster) console() *desktop {
	for _, d := range c.desktops {
		if d.agent == "" {
			return d
		}
	}
	panic("no console is open")
}
