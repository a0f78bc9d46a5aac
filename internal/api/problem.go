package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/store"
)

// problemKind is a kind of error as the document lists them under Problem.type.
type problemKind struct {
	slug   string
	status int
	title  string
}

const problemPrefix = "urn:changeover:problem:"

var (
	kindInvalid         = problemKind{"invalid-request", http.StatusBadRequest, "Invalid request"}
	kindUnauthenticated = problemKind{"unauthenticated", http.StatusUnauthorized, "Unauthenticated"}
	kindForbidden       = problemKind{"forbidden", http.StatusForbidden, "Forbidden"}
	kindNotFound        = problemKind{"not-found", http.StatusNotFound, "Not found"}
	kindMethod          = problemKind{"method-not-allowed", http.StatusMethodNotAllowed, "Method not allowed"}
	kindTimeout         = problemKind{"request-timeout", http.StatusRequestTimeout, "Request timeout"}
	kindNotOpen         = problemKind{"failover-not-open", http.StatusConflict, "Failover not open"}
	kindDeliveryPending = problemKind{"delivery-pending", http.StatusConflict, "Delivery pending"}
	kindInProgress      = problemKind{"request-in-progress", http.StatusConflict, "Request in progress"}
	kindTooLarge        = problemKind{"body-too-large", http.StatusRequestEntityTooLarge, "Body too large"}
	kindMediaType       = problemKind{"unsupported-media-type", http.StatusUnsupportedMediaType, "Unsupported media type"}
	kindRefused         = problemKind{"rule-refused", http.StatusUnprocessableEntity, "Refused by a rule"}
	kindKeyReused       = problemKind{"idempotency-key-reused", http.StatusUnprocessableEntity, "Idempotency-Key reused"}
	kindTooMany         = problemKind{"too-many-requests", http.StatusTooManyRequests, "Too many requests"}
	kindInternal        = problemKind{"internal", http.StatusInternalServerError, "Internal error"}
	kindNotImplemented  = problemKind{"not-implemented", http.StatusNotImplemented, "Not implemented"}
	kindUnavailable     = problemKind{"unavailable", http.StatusServiceUnavailable, "Temporarily unavailable"}
)

// problem is an error that the caller is told. Only detail and fields leave the process; cause is for the log.
type problem struct {
	kind   problemKind
	detail string
	fields []contract.FieldError
	allow  string        // 405: the methods that the path has
	after  time.Duration // when to come again; 0: soon
	cause  error
}

func (p *problem) Error() string {
	if p.cause != nil {
		return fmt.Sprintf("%s: %v", p.kind.slug, p.cause)
	}
	return p.kind.slug + ": " + p.detail
}

func (p *problem) Unwrap() error { return p.cause }

func problemf(kind problemKind, format string, args ...any) *problem {
	return &problem{kind: kind, detail: fmt.Sprintf(format, args...)}
}

// invalid makes a 400 out of what is wrong with each field; there is at least one.
func invalid(fields ...contract.FieldError) *problem {
	f := fields[0]
	name := "The body"
	if f.Field != "" {
		name = fmt.Sprintf("The %s parameter %q", f.In, f.Field)
		switch f.In {
		case contract.FieldErrorInBody:
			name = fmt.Sprintf("The field %q", f.Field)
		case contract.FieldErrorInHeader:
			name = fmt.Sprintf("The header %q", f.Field)
		}
	}
	detail := fmt.Sprintf("%s: %s.", name, strings.TrimSuffix(f.Message, "."))
	if more := len(fields) - 1; more > 0 {
		detail += fmt.Sprintf(" And %d more.", more)
	}
	return &problem{kind: kindInvalid, detail: detail, fields: fields}
}

func notFound(what, id string) *problem {
	return problemf(kindNotFound, "There is no %s %q.", what, id)
}

// asProblem is the one place that maps errors to what the caller is told.
func (s *Server) asProblem(err error) *problem {
	var p *problem
	var format *contract.InvalidParamFormatError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &format): // the validation lets nothing through that cannot be bound
		return invalid(contract.FieldError{Field: format.ParamName, In: contract.FieldErrorInQuery, Message: "has the wrong format"})
	case errors.Is(err, errBadCursor):
		return invalid(contract.FieldError{Field: "cursor", In: contract.FieldErrorInQuery, Message: "is not a cursor of this list with these filters; begin without it"})
	case errors.Is(err, store.ErrKeyLost): // it took longer than a minute, and a retry is at work on it
		return problemf(kindInProgress, "A later request with this Idempotency-Key is being answered. Try again with the same key.")
	case errors.Is(err, context.Canceled): // by the caller, who does not read the answer
		return &problem{kind: kindUnavailable, detail: "The request was given up.", cause: err}
	case unavailable(err):
		return &problem{kind: kindUnavailable, detail: "The database is away. Nothing was done; try again.", cause: err}
	}
	return &problem{kind: kindInternal, detail: "Something went wrong in the service. It is logged under the request id.", cause: err}
}

const retryAfterSeconds = 2

// fail writes the problem, and logs what the caller is not told.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := s.asProblem(err)
	c := callOf(r.Context())
	switch {
	case r.Context().Err() != nil: // the caller has gone
	case p.kind == kindInternal:
		s.log.ErrorContext(r.Context(), "request failed", "request_id", c.requestID, "operation", c.operationID(), "error", p.cause)
	case p.kind == kindUnavailable:
		s.log.WarnContext(r.Context(), "request answered 503, the client is asked to retry", "request_id", c.requestID, "operation", c.operationID(), "error", p.cause)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	switch p.kind {
	case kindUnauthenticated:
		h.Set("WWW-Authenticate", `Bearer realm="changeover"`)
	case kindTooMany, kindUnavailable, kindInProgress:
		after := retryAfterSeconds
		if p.after > 0 {
			after = int(p.after/time.Second) + 1
		}
		h.Set("Retry-After", strconv.Itoa(after))
	case kindMethod:
		h.Set("Allow", p.allow)
	}
	body, err := json.Marshal(contract.Problem{
		Type:      problemPrefix + p.kind.slug,
		Title:     p.kind.title,
		Status:    p.kind.status,
		Detail:    p.detail,
		RequestID: c.requestID,
		Errors:    p.fields,
	})
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	w.WriteHeader(p.kind.status)
	w.Write(append(body, '\n'))
}
