package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
	"changeover/internal/stream"
)

// Store is what the API reads and appends; *store.Store is one. Its errors are told apart by store.ErrNotFound,
// store.ErrBadCursor and store.IsUnavailable.
type Store interface {
	Health(ctx context.Context) ([]store.RegionHealth, error)

	// Submit appends a command to the inbox together with its audit entry; CommandResult tells the leader's answer.
	Submit(ctx context.Context, kind string, payload any, e store.AuditEntry) (int64, error)
	CommandResult(ctx context.Context, id int64) (failover.Result, bool, error)

	Groups(ctx context.Context) ([]*failover.Group, error)
	// Look reads everything that the leader decides by, agents sorted by id.
	Look(ctx context.Context) (failover.Snapshot, error)
	// StreamingAgents tells who has an open event stream, and since when.
	StreamingAgents(ctx context.Context) (map[string]time.Time, error)
	TDGs(ctx context.Context, groups []string, p store.Page) ([]*failover.TDG, string, error)
	TDG(ctx context.Context, id string) (*failover.TDG, error)
	Changes(ctx context.Context, tdgID string, p store.Page) ([]store.Change, string, error)
	Agents(ctx context.Context, f store.AgentFilter, p store.Page) ([]store.AgentRow, string, error)
	Agent(ctx context.Context, id string) (store.AgentRow, error)
	AgentByUsername(ctx context.Context, group, username string) (store.AgentRow, error)
	// AgentByAlias finds the agent whom another Region knows by this id, among all or, if it is cheap to ask, only one.
	AgentByAlias(ctx context.Context, alias, agentID string) (string, error)
	Contacts(ctx context.Context, agentID string) ([]store.Contact, error)
	Failovers(ctx context.Context, f store.FailoverFilter, p store.Page) ([]*failover.Failover, string, error)
	Failover(ctx context.Context, id string) (*failover.Failover, error)
	OpenFailovers(ctx context.Context, f store.OpenFilter, p store.Page) ([]store.OpenFailover, store.OpenTotals, string, error)
	Summary(ctx context.Context) ([]store.GroupSummary, error)
	Shifts(ctx context.Context, f store.ShiftFilter, p store.Page) ([]store.PastShift, string, error)
	ShiftReport(ctx context.Context, id int64) (store.ShiftReport, error)
	ShiftProgress(ctx context.Context, id int64) (store.ShiftProgress, error)
	Connections(ctx context.Context, agentID string, p store.Page) ([]store.Connection, string, error)

	LogState(ctx context.Context) (store.LogState, error)
	AgentEventsAfter(ctx context.Context, agentIDs []string, afterSeq, uptoSeq int64, types []string, limit int) ([]store.LogEvent, error)

	// Drills fails with store.ErrOldSchema where the database cannot hold any.
	Drills(ctx context.Context, group string, p store.Page) ([]*failover.Drill, string, error)
	Drill(ctx context.Context, id string) (*failover.Drill, error)

	Webhooks(ctx context.Context) ([]store.Webhook, error)
	Deliveries(ctx context.Context, webhook, status string, p store.Page) ([]store.Delivery, string, error)
	ReplayDelivery(ctx context.Context, webhook, id string, giveUpAfter time.Duration, e store.AuditEntry) (store.Delivery, error)

	AppendAudit(ctx context.Context, e store.AuditEntry) error
	Audit(ctx context.Context, f store.AuditFilter, p store.Page) ([]store.AuditEntry, string, error)

	// IssueTicket keeps the hash of a stream ticket and returns until when it is good.
	IssueTicket(ctx context.Context, hash [sha256.Size]byte, t store.Ticket) (time.Time, error)

	BeginIdempotent(ctx context.Context, scope, key string, bodyHash []byte) (*store.Answer, error)
	FinishIdempotent(ctx context.Context, scope, key string, a store.Answer) error
	ReleaseIdempotent(ctx context.Context, scope, key string) error
}

// Hub is what the API needs of the event streams; *stream.Hub is one.
type Hub interface {
	// Ready says whether the log was read, so that streams and views can be served.
	Ready() bool
	// View is what memory knows of an agent; false: nothing.
	View(agentID string) (store.AgentView, bool)
	// Changed is closed when more of the log has been read.
	Changed() <-chan struct{}
	// Connections counts the agent's streams on this replica.
	Connections(agentID string) int
	// ServeAgent and ServeAll answer with an event stream; w and r belong to them.
	ServeAgent(w http.ResponseWriter, r *http.Request, agentID string, options ...stream.ServeOption)
	ServeAll(w http.ResponseWriter, r *http.Request, options ...stream.ServeOption)
	// Refuse answers a request for a stream that cannot be served now, so that the client comes back later.
	Refuse(w http.ResponseWriter, r *http.Request)
	// History reads events as JSON.
	History(ctx context.Context, q stream.HistoryQuery) (items []stream.Item, next string, err error)
}

// Limiter says whether a caller asks too often; *edge.Limiter is one.
type Limiter interface {
	// Wait counts a request and returns how long its sender has to wait before it would be let through; 0: it is.
	Wait(r *http.Request) time.Duration
}

var (
	_ Store = (*store.Store)(nil)
	_ Hub   = (*stream.Hub)(nil)
)

// errBadCursor is a page's cursor that its list did not make.
var errBadCursor = store.ErrBadCursor

// unavailable says whether the same request may succeed when it is sent again.
func unavailable(err error) bool { return store.IsUnavailable(err) }

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
