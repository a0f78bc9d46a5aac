package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/stream"
)

// served is a response that somebody else writes: an event stream, the metrics.
type served func(w http.ResponseWriter)

func (f served) serve(w http.ResponseWriter) error {
	f(w)
	return nil
}

// VisitGetAgentEventsResponse implements contract.GetAgentEventsResponseObject.
func (f served) VisitGetAgentEventsResponse(w http.ResponseWriter) error { return f.serve(w) }

// VisitGetEventsResponse implements contract.GetEventsResponseObject.
func (f served) VisitGetEventsResponse(w http.ResponseWriter) error { return f.serve(w) }

// VisitMetricsResponse implements contract.MetricsResponseObject.
func (f served) VisitMetricsResponse(w http.ResponseWriter) error { return f.serve(w) }

// GetAgentEvents implements GET /v1/agents/{agentId}/events.
func (s *Server) GetAgentEvents(ctx context.Context, r contract.GetAgentEventsRequestObject) (contract.GetAgentEventsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	if acceptsStream(c.request.Header.Values("Accept")) {
		if err := c.onlyStreams(); err != nil {
			return nil, err
		}
		return served(func(w http.ResponseWriter) { s.hub.ServeAgent(w, c.request, r.AgentID, c.rights()...) }), nil
	}
	q, err := c.historyQuery(r.AgentID, p.After, p.Type, p.Wait, p.Limit)
	if err != nil {
		return nil, err
	}
	if q.Wait == 0 { // a long poll is a stream by other means, open for agents that were not read yet
		reading, cancel := context.WithTimeout(ctx, storeTimeout)
		_, err := s.known(reading, r.AgentID)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	list, err := s.history(ctx, q, "agents/"+r.AgentID)
	return contract.GetAgentEvents200JSONResponse(list), err
}

// GetEvents implements GET /v1/events.
func (s *Server) GetEvents(ctx context.Context, r contract.GetEventsRequestObject) (contract.GetEventsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	if acceptsStream(c.request.Header.Values("Accept")) {
		if err := c.onlyStreams(); err != nil {
			return nil, err
		}
		return served(func(w http.ResponseWriter) { s.hub.ServeAll(w, c.request, c.rights()...) }), nil
	}
	q, err := c.historyQuery("", p.After, p.Type, p.Wait, p.Limit)
	if err != nil {
		return nil, err
	}
	q.All = true
	list, err := s.history(ctx, q, "callers/"+c.identity.Subject)
	return contract.GetEvents200JSONResponse(list), err
}

// rights end the stream no later than the caller's proof does.
func (c *call) rights() []stream.ServeOption {
	if c.identity.Expires.IsZero() {
		return nil
	}
	return []stream.ServeOption{stream.Until(c.identity.Expires)}
}

// history reads events, waiting for some if that is asked for; a poll that waits is counted under a key.
func (s *Server) history(ctx context.Context, q stream.HistoryQuery, key string) (contract.EventList, error) {
	if q.Wait > 0 {
		if until := callOf(ctx).identity.Expires; !until.IsZero() { // as a stream ends with its token
			q.Wait = min(q.Wait, time.Until(until))
		}
		done, refused := s.polls.begin(key)
		if refused != nil {
			return contract.EventList{}, refused
		}
		defer done()
	}
	ctx, cancel := context.WithTimeout(ctx, q.Wait+storeTimeout)
	defer cancel()
	items, next, err := s.wait(ctx, q)
	if errors.Is(err, stream.ErrNotReady) {
		return contract.EventList{}, &problem{kind: kindUnavailable, detail: "The event log is being loaded. Try again.", cause: err}
	}
	return contract.EventList{
		Items: each(items, func(i *stream.Item) contract.LoggedEvent { return contract.LoggedEvent(*i) }), NextCursor: next,
	}, err
}

// wait reads events. When the replica drains it does not wait any more.
func (s *Server) wait(ctx context.Context, q stream.HistoryQuery) ([]stream.Item, string, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	if q.Wait > 0 {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-s.polls.ended:
				cancel()
			case <-stop:
			}
		}()
	}
	items, next, err := s.hub.History(waiting, q)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		q.Wait = 0
		return s.hub.History(ctx, q)
	}
	return items, next, err
}

// onlyStreams refuses the parameters that a stream has no use for, so that nobody believes in a filter that is not there.
func (c *call) onlyStreams() error {
	var faults []contract.FieldError
	query := c.request.URL.Query()
	for _, name := range []string{"after", "type", "wait", "limit"} {
		if query.Has(name) {
			faults = append(faults, contract.FieldError{
				Field: name, In: contract.FieldErrorInQuery, Message: "counts for JSON only; a stream resumes from Last-Event-ID or lastEventId",
			})
		}
	}
	if faults != nil {
		return invalid(faults...)
	}
	return nil
}

func (c *call) historyQuery(agentID string, after *contract.After, types []contract.EventName, wait *contract.Wait, limit *contract.Limit) (stream.HistoryQuery, error) {
	q := stream.HistoryQuery{AgentID: agentID, After: value(after), Limit: defaultLimit}
	if c.request.URL.Query().Has("lastEventId") {
		return q, invalid(contract.FieldError{Field: "lastEventId", In: contract.FieldErrorInQuery, Message: "counts for streams only; JSON goes on from after"})
	}
	for _, t := range types {
		q.Types = append(q.Types, string(t))
	}
	slices.Sort(q.Types)
	q.Types = slices.Compact(q.Types)
	if limit != nil {
		q.Limit = *limit
	}
	if wait != nil {
		var err error
		if q.Wait, err = parseWait(*wait); err != nil || q.Wait > stream.MaxWait {
			return q, invalid(contract.FieldError{Field: "wait", In: contract.FieldErrorInQuery, Message: "must be at most " + stream.MaxWait.String()})
		}
	}
	return q, nil
}

const defaultLimit = 100 // of the document

// parseWait reads seconds, with or without a unit; the document's pattern has been checked.
func parseWait(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		s += "s"
	}
	return time.ParseDuration(s)
}

// quality reads the q of an Accept header; missing is 1, and what cannot be read is refused.
func quality(q string) float64 {
	if q == "" {
		return 1
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
	if err != nil || !(f >= 0 && f <= 1) {
		return 0
	}
	return f
}
