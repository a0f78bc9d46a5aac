package agents

import (
	"context"
	"time"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

// listingBackoff is the longest wait between tries to read a page of members or users.
const listingBackoff = 30 * time.Second

// listUsers lists the users of the Region's instance, again each membership interval, until ctx ends. It goes first of
// all at a start: a thousand users a page, and where there is one traffic distribution group they all are its members (R2).
func (g *region) listUsers(ctx context.Context, emit func(context.Context, failover.Observation)) {
	complain := complaint{log: g.log, region: g.name, what: "users"}
	for ctx.Err() == nil {
		begun := time.Now()
		for token, failures := "", 0; ; {
			page, err := g.client.ListUsers(ctx, g.instance, token)
			if err != nil {
				failures++
				complain.failed(ctx, err)
				if !sleep(ctx, backoff(failures, listingBackoff)) {
					return
				}
				if !transient(err) {
					token, begun = "", time.Now() // perhaps the token is too old
				}
				continue
			}
			failures = 0
			complain.succeeded()
			users := make([]failover.User, len(page.Users))
			for i, u := range page.Users {
				users[i] = failover.User{ID: u.ID, Username: u.Username}
			}
			emit(ctx, failover.UsersListed{
				Group: g.o.Group, Region: g.name, Users: users, StartedAt: begun, Last: page.NextToken == "",
			})
			if token = page.NextToken; token == "" {
				break
			}
		}
		if !sleep(ctx, time.Until(begun.Add(g.o.MembershipInterval))) {
			return
		}
	}
}

// transient says whether the same request can succeed later.
func transient(err error) bool {
	switch connect.KindOf(err) {
	case connect.Unavailable, connect.Throttled, connect.Denied:
		return true
	}
	return false
}
