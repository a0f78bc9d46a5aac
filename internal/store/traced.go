package store

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/trace"
)

// TracedCommit is a commit with events that is part of a trace.
type TracedCommit struct {
	First, Last Position          // of its events
	Span        trace.SpanContext // of the commit
}

// payloadOf is what the doorbell of a commit says: empty unless the commit has events and its trace is recorded.
func payloadOf(ctx context.Context, c Committed) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsSampled() || c.First.Seq == 0 {
		return ""
	}
	return fmt.Sprintf("%d %d %d %s %s", c.First.Epoch, c.First.Seq, c.Last.Seq, span.TraceID(), span.SpanID())
}

// parsePayload reads it; false: it is not one of ours.
func parsePayload(payload string) (c TracedCommit, ok bool) {
	var traceID, spanID string
	if _, err := fmt.Sscanf(payload, "%d %d %d %s %s", &c.First.Epoch, &c.First.Seq, &c.Last.Seq, &traceID, &spanID); err != nil {
		return c, false
	}
	c.Last.Epoch = c.First.Epoch
	config := trace.SpanContextConfig{TraceFlags: trace.FlagsSampled, Remote: true}
	var err error
	if config.TraceID, err = trace.TraceIDFromHex(traceID); err != nil {
		return c, false
	}
	if config.SpanID, err = trace.SpanIDFromHex(spanID); err != nil {
		return c, false
	}
	c.Span = trace.NewSpanContext(config)
	return c, true
}
