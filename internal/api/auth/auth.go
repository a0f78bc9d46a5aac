// Package auth says who calls and in which roles. It owns the identity that travels with a request and the ways to prove
// one; what a role may do is decided by internal/api alone, from the x-roles of api/openapi.yaml.
//
// An [Authenticator] fails closed: without a proof there is no identity. All of the package is safe for concurrent use.
package auth

import (
	"errors"
	"net/http"
	"slices"
)

// Role is what a caller may act as.
type Role string

// The roles. Agent is about oneself only; the others are about everybody, and each is named where it is allowed:
// none includes another.
const (
	Agent    Role = "agent"
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Admin    Role = "admin"
)

// Identity is a caller.
type Identity struct {
	// Subject names the caller in the audit trail.
	Subject string
	// AgentID is the Amazon Connect user id of a desktop's agent; empty: the caller is none.
	AgentID string
	Roles   []Role
	// AnyAgent lets the caller act for every agent: auth.mode none, where nobody can prove to be one.
	AnyAgent bool
}

// Has says whether the caller has the role.
func (i Identity) Has(r Role) bool { return slices.Contains(i.Roles, r) }

// Is says whether the caller is, or may act for, the agent with this id.
func (i Identity) Is(agentID string) bool {
	return i.AnyAgent || (i.Has(Agent) && i.AgentID != "" && i.AgentID == agentID)
}

// ErrUnauthenticated is the error of a request without a proof, or with one that does not hold. It is all that the
// caller is told: why a proof does not hold helps only who forges one.
var ErrUnauthenticated = errors.New("unauthenticated")

// Authenticator tells who sends a request.
type Authenticator interface {
	// Authenticate returns the caller, or ErrUnauthenticated, perhaps wrapped with what the log should know.
	Authenticate(r *http.Request) (Identity, error)
}

// None is auth.mode none: every caller is an admin who may act for every agent. The configuration allows it on a loopback
// address only.
type None struct{}

// Authenticate never fails.
func (None) Authenticate(*http.Request) (Identity, error) {
	return Identity{Subject: "local", Roles: []Role{Admin}, AnyAgent: true}, nil
}
