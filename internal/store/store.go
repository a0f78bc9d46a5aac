package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"changeover/internal/store/internal/db"
)

// Deadlines of single calls, for a database that accepts them and does not answer.
const (
	connectTimeout = 2 * time.Second
	quickTimeout   = 4 * time.Second // of what is asked all the time, so that it goes on within 5 s of the database's return
	callTimeout    = 10 * time.Second
	commitTimeout  = 20 * time.Second
	loadTimeout    = 2 * time.Minute
)

// The connections of the pools that nobody but the leader uses.
const (
	leaderConns = 6 // three commits, and what is read and saved meanwhile
	leaseConns  = 2 // so that no renewal waits for any of those, were they stuck, and a release not even for a renewal
)

// Errors that callers tell apart.
var (
	// ErrFenced says that another term of the lease has begun: the caller leads no more and nothing was written.
	ErrFenced = errors.New("another leader has taken over")
	// ErrLost says that the database lost commits of the term: the state in memory is ahead of it, and has to be loaded again.
	ErrLost = errors.New("the database has lost commits")
	// ErrNotFound says that what was asked for by its id does not exist.
	ErrNotFound = errors.New("not found")
	// ErrPruned says that retention has dropped events that the reader asked for.
	ErrPruned = errors.New("the event log does not reach back that far")
	// ErrBadCursor says that a page's cursor was not made by that list.
	ErrBadCursor = errors.New("malformed cursor")
	// ErrOldSchema says that what was asked for needs a migration that has not been applied yet: 'server migrate' does it. See
	// IsUnavailable.
	ErrOldSchema = errors.New("the database's schema is not up to date")
	// ErrNewSchema says that a newer version of the program has changed the schema so that this one can work on it no more.
	ErrNewSchema = errors.New("the database's schema is too new for this program")
)

// Options of a Store.
type Options struct {
	URL       string // of PostgreSQL, as pgx understands it
	ListenURL string // a direct connection for LISTEN when URL goes through a transaction pooler; empty: URL
	MaxConns  int    // of the pool for everything but leading; 0: 10
	// History is how long failovers that are over, and changes of distributions, are kept; 0: for ever.
	History time.Duration
	Log     *slog.Logger
	Metrics *Metrics // nil: none
	// Traces gets a span of each statement below one of its caller's; nil: none.
	Traces trace.TracerProvider
	// Traced is told of commits of any replica that are part of a trace, as [Store.Listen] hears of them; nil: nobody is.
	Traced func(TracedCommit)
	// Committed is called when events of this program are committed and [Store.FreshEvents] has them: the notification of a commit may
	// be here before that. It must not block; nil: nobody is told.
	Committed func()
}

// Metrics counts what goes wrong between the program and its database.
type Metrics struct {
	errors *prometheus.CounterVec
}

// NewMetrics registers changeover_store_errors_total{operation}.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{errors: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "changeover_store_errors_total",
		Help: "Calls of the store that failed, by operation. Fencing and missing rows are no failures.",
	}, []string{"operation"})}
	reg.MustRegister(m.errors)
	return m
}

// Store is a connection to the database. See the package's documentation.
type Store struct {
	opts   Options
	log    *slog.Logger
	pool   *pool // readers, inbox, registry
	leader *pool // commits, and what else only the leader does
	lease  *pool // the lease alone
	q      *db.Queries
	schema atomic.Int64 // the version that was last read; it only grows
	seen   sighting
	count  count
	fresh  fresh

	replicas replicas
	claims   claims

	audits  *batcher[AuditEntry, struct{}]
	submits *batcher[submission, submitted]
	issues  *batcher[issue, time.Time]
	redeems *batcher[[sha256.Size]byte, *Ticket]
}

// How calls are batched. A herd of desktops that opens streams or reports is thousands of calls in a second, on each replica.
const (
	batchQueue   = 50_000
	auditBatch   = 500 // each entry takes some 30 µs in the database, with the chain's head locked
	auditGather  = 5 * time.Millisecond
	ticketBatch  = 5000
	ticketGather = 500 * time.Millisecond // a stream may begin that much later in a herd of five hundred and more in a second,
	ticketEach   = 2 * time.Millisecond   // and some milliseconds when a few come at once
)

// Open makes a Store. It does not need the database to be there; an error is one of the URLs.
func Open(_ context.Context, opts Options) (*Store, error) {
	if opts.MaxConns == 0 {
		opts.MaxConns = 10
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.ListenURL != "" {
		if _, err := connConfig(opts.ListenURL); err != nil {
			return nil, fmt.Errorf("database URL for LISTEN: %w", err)
		}
	}
	s := &Store{opts: opts, log: opts.Log, q: db.New()}
	s.audits = newBatcher(s.appendAudits, auditBatch, auditGather)
	s.submits = newBatcher(s.submitAll, auditBatch, auditGather)
	s.issues = newBatcher(s.issueTickets, ticketBatch, ticketGather)
	s.redeems = newBatcher(s.redeemTickets, ticketBatch, ticketGather)
	s.issues.each, s.redeems.each = ticketEach, ticketEach
	var err error
	if s.pool, err = newPool(opts.URL, opts.MaxConns, opts.Traces, false); err != nil {
		return nil, err
	}
	if s.leader, err = newPool(opts.URL, leaderConns, opts.Traces, false); err != nil {
		s.pool.Close()
		return nil, err
	}
	if s.lease, err = newPool(opts.URL, leaseConns, opts.Traces, true); err != nil {
		s.pool.Close()
		s.leader.Close()
		return nil, err
	}
	return s, nil
}

func connConfig(url string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, redact(err)
	}
	configure(config)
	return config, nil
}

func configure(config *pgx.ConnConfig) {
	// Only descriptions of statements are remembered: named prepared statements belong to a session, which a transaction
	// pooler does not keep. Planning each time also suits filters of which most are empty.
	if config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "changeover"
	}
	// A standby answers what only reads, later than the truth: of several servers, and behind a name that has moved, take the one that can
	// be written to.
	if config.ValidateConnect == nil {
		config.ValidateConnect = writable
	}
}

// writable refuses a server that only reads.
func writable(ctx context.Context, conn *pgconn.PgConn) error {
	// PostgreSQL says it without being asked; a pooler may not.
	if conn.ParameterStatus("in_hot_standby") == "off" && conn.ParameterStatus("default_transaction_read_only") == "off" {
		return nil
	}
	if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
		return fmt.Errorf("the server only reads (a standby, or default_transaction_read_only is on), and Changeover has to write: %w", err)
	}
	return nil
}

// redact keeps the text of a malformed URL, which may hold a password, out of the error.
func redact(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		if cause := errors.Unwrap(parse); cause != nil {
			return fmt.Errorf("not a PostgreSQL URL: %w", cause)
		}
		return errors.New("not a PostgreSQL URL")
	}
	return err
}

// Close ends the pools. It waits for calls under way, a few seconds at most.
func (s *Store) Close() {
	s.audits.close()
	s.submits.close()
	s.issues.close()
	s.redeems.close()
	s.pool.Close()
	s.leader.Close()
	s.lease.Close()
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) (err error) {
	ctx, done := s.call(ctx, "ping", connectTimeout, &err)
	defer done()
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	return nil
}

// call gives an operation its deadline. done counts and cancels; it reads *err after the operation has set it.
func (s *Store) call(ctx context.Context, operation string, timeout time.Duration, err *error) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	began := time.Now()
	var failed prometheus.Counter
	if s.opts.Metrics != nil {
		failed = s.opts.Metrics.errors.WithLabelValues(operation) // there before the first failure, or no increase is seen by it
	}
	return ctx, func() {
		if *err != nil && time.Since(began) >= min(timeout, quickTimeout) {
			// The other connections may be as silent, and would be tried one after the other.
			s.pool.renew()
			s.leader.renew()
		}
		cancelled := errors.Is(ctx.Err(), context.Canceled)
		cancel()
		if failed == nil || *err == nil || cancelled || errors.Is(*err, ErrFenced) || errors.Is(*err, ErrNotFound) ||
			errors.Is(*err, ErrPruned) || errors.Is(*err, ErrBadCursor) || errors.Is(*err, ErrOldSchema) {
			return
		}
		failed.Inc()
	}
}

// IsUnavailable says whether an error of the store means that the database is away, starting, stopping, full, silent, not migrated
// or asked too much, so that the same call may succeed later.
func IsUnavailable(err error) bool {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, ErrOldSchema), errors.Is(err, ErrBusy):
		return true
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code[:min(2, len(pgErr.Code))] {
		case "08", "53", "57", "58": // connection, resources, operator intervention, system
			return true
		case "25":
			return pgErr.Code == "25006" || pgErr.Code == "25P03" || pgErr.Code == "25P04" // a standby; idle too long
		case "40", "55": // serialization and deadlock; lock not available
			return true
		case "42":
			return pgErr.Code == "42P01" // no such table: nobody has migrated the database yet
		}
		return false
	}
	var connectErr *pgconn.ConnectError
	var netErr net.Error
	return errors.As(err, &connectErr) || errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		pgconn.SafeToRetry(err) // nothing was sent: the connection was closed already
}

// notFound turns a missing row into ErrNotFound.
func notFound(err error, what, id string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%s %q: %w", what, id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read %s %q: %w", what, id, err)
	}
	return nil
}

// snapshot runs f in one read-only view of the database.
func (s *Store) snapshot(ctx context.Context, pool *pool, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}
