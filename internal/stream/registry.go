package stream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"changeover/internal/store"
)

// syncInterval is how often the registry is written: ten thousand desktops that connect in a minute are sixty batches.
const syncInterval = time.Second

// syncTimeout bounds one write of the registry.
const syncTimeout = 5 * time.Second

// registry tells the store which streams are open here, in batches. Writing a connection twice and deleting one that is
// not there are harmless, so after a failure, or when the database lost its last commits, everything open is told again.
type registry struct {
	store   Store
	replica string
	all     func() []store.Connection // that are open
	log     *slog.Logger

	mu      sync.Mutex
	open    map[string]store.Connection // since the last write
	gone    map[string]struct{}         // until written
	again   bool                        // tell all
	failing bool
}

func newRegistry(s Store, replica string, all func() []store.Connection, log *slog.Logger) *registry {
	return &registry{store: s, replica: replica, all: all, log: log, open: make(map[string]store.Connection), gone: make(map[string]struct{})}
}

func (r *registry) opened(c store.Connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c.ID] = c
}

func (r *registry) closed(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, id)
	r.gone[id] = struct{}{}
}

// tellAgain makes the next write tell every open connection.
func (r *registry) tellAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again = true
}

// run writes every second, also when nothing changed: it says that the replica is alive.
func (r *registry) run(ctx context.Context) {
	ticker := time.NewTicker(syncInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.flush(ctx)
		}
	}
}

func (r *registry) flush(ctx context.Context) {
	r.mu.Lock()
	open, gone, again := r.open, r.gone, r.again
	r.open, r.gone, r.again = make(map[string]store.Connection), make(map[string]struct{}), false
	r.mu.Unlock()

	var opened []store.Connection
	if again {
		opened = r.all()
	} else {
		for _, c := range open {
			opened = append(opened, c)
		}
	}
	closed := make([]string, 0, len(gone))
	for id := range gone {
		closed = append(closed, id)
	}
	call, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	err := r.store.SyncConnections(call, r.replica, opened, closed)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.failing = false
		return
	}
	if !r.failing && ctx.Err() == nil {
		r.failing = true
		r.log.Warn("connection registry not written, it is told again until it is", "error", err)
	}
	r.again = true
	for _, id := range closed {
		r.gone[id] = struct{}{}
	}
}
