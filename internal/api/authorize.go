package api

import (
	"strings"

	"changeover/internal/api/auth"
)

// authorise decides whether the caller may do the operation: the one place where roles are looked at. What of a failover is an
// agent's own is not known before it is read; see own.
func (op *operation) authorise(i auth.Identity, pathParams map[string]string) *problem {
	if op.everybodys(i) {
		return nil
	}
	if !op.allows(auth.Agent) || !(i.AnyAgent || i.Has(auth.Agent)) {
		return problemf(kindForbidden, "This takes one of the roles %s.", op.roleNames())
	}
	if id, ok := pathParams["agentId"]; ok && !i.Is(id) {
		return notFound("agent", id)
	}
	return nil
}

// own refuses what belongs to another agent, as if it were not there.
func (c *call) own(agentID string) bool {
	return c.op.everybodys(c.identity) || c.identity.Is(agentID)
}

// everybodys says whether the caller has a role in which it may do the operation to every agent's things.
func (op *operation) everybodys(i auth.Identity) bool {
	for _, r := range op.roles {
		if r != auth.Agent && i.Has(r) {
			return true
		}
	}
	return false
}

func (op *operation) allows(role auth.Role) bool {
	for _, r := range op.roles {
		if r == role {
			return true
		}
	}
	return false
}

func (op *operation) roleNames() string {
	names := make([]string, len(op.roles))
	for i, r := range op.roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
