package api

import (
	"context"

	"changeover/internal/api/contract"
)

// Sessions and tickets stand for a token. Without tokens (auth.mode none) there is nothing that they could stand for.
var errNoTokens = problemf(kindNotImplemented, "This deployment runs without tokens (auth.mode is none): every caller is let in without a session or a ticket.")

// CreateSession implements POST /v1/session.
func (s *Server) CreateSession(context.Context, contract.CreateSessionRequestObject) (contract.CreateSessionResponseObject, error) {
	return nil, errNoTokens
}

// DeleteSession implements DELETE /v1/session.
func (s *Server) DeleteSession(context.Context, contract.DeleteSessionRequestObject) (contract.DeleteSessionResponseObject, error) {
	return nil, errNoTokens
}

// CreateStreamTicket implements POST /v1/agents/{agentId}/stream-tickets.
func (s *Server) CreateStreamTicket(context.Context, contract.CreateStreamTicketRequestObject) (contract.CreateStreamTicketResponseObject, error) {
	return nil, errNoTokens
}
