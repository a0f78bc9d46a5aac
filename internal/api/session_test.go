package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/contract"
)

// A page cannot read its cookie, so it asks who it is: to show what its user may do, and when that ends.
func TestSessionSaysWhoCalls(t *testing.T) {
	t.Parallel()
	s := newService(t, withRoles, func(o *api.Options) { o.Sessions = noSessions{} })

	who := read[contract.Session](t, s.get("/v1/session", "X-Test-As", "viewer+operator"), http.StatusOK)
	require.Equal(t, "viewer+operator", who.Subject)
	require.Equal(t, []contract.SessionRoles{contract.SessionRolesViewer, contract.SessionRolesOperator}, who.Roles)
	require.Nil(t, who.AgentID)
	require.Nil(t, who.Name)
	require.True(t, who.Tokens)
	require.WithinDuration(t, time.Now().Add(time.Hour), *who.ExpiresAt, time.Minute)

	who = read[contract.Session](t, s.get("/v1/session", "X-Test-As", "agent:"+jane), http.StatusOK)
	require.Equal(t, jane, *who.AgentID)
	require.Equal(t, http.StatusUnauthorized, s.get("/v1/session").status)

	everybody := read[contract.Session](t, newService(t).get("/v1/session"), http.StatusOK)
	require.Equal(t, []contract.SessionRoles{contract.SessionRolesAdmin}, everybody.Roles)
	require.False(t, everybody.Tokens, "there is nothing to sign out of")
	require.Nil(t, everybody.ExpiresAt)
}
