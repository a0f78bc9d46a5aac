package nemesis

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// silence is how long a client hears nothing, not even a heartbeat, until it goes elsewhere.
const silence = 2500 * time.Millisecond

// desktop is a client of an event stream, or the console if agent is empty. It follows its stream over every break, from replica to
// replica, and keeps everything that it hears.
type desktop struct {
	name, agent string
	from        string                     // the cursor that it begins with
	history     bool                       // it asks for the log as JSON, and waits for more
	addresses   func() []string            // of the replicas
	choose      func(failures int) (n int) // which of them, after so many that did not answer; nil: any
	rng         *rand.Rand
	cancel      context.CancelFunc
	done        chan struct{}

	mu      sync.Mutex
	hang    context.CancelFunc // of the present connection
	spoil   func(cursor string) string
	next    int           // replica; -1: any
	back    chan struct{} // closed when it may come back; nil: it may
	list    []connection
	heardTo int64 // the last place in the log that it knows; -1: none
}

func newDesktop(name, agent string, history bool, seed uint64, addresses func() []string, choose func(failures int) int) *desktop {
	return newReader(name, agent, "", -1, history, seed, addresses, choose)
}

// newReader is newDesktop that begins with a cursor, so that it knows everything up to a place.
func newReader(name, agent, from string, heardTo int64, history bool, seed uint64, addresses func() []string, choose func(failures int) int) *desktop {
	ctx, cancel := context.WithCancel(context.Background())
	d := &desktop{
		choose: choose, history: history, from: from,
		name: name, agent: agent, addresses: addresses, rng: rand.New(rand.NewPCG(seed, 7)), cancel: cancel, done: make(chan struct{}),
		next: -1, heardTo: heardTo,
	}
	go d.run(ctx)
	return d
}

func (d *desktop) path() string {
	if d.agent == "" {
		return "/v1/events"
	}
	return "/v1/agents/" + d.agent + "/events"
}

func (d *desktop) run(ctx context.Context) {
	defer close(d.done)
	transport := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: time.Second}
	cursor, spoiled, failures := d.from, false, 0
	for ctx.Err() == nil {
		addresses := d.addresses()
		d.mu.Lock()
		replica := d.rng.IntN(len(addresses))
		if d.choose != nil {
			replica = d.choose(failures)
		}
		if d.next >= 0 {
			replica, d.next = d.next, -1
		}
		if d.spoil != nil {
			cursor, spoiled, d.spoil = d.spoil(cursor), true, nil
		}
		c := connection{replica: replica, cursor: cursor, spoiled: spoiled}
		conn, hang := context.WithCancel(ctx)
		d.hang = hang
		d.mu.Unlock()
		next := ""
		if d.history {
			next = d.ask(conn, transport, addresses[replica], &c)
		} else {
			d.connect(conn, hang, transport, addresses[replica], &c)
		}
		if failures++; !c.opened.IsZero() {
			failures = 0
		}
		for _, f := range c.frames {
			cursor = f.id
			spoiled = spoiled && f.event == "draining" // which tells the cursor back
		}
		if next != "" {
			cursor = next
		}
		hang()
		away := 20*time.Millisecond + time.Duration(d.rng.IntN(60))*time.Millisecond
		if d.rng.IntN(4) == 0 { // for so long that something has happened meanwhile
			away += time.Duration(d.rng.IntN(1500)) * time.Millisecond
		}
		pause := time.NewTimer(away)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		d.mu.Lock()
		back := d.back
		d.mu.Unlock()
		if back != nil {
			select {
			case <-ctx.Done():
			case <-back:
			}
		}
	}
}

// connect follows one connection to its end.
func (d *desktop) connect(ctx context.Context, hang context.CancelFunc, transport http.RoundTripper, address string, c *connection) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+d.path(), nil)
	if err != nil {
		panic(err) // it is ours
	}
	r.Header.Set("Accept", "text/event-stream")
	if c.cursor != "" {
		r.Header.Set("Last-Event-ID", c.cursor)
	}
	watchdog := time.AfterFunc(silence, hang)
	defer watchdog.Stop()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return
	}
	c.opened = time.Now()
	d.mu.Lock()
	d.list = append(d.list, *c)
	n := len(d.list) - 1
	d.mu.Unlock()
	var f frame
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		watchdog.Reset(silence)
		if lines.Text() == "" {
			if f.data != "" {
				c.frames = append(c.frames, f)
				d.mu.Lock()
				d.list[n].frames = c.frames
				d.follow(f)
				d.mu.Unlock()
			}
			f = frame{}
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			f.id = value
		case "event":
			f.event = value
		case "data":
			if f.data != "" {
				value = f.data + "\n" + value
			}
			f.data = value
		}
	}
}

// ask asks for what is in the log after the cursor, waits if there is nothing, and returns the next cursor; empty: there was no answer.
func (d *desktop) ask(ctx context.Context, transport http.RoundTripper, address string, c *connection) (next string) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	path := d.path() + "?wait=900ms&limit=3"
	if c.cursor != "" {
		path += "&after=" + c.cursor
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		panic(err) // it is ours
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	var page struct {
		Items []struct {
			ID, Event string
			Data      json.RawMessage
		}
		NextCursor string
	}
	if answer.StatusCode != http.StatusOK || json.NewDecoder(answer.Body).Decode(&page) != nil {
		return ""
	}
	c.opened = time.Now()
	for _, e := range page.Items {
		c.frames = append(c.frames, frame{e.ID, e.Event, string(e.Data)})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(c.frames) > 0 || len(d.list) == 0 {
		d.list = append(d.list, *c)
		for _, f := range c.frames {
			d.follow(f)
		}
	}
	return page.NextCursor
}

// follow notes how far the client has heard. d.mu is held.
func (d *desktop) follow(f frame) {
	parts := strings.Split(f.id, "-")
	if len(parts) < 3 || parts[len(parts)-2] == "0" { // of nowhere
		if f.event == "reset" {
			d.heardTo = -1
		}
		return
	}
	if seq, err := strconv.ParseInt(parts[len(parts)-1], 10, 64); err == nil {
		d.heardTo = seq
	}
}

// at is the replica of the last connection, -1 before the first, and whether anything has come on it.
func (d *desktop) at() (replica int, heard bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.list) == 0 {
		return -1, false
	}
	last := &d.list[len(d.list)-1]
	return last.replica, len(last.frames) > 0
}

// upTo is the last place in the log that the client knows; -1: none.
func (d *desktop) upTo() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.heardTo
}

// drop breaks the connection; the client comes back to a replica (-1: any), perhaps with another cursor.
func (d *desktop) drop(next int, spoil func(string) string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = next
	if spoil != nil && !d.history {
		d.spoil, d.heardTo = spoil, -1
	}
	if d.hang != nil {
		d.hang()
	}
}

// leave breaks the connection; the client stays away until it may come.
func (d *desktop) leave() {
	d.mu.Lock()
	if d.back == nil {
		d.back = make(chan struct{})
	}
	d.mu.Unlock()
	d.drop(-1, nil)
}

// come lets a client that was sent away come back to a replica (-1: any).
func (d *desktop) come(next int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next = next; d.back != nil {
		close(d.back)
		d.back = nil
	}
}

// heard is everything that the client has heard so far.
func (d *desktop) heard() heard {
	d.mu.Lock()
	defer d.mu.Unlock()
	return heard{name: d.name, agent: d.agent, from: d.from, history: d.history, connections: slices.Clone(d.list)}
}

// stop ends the client.
func (d *desktop) stop() {
	d.cancel()
	<-d.done
}

// spoilers make cursors that are no good, as clients of another deployment or with a broken storage may have them.
var spoilers = []func(cursor string) string{
	func(string) string { return "garbage" },
	func(string) string { return "0123456789ab-1763809200000-42" },
	func(cursor string) string { return cursor + "000000" },
	func(cursor string) string {
		parts := strings.Split(cursor, "-")
		if len(parts) < 3 || parts[len(parts)-1] == "0" {
			return "none"
		}
		epoch, _ := strconv.ParseInt(parts[len(parts)-2], 10, 64)
		parts[len(parts)-2] = fmt.Sprint(epoch + 1)
		return strings.Join(parts, "-")
	},
}
