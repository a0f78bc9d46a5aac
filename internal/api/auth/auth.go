package auth

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
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

// Proof is how a caller proved who it is.
type Proof string

// The proofs, in the order in which [Tokens] looks for them.
const (
	ByHeader Proof = "header" // Authorization: Bearer
	ByCookie Proof = "cookie" // the session of POST /v1/session or of a sign-in
	ByTicket Proof = "ticket" // ?ticket= of a stream
)

// Identity is a caller.
type Identity struct {
	// Subject names the caller in the audit trail.
	Subject string
	// Name is what people call the subject, such as a user name or an address; it may be empty, may change and proves nothing.
	Name string
	// AgentID is the Amazon Connect user id of a desktop's agent; empty: the caller is none.
	AgentID string
	Roles   []Role
	// AnyAgent lets the caller act for every agent: auth.mode none, where nobody can prove to be one.
	AnyAgent bool
	// Expires is when the proof ends: nothing that was begun with it may outlive it. Zero: it does not end.
	Expires time.Time
	// Via is how the caller proved all that; empty: it did not need to.
	Via Proof
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

// ErrUnavailable is the error of a proof that can be neither accepted nor refused now: the token names a key that is not known
// while the issuer cannot be asked, or the database that knows the tickets is away. The caller may come again in a few
// seconds with the same token.
var ErrUnavailable = errors.New("the proof cannot be checked now")

// ErrForeignOrigin is the error of a request that a web page of another origin made with the caller's cookie.
var ErrForeignOrigin = errors.New("a page of another origin may not use the session")

// ErrForeignHost is the error of a request that needs no token and was sent to another name than this machine's own.
var ErrForeignHost = errors.New("without tokens requests are answered on a loopback name only")

// ErrTokenInURL is the error of a request with a token in its URL, whether or not the token is good: it has to be considered
// known to others.
var ErrTokenInURL = errors.New("a token does not belong in a URL")

// refuse is an ErrUnauthenticated with the reason that the log may know: a constant, never a part of what was sent.
func refuse(why string) error { return fmt.Errorf("%w: %s", ErrUnauthenticated, why) }

// Authenticator tells who sends a request.
type Authenticator interface {
	// Authenticate returns the caller, or ErrUnauthenticated, ErrUnavailable, ErrForeignOrigin, ErrForeignHost or
	// ErrTokenInURL, perhaps wrapped with what the log should know.
	Authenticate(r *http.Request) (Identity, error)
}

// None is auth.mode none: every caller is an admin who may act for every agent. The configuration allows it on a loopback
// address only.
type None struct {
	// Origins are the web pages that may change something; nil: the service's own.
	Origins *Origins
}

// Authenticate fails for a Host that is not this machine's own: any web page can let a name of its own point to 127.0.0.1 (DNS
// rebinding), and would then be of the same origin as the service, in the browser of somebody who runs it. It fails as well for what a
// page of a foreign origin would change: a form needs nobody's leave to post to 127.0.0.1.
func (n None) Authenticate(r *http.Request) (Identity, error) {
	if !ownHost(r.Host) {
		return Identity{}, ErrForeignHost
	}
	if n.Origins == nil {
		n.Origins = &Origins{}
	}
	if n.Origins.protection.Check(r) != nil {
		return Identity{}, ErrForeignOrigin
	}
	return Identity{Subject: "local", Roles: []Role{Admin}, AnyAgent: true}, nil
}

// ownHost says whether a Host, with or without a port, is a name or an address that no one else can have.
func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
