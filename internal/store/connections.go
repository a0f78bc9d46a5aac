package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/store/internal/db"
)

// Connection is an open event stream.
type Connection struct {
	ID          string // unique among all replicas
	Replica     string
	AgentID     string // empty: a stream of all agents
	Since       time.Time
	LastEventID string // that it resumed from; empty: it did not
	RemoteAddr  string
}

// replicas remembers which replicas have reported to the database in this program's life.
type replicas struct {
	mu    sync.Mutex
	known map[string]bool
}

// SyncConnections tells which connections a replica has opened and closed since the last call, and that it is alive: call it at least
// every third of ReplicaTimeout, with nothing to tell too. After an error tell the same again. The first call of a program for a
// replica's name forgets what an earlier life under that name left behind.
func (s *Store) SyncConnections(ctx context.Context, replica string, opened []Connection, closed []string) (err error) {
	ctx, done := s.call(ctx, "sync_connections", quickTimeout, &err)
	defer done()
	s.replicas.mu.Lock()
	defer s.replicas.mu.Unlock()
	replica = text(replica)
	params := db.OpenConnectionsParams{Replica: replica}
	for _, c := range opened {
		params.ConnectionIds = append(params.ConnectionIds, text(c.ID))
		params.AgentIds = append(params.AgentIds, text(c.AgentID))
		params.Ages = append(params.Ages, max(time.Since(c.Since), 0).Microseconds())
		params.LastEventIds = append(params.LastEventIds, text(c.LastEventID))
		params.RemoteAddresses = append(params.RemoteAddresses, text(c.RemoteAddr))
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if !s.replicas.known[replica] {
			if err := s.q.ForgetConnections(ctx, tx, replica); err != nil {
				return err
			}
		}
		if err := s.q.Heartbeat(ctx, tx, replica); err != nil {
			return err
		}
		if len(opened) > 0 {
			if err := s.q.OpenConnections(ctx, tx, params); err != nil {
				return err
			}
		}
		if len(closed) > 0 {
			return s.q.CloseConnections(ctx, tx, closed)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("register %d opened and %d closed connections of %s: %w", len(opened), len(closed), replica, err)
	}
	if s.replicas.known == nil {
		s.replicas.known = make(map[string]bool)
	}
	s.replicas.known[replica] = true
	return nil
}

// StreamingAgents returns the agents with an open event stream on a replica that is alive, and since when the oldest of each is open.
func (s *Store) StreamingAgents(ctx context.Context) (since map[string]time.Time, err error) {
	ctx, done := s.call(ctx, "streaming_agents", quickTimeout, &err)
	defer done()
	row, err := s.q.StreamingAgents(ctx, s.leader, ReplicaTimeout)
	if err != nil {
		return nil, fmt.Errorf("read which agents have an event stream: %w", err)
	}
	since = make(map[string]time.Time, len(row.AgentIds))
	for i, id := range row.AgentIds {
		since[id] = row.Sinces[i].Time
	}
	return since, nil
}

// Connections lists the open event streams, of one agent or with an empty id of all, by their ids.
func (s *Store) Connections(ctx context.Context, agentID string, p Page) (connections []Connection, next string, err error) {
	ctx, done := s.call(ctx, "connections", callTimeout, &err)
	defer done()
	keys, err := p.keys("connections", 1)
	if err != nil {
		return nil, "", err
	}
	params := db.ConnectionsParams{AgentID: text(agentID), Alive: ReplicaTimeout, MaxRows: rowLimit(p.limit() + 1)}
	if keys != nil {
		params.AfterID = keys[0]
	}
	rows, err := s.q.Connections(ctx, s.pool, params)
	if err != nil {
		return nil, "", fmt.Errorf("read connections: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.Connection) string { return cursor("connections", r.ConnectionID) })
	connections = make([]Connection, len(rows))
	for i, r := range rows {
		connections[i] = Connection{
			ID: r.ConnectionID, Replica: r.Replica, AgentID: r.AgentID, Since: r.Since.Time, LastEventID: r.LastEventID,
			RemoteAddr: r.RemoteAddress,
		}
	}
	return connections, next, nil
}
