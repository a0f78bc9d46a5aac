package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
)

// pool is a pool of connections that can be left behind with all that is in it. pgx keeps the place of a connection on which nothing is said any
// more for the fifteen seconds of a polite end; when the way to the database swallows everything, all places are soon taken by such.
type pool struct {
	url    string
	conns  int
	tracer pgx.QueryTracer // nil: none
	// direct says that each statement is one round trip on a connection that is there: all are kept, none is tried before, and the types of
	// parameters are not asked for. A connection that is broken fails a call.
	direct bool

	mu      sync.Mutex
	current *pgxpool.Pool
	renewed time.Time
	closed  bool
	leaving sync.WaitGroup
}

func newPool(url string, conns int, traces trace.TracerProvider, direct bool) (*pool, error) {
	p := &pool{url: url, conns: conns, direct: direct}
	if traces != nil {
		// A span says which kind of statement it is; nothing of what is stored leaves with it.
		p.tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(traces), otelpgx.WithDisableAcquireTracer(),
			otelpgx.WithDisableConnectionDetailsInAttributes(), otelpgx.WithDisableSQLStatementInAttributes())
	}
	var err error
	p.current, err = p.make()
	return p, err
}

func (p *pool) make() (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(p.url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", redact(err))
	}
	configure(config.ConnConfig)
	p.adapt(config.ConnConfig)
	config.MaxConns = int32(p.conns)
	config.PingTimeout = connectTimeout
	// Read anew each time: passwords and certificates, which stand in files that the URL names, are replaced while the program runs.
	config.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
		fresh, err := connConfig(p.url)
		if err == nil {
			*conn = *fresh
			p.adapt(conn)
		}
		return err
	}
	if p.direct {
		config.MinConns = config.MaxConns
		config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	made, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	return made, nil
}

func (p *pool) adapt(config *pgx.ConnConfig) {
	config.Tracer = p.tracer
	if p.direct && config.DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe {
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
}

func (p *pool) now() *pgxpool.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// renew leaves all connections behind, those of calls under way when these are over.
func (p *pool) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || time.Since(p.renewed) < quickTimeout {
		return
	}
	made, err := p.make()
	if err != nil { // a file that the URL names is being replaced
		return
	}
	p.leave()
	p.current, p.renewed = made, time.Now()
}

// leave closes the current pool in its own time. The caller holds the mutex.
func (p *pool) leave() {
	old := p.current
	p.leaving.Go(old.Close)
}

// Close waits for the calls under way, but not for long for a database that says nothing.
func (p *pool) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.leave()
	}
	p.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		p.leaving.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(quickTimeout):
	}
}

func (p *pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return p.now().Exec(ctx, sql, args...)
}

func (p *pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return p.now().Query(ctx, sql, args...)
}

func (p *pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return p.now().QueryRow(ctx, sql, args...)
}

func (p *pool) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return p.now().CopyFrom(ctx, table, columns, rows)
}

func (p *pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.now().Begin(ctx) }

func (p *pool) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	return p.now().BeginTx(ctx, options)
}

func (p *pool) Ping(ctx context.Context) error { return p.now().Ping(ctx) }
