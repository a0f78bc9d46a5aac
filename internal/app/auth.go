package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"changeover/internal/api"
	"changeover/internal/api/auth"
	"changeover/internal/config"
	"changeover/internal/store"
	"changeover/web/console"
)

// sameSites are the values of auth.sameSite.
var sameSites = map[string]http.SameSite{
	"strict": http.SameSiteStrictMode, "lax": http.SameSiteLaxMode, "none": http.SameSiteNoneMode,
}

// authenticate says who may call: it fills in what the API needs for that, and makes what goes on beside it.
func (a *App) authenticate(ctx context.Context, o *api.Options) error {
	c := &a.config.Auth
	origins, err := auth.NewOrigins(a.config.CORS.AllowedOrigins)
	if err != nil {
		return err
	}
	if c.Mode == config.AuthNone {
		o.Auth = auth.None{Origins: origins}
		return nil
	}
	var instances []string
	for _, g := range a.config.FailoverGroups {
		for _, in := range g.Instances {
			instances = append(instances, in.InstanceID)
		}
	}
	a.verifier, err = auth.NewVerifier(ctx, auth.VerifierOptions{
		Issuer: c.Issuer, JWKSURL: c.JWKSURL, JWKSFile: c.JWKSFile, Audience: c.Audience,
		AgentClaim: c.AgentClaim, RolesClaim: c.RolesClaim, InstanceIDs: instances, Log: a.log,
	})
	if err != nil {
		return err
	}
	cookies := auth.Cookies{SameSite: sameSites[c.SameSite]}
	tokens := auth.NewTokens(a.verifier, tickets{a.store}, origins, cookies)
	o.Auth, o.Sessions = tokens, tokens
	if c.Login.ClientID == "" {
		return nil
	}
	a.login, err = auth.NewLogin(ctx, auth.LoginOptions{
		Issuer: c.Issuer, ClientID: c.Login.ClientID, ClientSecret: string(c.Login.ClientSecret), RedirectURL: c.Login.RedirectURL,
		Scopes: c.Login.Scopes, StateSecret: string(c.Login.StateSecret), Home: console.Path, Verifier: a.verifier, Origins: origins, Cookies: cookies, Log: a.log,
	})
	return err
}

// handler is everything that http.listen answers.
func (a *App) handler() http.Handler {
	var settings console.Settings
	mux := http.NewServeMux()
	if a.login != nil {
		settings.SignIn = a.login.Folder()
		mux.Handle(a.login.Folder(), a.front.limiter.Handler(a.login))
	}
	mux.Handle(console.Path, a.front.limiter.Handler(console.Handler(settings)))
	mux.Handle("/", a.api)
	return mux
}

// tickets redeems stream tickets in the database.
type tickets struct{ store *store.Store }

// Redeem implements auth.Tickets.
func (t tickets) Redeem(ctx context.Context, hash auth.TicketHash) (auth.Identity, error) {
	ticket, err := t.store.RedeemTicket(ctx, hash)
	switch {
	case errors.Is(err, store.ErrTicket):
		return auth.Identity{}, fmt.Errorf("%w: %w", auth.ErrUnauthenticated, err)
	case err != nil:
		return auth.Identity{}, fmt.Errorf("%w: %w", auth.ErrUnavailable, err)
	}
	return auth.Identity{
		Subject: ticket.Subject, Name: ticket.Name, AgentID: ticket.AgentID, Expires: ticket.TokenExpiresAt,
	}, nil
}
