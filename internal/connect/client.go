package connect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/connect"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// breakerDelay is how long an operation is left alone after three requests in a row had no answer. It bounds what the breaker adds
// to a Region's recovery, and is shorter than any interval at which one thing is read again.
const breakerDelay = 2 * time.Second

// Options say how one Region of Amazon Connect is called.
type Options struct {
	Region   string // us-east-1
	Endpoint string // replaces the Region's public endpoint; empty: that of the SDK
	RoleARN  string // is assumed with the Region's own STS; empty: the credentials of the SDK's default chain as they are

	// RequestsPerSecond and Burst limit each operation by itself, as Amazon's quotas do, which are per account and Region.
	RequestsPerSecond float64
	Burst             int
	RequestTimeout    time.Duration // of the one attempt, connecting and reading included

	Metrics *Metrics     // nil: none
	Log     *slog.Logger // nil: slog.Default()

	// Transport replaces the Client's own pool of connections, for Amazon Connect and for the STS of RoleARN, so that
	// tests can talk to a simulator in the same process. nil: a pool of its own.
	Transport http.RoundTripper
}

// Client calls Amazon Connect in one Region. Failover groups that use the same Region, endpoint and role share one,
// because they share Amazon's quotas.
type Client struct {
	region     string
	timeout    time.Duration
	api        *sdk.Client
	http       *http.Client
	metrics    *Metrics
	log        *slog.Logger
	health     *health
	operations map[string]*operation
}

// operation is what a Client keeps per operation.
type operation struct {
	limiter *limiter
	breaker circuitbreaker.CircuitBreaker[any]
	settled atomic.Pointer[chan struct{}] // closed and replaced whenever the breaker changes its state
}

// New makes a Client. It reads the AWS configuration of the process, and fails where that is wrong, but does not reach
// Amazon.
func New(ctx context.Context, o Options) (*Client, error) {
	switch {
	case o.Region == "":
		return nil, errors.New("connect: no Region")
	case o.RequestsPerSecond <= 0 || o.Burst < 1:
		return nil, fmt.Errorf("connect: %v requests per second with a burst of %d let nothing through", o.RequestsPerSecond, o.Burst)
	case o.RequestTimeout <= 0:
		return nil, fmt.Errorf("connect: request timeout %s is not positive", o.RequestTimeout)
	}
	if o.Endpoint != "" {
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("connect: endpoint of %s is not an http or https URL", o.Region)
		}
	}
	cfg, client, err := loadConfig(ctx, o)
	if err != nil {
		return nil, err
	}
	c := &Client{
		region:     o.Region,
		timeout:    o.RequestTimeout,
		http:       client,
		metrics:    o.Metrics,
		log:        o.Log,
		health:     newHealth(time.Now(), Operations),
		operations: make(map[string]*operation, len(Operations)),
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	c.api = sdk.NewFromConfig(cfg, func(so *sdk.Options) {
		so.Retryer = aws.NopRetryer{}
		so.APIOptions = append(so.APIOptions, addUserDataDecoder)
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	for _, name := range Operations {
		c.operations[name] = c.newOperation(name, o)
	}
	return c, nil
}

func (c *Client) newOperation(name string, o Options) *operation {
	op := &operation{limiter: newLimiter(o.RequestsPerSecond, o.Burst)}
	settled := make(chan struct{})
	op.settled.Store(&settled)
	op.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(downAfter).
		WithSuccessThreshold(1). // also: one request at a time is let through while half open
		WithDelay(breakerDelay).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			if e.OldState == circuitbreaker.ClosedState {
				c.log.Warn("amazon connect does not answer", "region", c.region, "operation", name, "retry_after", breakerDelay)
			} else if e.NewState == circuitbreaker.ClosedState {
				c.log.Info("amazon connect answers again", "region", c.region, "operation", name)
			}
			next := make(chan struct{})
			close(*op.settled.Swap(&next))
		}).
		Build()
	return op
}

// Region is the Region that the Client calls.
func (c *Client) Region() string { return c.region }

// Health is how the Region answers, over all operations.
func (c *Client) Health() Health { return c.health.ofRegion() }

// HealthOf is how the Region answers to one of the [Operations].
func (c *Client) HealthOf(operation string) Health { return c.health.of(operation) }

// Close closes the connections that are idle. Requests under way end with their contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// timeoutError is an attempt that took longer than it may.
type timeoutError struct {
	after time.Duration
	err   error
}

func (e *timeoutError) Error() string { return fmt.Sprintf("no answer within %s", e.after) }
func (e *timeoutError) Unwrap() error { return e.err }

// invoke makes one request: waits for its turn, sends it once, has the answer converted, and takes notice of the result.
// sentAt is not later than the request really left.
func invoke[In, Out, T any](
	ctx context.Context, c *Client, name string, p Priority, in *In,
	send func(context.Context, *In, ...func(*sdk.Options)) (*Out, error),
	convert func(*Out) (T, error),
) (result T, sentAt time.Time, err error) {
	var none T
	ctx, end := c.span(ctx, name)
	defer func() { end(err) }()
	op := c.operations[name]
	if err := op.turn(ctx, p); err != nil {
		return none, time.Time{}, c.failure(ctx, name, err)
	}
	sentAt = time.Now()
	attempt, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out, err := send(attempt, in)
	if err == nil {
		result, err = convert(out)
	} else if attempt.Err() != nil && ctx.Err() == nil {
		err = &timeoutError{c.timeout, err}
	}
	if err != nil {
		failure := c.failure(ctx, name, err)
		c.observe(op, name, sentAt, failure)
		return none, sentAt, failure
	}
	c.observe(op, name, sentAt, nil)
	return result, sentAt, nil
}

// span is that of a request, from its waiting for its turn on, where what asks for it has one.
func (c *Client) span(ctx context.Context, operation string) (context.Context, func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsSampled() {
		return ctx, func(error) {}
	}
	ctx, span := parent.TracerProvider().Tracer("changeover/internal/connect").Start(ctx, "Amazon Connect "+operation,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("cloud.region", c.region), attribute.String("rpc.method", operation)))
	return ctx, func(err error) {
		if err != nil { // whose text may name what was asked for
			span.SetStatus(codes.Error, string(KindOf(err)))
		}
		span.End()
	}
}

// failure is the error that the caller gets. Whatever fails while the caller has cancelled is a cancellation.
func (c *Client) failure(ctx context.Context, operation string, err error) *Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Region: c.region, Operation: operation, Err: context.Canceled}
	}
	return &Error{Kind: classify(err), Region: c.region, Operation: operation, Err: err}
}

// turn waits until a request may be sent.
func (op *operation) turn(ctx context.Context, p Priority) error {
	if op.breaker.IsOpen() && op.breaker.RemainingDelay() > 0 {
		return ErrCircuitOpen // before it takes a token
	}
	if err := op.limiter.wait(ctx, p); err != nil {
		return &quotaError{err}
	}
	// While the one request that is let through half open is under way, others wait for its result instead of failing: else
	// a Region's recovery would be seen by that one question only.
	for {
		settled := *op.settled.Load() // before the attempt, so that no change is missed
		if op.breaker.TryAcquirePermit() {
			return nil
		}
		if !op.breaker.IsHalfOpen() {
			return ErrCircuitOpen
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return ErrCircuitOpen
		}
	}
}

// observe takes notice of the result of a request that was sent; e is nil for success.
func (c *Client) observe(op *operation, name string, sentAt time.Time, e *Error) {
	var kind Kind
	if e != nil {
		kind = e.Kind
		if kind == "" { // cancelled: it says nothing, but must not keep the only permit
			if op.breaker.IsHalfOpen() {
				op.breaker.Close()
			}
			return
		}
	}
	now := time.Now()
	c.metrics.observe(c.region, name, kind, now.Sub(sentAt))
	c.health.record(now, name, e)
	if kind == Throttled {
		op.limiter.throttled(sentAt)
	}
	if kind == Unavailable {
		op.breaker.RecordFailure()
	} else {
		op.breaker.RecordSuccess() // it answers
	}
}
