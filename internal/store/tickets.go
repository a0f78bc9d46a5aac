package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"changeover/internal/store/internal/db"
)

// TicketLifetime is how long a stream ticket can be redeemed, by the database's clock.
const TicketLifetime = 30 * time.Second

// ErrTicket says that a ticket cannot be redeemed: there never was one with this hash, or it was used, or it has expired. Nobody
// is told which.
var ErrTicket = errors.New("the stream ticket is unknown, used or expired")

// Ticket is what a stream ticket stands for.
type Ticket struct {
	AgentID string // whose stream it opens
	// Subject, Name and Roles are those of the caller who got it.
	Subject, Name string
	Roles         []string
	// TokenExpiresAt is when the token ends that the caller had: the stream must not outlive it.
	TokenExpiresAt time.Time
}

// issue is a ticket on its way into the database.
type issue struct {
	hash   [sha256.Size]byte
	ticket Ticket
}

// IssueTicket makes a ticket, which any replica can redeem once. The store only gets the SHA-256 of what the caller is given: 32
// random bytes, or a text made of them. It returns until when it is good: for 30 seconds, or until the token expires.
func (s *Store) IssueTicket(ctx context.Context, hash [sha256.Size]byte, t Ticket) (expiresAt time.Time, err error) {
	if t.AgentID == "" || t.TokenExpiresAt.IsZero() {
		return time.Time{}, errors.New("issue a stream ticket: it needs an agent and the end of a token")
	}
	t.AgentID, t.Subject, t.Name, t.Roles = text(t.AgentID), text(t.Subject), text(t.Name), texts(t.Roles)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	expiresAt, err = s.issues.do(ctx, issue{hash, t})
	return expiresAt, wrap(err, "issue a stream ticket")
}

func (s *Store) issueTickets(ctx context.Context, in []issue) (out []time.Time, err error) {
	ctx, done := s.call(ctx, "issue_tickets", callTimeout, &err)
	defer done()
	roles := flatten(len(in), func(i int) []string { return in[i].ticket.Roles })
	p := db.IssueTicketsParams{Lifetime: TicketLifetime, Roles: roles.all, FirstRoles: roles.first, LastRoles: roles.last}
	at := make(map[[sha256.Size]byte]int, len(in))
	for i, t := range in {
		at[t.hash] = i
		p.Hashes = append(p.Hashes, t.hash[:])
		p.AgentIds = append(p.AgentIds, t.ticket.AgentID)
		p.Subjects = append(p.Subjects, t.ticket.Subject)
		p.Names = append(p.Names, t.ticket.Name)
		p.TokenExpiresAts = append(p.TokenExpiresAts, timestamp(t.ticket.TokenExpiresAt))
	}
	rows, err := s.q.IssueTickets(ctx, s.pool, p)
	out = make([]time.Time, len(in))
	for _, r := range rows {
		out[at[[sha256.Size]byte(r.Hash)]] = r.ExpiresAt.Time
	}
	return out, err
}

// RedeemTicket uses the ticket up that has this hash and returns what it stands for, or ErrTicket. Of any number of calls, on any
// number of replicas, one gets it. Calls that come at once are answered together.
//
// After another error the ticket may be used or not; the caller needs a new one.
func (s *Store) RedeemTicket(ctx context.Context, hash [sha256.Size]byte) (Ticket, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	t, err := s.redeems.do(ctx, hash)
	if err != nil {
		return Ticket{}, fmt.Errorf("redeem a stream ticket: %w", err)
	}
	if t == nil {
		return Ticket{}, ErrTicket
	}
	return *t, nil
}

// redeemTickets returns nil for those that cannot be redeemed.
func (s *Store) redeemTickets(ctx context.Context, hashes [][sha256.Size]byte) (out []*Ticket, err error) {
	ctx, done := s.call(ctx, "redeem_tickets", callTimeout, &err)
	defer done()
	asked := make([][]byte, len(hashes))
	for i := range hashes {
		asked[i] = hashes[i][:]
	}
	rows, err := s.q.RedeemTickets(ctx, s.pool, asked)
	if err != nil {
		return nil, err
	}
	good := make(map[[sha256.Size]byte]*Ticket, len(rows))
	for _, r := range rows {
		good[[sha256.Size]byte(r.Hash)] = &Ticket{
			AgentID: r.AgentID, Subject: r.Subject, Name: r.Name, Roles: r.Roles, TokenExpiresAt: r.TokenExpiresAt.Time,
		}
	}
	out = make([]*Ticket, len(hashes))
	for i, h := range hashes {
		out[i] = good[h]
		delete(good, h) // shown twice at once, it is redeemed once
	}
	return out, nil
}
