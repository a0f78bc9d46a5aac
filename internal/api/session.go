package api

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
	"changeover/internal/store"
)

// Sessions makes the cookie of POST /v1/session; *auth.Tokens is one.
type Sessions interface {
	// NewSession returns the cookie that stands for the request's Bearer token. Errors are those of auth.Authenticator, and
	// auth.ErrTokenTooLong.
	NewSession(r *http.Request) (*http.Cookie, error)
	// EndSession returns the cookie that makes the browser forget its session.
	EndSession() *http.Cookie
}

// Sessions and tickets stand for a token. Without tokens (auth.mode none) there is nothing that they could stand for.
var errNoTokens = problemf(kindNotImplemented, "This deployment runs without tokens (auth.mode is none): every caller is let in without a session or a ticket.")

// credentials are the operations whose answers are themselves a proof of identity. They are not kept for an
// Idempotency-Key, so that no proof is ever stored: asking again is harmless and gives a new one.
var credentials = []string{"createSession", "deleteSession", "createStreamTicket"}

// remembered says whether answers of the operation are kept for their Idempotency-Key.
func (op *operation) remembered() bool { return op.idempotent && !slices.Contains(credentials, op.id) }

// newCookie is a 204 that sets the session's cookie.
type newCookie struct{ cookie *http.Cookie }

func (c newCookie) write(w http.ResponseWriter) error {
	http.SetCookie(w, c.cookie)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// VisitCreateSessionResponse implements contract.CreateSessionResponseObject.
func (c newCookie) VisitCreateSessionResponse(w http.ResponseWriter) error { return c.write(w) }

// VisitDeleteSessionResponse implements contract.DeleteSessionResponseObject.
func (c newCookie) VisitDeleteSessionResponse(w http.ResponseWriter) error { return c.write(w) }

// GetSession implements GET /v1/session.
func (s *Server) GetSession(ctx context.Context, _ contract.GetSessionRequestObject) (contract.GetSessionResponseObject, error) {
	i := callOf(ctx).identity
	return contract.GetSession200JSONResponse{
		Subject: i.Subject, Name: text(i.Name), AgentID: text(i.AgentID), ExpiresAt: moment(i.Expires), Tokens: s.sessions != nil,
		Roles: each(i.Roles, func(r *auth.Role) contract.SessionRoles { return contract.SessionRoles(*r) }),
	}, nil
}

// CreateSession implements POST /v1/session.
func (s *Server) CreateSession(ctx context.Context, _ contract.CreateSessionRequestObject) (contract.CreateSessionResponseObject, error) {
	if s.sessions == nil {
		return nil, errNoTokens
	}
	cookie, err := s.sessions.NewSession(callOf(ctx).request)
	if errors.Is(err, auth.ErrTokenTooLong) {
		return nil, &problem{kind: kindRefused, detail: "The token is too long for a cookie. Have the identity provider leave out of it what the service does not need, above all groups.", cause: err}
	}
	if err != nil {
		return nil, unauthenticated(err)
	}
	return newCookie{cookie}, nil
}

// DeleteSession implements DELETE /v1/session.
func (s *Server) DeleteSession(context.Context, contract.DeleteSessionRequestObject) (contract.DeleteSessionResponseObject, error) {
	if s.sessions == nil {
		return nil, errNoTokens
	}
	return newCookie{s.sessions.EndSession()}, nil
}

// CreateStreamTicket implements POST /v1/agents/{agentId}/stream-tickets. A ticket that somebody else than the agent gets is in
// the audit.
func (s *Server) CreateStreamTicket(ctx context.Context, r contract.CreateStreamTicketRequestObject) (contract.CreateStreamTicketResponseObject, error) {
	c := callOf(ctx)
	if s.sessions == nil {
		return nil, errNoTokens
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if !c.identity.Is(r.AgentID) {
		if err := s.store.AppendAudit(ctx, c.entry("agents/"+r.AgentID, "", nil, outcomeAccepted)); err != nil {
			return nil, err
		}
	}
	ticket, hash := auth.NewTicket()
	roles := make([]string, len(c.identity.Roles))
	for i, role := range c.identity.Roles {
		roles[i] = string(role)
	}
	expiresAt, err := s.store.IssueTicket(ctx, hash, store.Ticket{
		AgentID: r.AgentID, Subject: c.identity.Subject, Name: c.identity.Name, Roles: roles, TokenExpiresAt: c.identity.Expires,
	})
	if err != nil {
		return nil, err
	}
	return contract.CreateStreamTicket201JSONResponse{Ticket: ticket, ExpiresAt: utc(expiresAt)}, nil
}

// unauthenticated says what the caller is told of a proof that was not accepted.
func unauthenticated(err error) *problem {
	switch {
	case errors.Is(err, auth.ErrTokenInURL):
		return &problem{kind: kindInvalid, detail: "There is a token in the URL. URLs are logged by everything that they pass, so the token has to be considered known to others: end it, and send one in the Authorization header, a session's cookie, or a stream ticket.", cause: err}
	case errors.Is(err, auth.ErrForeignOrigin):
		return &problem{kind: kindForbidden, detail: "A page of another origin may not use the session. Its origin would have to be in cors.allowedOrigins.", cause: err}
	case errors.Is(err, auth.ErrForeignHost):
		return &problem{kind: kindForbidden, detail: "Without tokens (auth.mode is none) the service answers to localhost and loopback addresses only; this request named another host.", cause: err}
	case errors.Is(err, auth.ErrUnavailable):
		return &problem{kind: kindUnavailable, detail: "The token or ticket cannot be checked now. Try again.", cause: err}
	}
	return &problem{kind: kindUnauthenticated, detail: "Send a valid token.", cause: err}
}
