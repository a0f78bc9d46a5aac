package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// Load reads the state of the core for the leader, in one view of the database: groups, traffic distribution groups, and agents with their
// contacts, their open failover and the one that waits for its confirmation. Agents are sorted by id. The leader's commits are counted from here.
func (s *Store) Load(ctx context.Context) (failover.Snapshot, error) {
	return s.load(ctx, s.leader, s.count.loaded)
}

// Look reads the same for whoever decides nothing by it. It may be called at any time, beside the leader's commits.
func (s *Store) Look(ctx context.Context) (failover.Snapshot, error) {
	return s.load(ctx, s.pool, func(int64) {})
}

func (s *Store) load(ctx context.Context, from *pool, counted func(commits int64)) (snap failover.Snapshot, err error) {
	ctx, done := s.call(ctx, "load", loadTimeout, &err)
	defer done()
	var (
		groups    []db.FailoverGroup
		tdgs      []db.TrafficDistributionGroup
		agents    []db.LoadAgentsRow
		contacts  []db.Contact
		failovers []db.Failover
	)
	var drills []db.Drill
	var commits int64
	drilled, err := s.hasSchema(ctx, schemaRetention)
	if err != nil {
		return failover.Snapshot{}, err
	}
	err = s.snapshot(ctx, from, func(tx pgx.Tx) (err error) {
		if drilled {
			if drills, err = s.q.RunningDrills(ctx, tx); err != nil {
				return fmt.Errorf("read drills: %w", err)
			}
			if commits, err = s.q.Commits(ctx, tx); err != nil {
				return fmt.Errorf("count the commits: %w", err)
			}
		}
		if groups, err = s.q.LoadGroups(ctx, tx); err != nil {
			return fmt.Errorf("read failover groups: %w", err)
		}
		if tdgs, err = s.q.TDGs(ctx, tx, db.TDGsParams{MaxRows: maxRows}); err != nil {
			return fmt.Errorf("read traffic distribution groups: %w", err)
		}
		if agents, err = s.q.LoadAgents(ctx, tx); err != nil {
			return fmt.Errorf("read agents: %w", err)
		}
		if contacts, err = s.q.LoadContacts(ctx, tx); err != nil {
			return fmt.Errorf("read contacts: %w", err)
		}
		if failovers, err = s.q.LoadFailovers(ctx, tx); err != nil {
			return fmt.Errorf("read failovers: %w", err)
		}
		return nil
	})
	if err != nil {
		return failover.Snapshot{}, fmt.Errorf("load the state: %w", err)
	}
	if drilled {
		counted(commits)
	}
	if snap.Groups, err = all(groups, decodeGroup); err != nil {
		return failover.Snapshot{}, err
	}
	if snap.Drills, err = all(drills, decodeDrill); err != nil {
		return failover.Snapshot{}, err
	}
	if snap.TDGs, err = all(tdgs, decodeTDG); err != nil {
		return failover.Snapshot{}, err
	}
	held := make(map[string]*failover.Failover, len(failovers))
	for i := range failovers {
		f, err := decodeFailover(&failovers[i])
		if err != nil {
			return failover.Snapshot{}, err
		}
		held[f.ID] = f
	}
	snap.Agents = make([]*failover.Agent, 0, len(agents))
	for i := range agents {
		a, err := decodeAgent(&agents[i])
		if err != nil {
			return failover.Snapshot{}, err
		}
		a.Failover, a.Last = held[agents[i].FailoverID], held[agents[i].LastFailoverID]
		// Both are sorted by agent.
		n := 0
		for n < len(contacts) && contacts[n].AgentID == a.ID {
			n++
		}
		if err := addContacts(a, contacts[:n]); err != nil {
			return failover.Snapshot{}, err
		}
		contacts = contacts[n:]
		snap.Agents = append(snap.Agents, a)
	}
	return snap, nil
}

// addContacts puts an agent's contacts back into the lists that they came from.
func addContacts(a *failover.Agent, contacts []db.Contact) error {
	for i := range contacts {
		c, err := decodeContact(&contacts[i])
		if err != nil {
			return err
		}
		at := slices.IndexFunc(a.Lists, func(l failover.ContactList) bool { return l.Region == contacts[i].ListRegion })
		if at < 0 {
			return fmt.Errorf("contact %q of agent %q is in the list of Region %q, which the agent does not have", c.ID, a.ID, contacts[i].ListRegion)
		}
		a.Lists[at].Contacts = append(a.Lists[at].Contacts, c)
	}
	return nil
}

// all decodes every row.
func all[R, T any](rows []R, decode func(*R) (T, error)) ([]T, error) {
	out := make([]T, 0, len(rows))
	for i := range rows {
		v, err := decode(&rows[i])
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
