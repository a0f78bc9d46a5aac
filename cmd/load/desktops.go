//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// The events that are measured.
const (
	detected = iota
	pending
	completed
	kinds
)

var eventNames = [kinds][]byte{detected: []byte("failoverDetected"), pending: []byte("failoverPending"), completed: []byte("failoverCompleted")}

// desktops holds event streams open, as a process of its own. It reads the ids of its agents from the standard input, one
// a line, up to an empty line; answers each further line with a line of JSON; and ends with the input.
type desktops struct {
	Target string `help:"Address of the service." required:""`
	From   string `help:"Address to connect from." required:""`
}

// tally is what the desktops of a process have heard so far.
type tally struct {
	Open     int64        `json:"open"` // streams with a snapshot
	Beats    int64        `json:"beats"`
	Heard    [kinds]int64 `json:"heard"`
	Faults   []string     `json:"faults,omitempty"` // the first hundred
	Received []received   `json:"received,omitempty"`
}

// received says when an agent's desktop got each event, in Unix nanoseconds; 0: it did not.
type received [kinds]int64

// desktop is one stream.
type desktop struct {
	id    string
	rest  []byte // the beginning of a line
	open  bool
	times received
}

// reader reads all streams of the process in one thread, from one epoll, so that the measured machine is not busy with
// its measurement.
type reader struct {
	epoll    int
	desktops []desktop

	open, beats atomic.Int64
	heard       [kinds]atomic.Int64
	faults      chan string
	ask         chan chan []received
}

// Run is the process.
func (d *desktops) Run(ctx context.Context) error {
	if _, err := streamsPerProcess(); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	r := &reader{faults: make(chan string, 100), ask: make(chan chan []received, 1)}
	for in.Scan() && in.Text() != "" {
		r.desktops = append(r.desktops, desktop{id: in.Text()})
	}
	var err error
	if r.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll: %w", err)
	}
	target, err := netip.ParseAddrPort(d.Target)
	if err != nil {
		return fmt.Errorf("--target: %w", err)
	}
	from, err := netip.ParseAddr(d.From)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	connected := make(chan error, 1)
	go r.read()
	go func() { connected <- r.connect(ctx, target, from) }()
	answers := json.NewEncoder(os.Stdout)
	for in.Scan() {
		select {
		case err := <-connected:
			if err != nil {
				return err
			}
		default:
		}
		t := tally{Open: r.open.Load(), Beats: r.beats.Load()}
		for k := range t.Heard {
			t.Heard[k] = r.heard[k].Load()
		}
		for len(r.faults) > 0 {
			t.Faults = append(t.Faults, <-r.faults)
		}
		if in.Text() == "times" {
			answer := make(chan []received)
			r.ask <- answer
			t.Received = <-answer
		}
		if err := answers.Encode(t); err != nil {
			return err
		}
	}
	return in.Err()
}

// connect opens the streams, at most a hundred unanswered ones at a time.
func (r *reader) connect(ctx context.Context, target netip.AddrPort, from netip.Addr) error {
	for i := range r.desktops {
		for int64(i)-r.open.Load() > 100 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			time.Sleep(time.Millisecond)
		}
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT: the port is chosen with the target
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1); err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: from.As4()}); err != nil {
			return fmt.Errorf("stream %d: bind to %s: %w", i, from, err)
		}
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())}); err != nil {
			return fmt.Errorf("stream %d: connect to %s: %w", i, target, err)
		}
		request := fmt.Sprintf("GET /v1/agents/%s/events HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", r.desktops[i].id, target)
		if _, err := syscall.Write(fd, []byte(request)); err != nil {
			return fmt.Errorf("stream %d: ask: %w", i, err)
		}
		if err := syscall.SetNonblock(fd, true); err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		event := &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd), Pad: int32(i)} // Pad comes back as it is
		if err := syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_ADD, fd, event); err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
	}
	return nil
}

func (r *reader) read() {
	events := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.EpollWait(r.epoll, events, 50)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			r.fault("epoll: %v", err)
			return
		}
		for _, e := range events[:max(n, 0)] {
			d := &r.desktops[e.Pad]
			n, err := syscall.Read(int(e.Fd), buf)
			switch {
			case n > 0:
				r.take(d, buf[:n], time.Now().UnixNano())
			case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			default:
				r.fault("the stream of agent %s ended: %v", d.id, err)
				_ = syscall.Close(int(e.Fd))
			}
		}
		select {
		case answer := <-r.ask:
			all := make([]received, len(r.desktops))
			for i := range r.desktops {
				all[i] = r.desktops[i].times
			}
			answer <- all
		default:
		}
	}
}

// take reads whole lines; the end of a piece may be the beginning of one. The sizes of HTTP's chunks are lines too, and say nothing.
func (r *reader) take(d *desktop, b []byte, at int64) {
	if len(d.rest) > 0 {
		b = append(d.rest, b...)
		d.rest = nil
	}
	for {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		if !whole {
			if len(b) > 0 {
				d.rest = bytes.Clone(b)
			}
			return
		}
		b = rest
		if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			r.event(d, name, at)
		} else if len(line) > 0 && line[0] == ':' {
			r.beats.Add(1)
		}
	}
}

// event notes a delivery. No agent may get one twice or out of order (R18).
func (r *reader) event(d *desktop, name []byte, at int64) {
	if bytes.Equal(name, []byte("snapshot")) {
		if !d.open {
			d.open = true
			r.open.Add(1)
		}
		return
	}
	for k, known := range eventNames {
		if !bytes.Equal(name, known) {
			continue
		}
		if d.times[k] != 0 || d.times[completed] != 0 || k != detected && d.times[detected] == 0 {
			r.fault("agent %s: %s after %v", d.id, name, d.times)
		}
		d.times[k] = at
		r.heard[k].Add(1)
		return
	}
	r.fault("agent %s: unexpected event %s", d.id, name)
}

func (r *reader) fault(format string, args ...any) {
	select {
	case r.faults <- fmt.Sprintf(format, args...):
	default:
	}
}

// loopback is the nth address to connect from: a pair of addresses has some 28,000 ports.
func loopback(n int) string { return net.IPv4(127, 0, 0, byte(2+n)).String() }
