package orchestrator

import (
	"encoding/json"
	"fmt"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// parse makes the observation of a command. Its payload is the JSON form of the [failover.Report], [failover.Force],
// [failover.BulkForce], [failover.PauseGroup], [failover.ResumeGroup] or [failover.StartDrill]; fields that are not known come from a newer version and are left out. Who sent it and
// when is taken from the inbox, not from the payload. An error is the answer to the sender.
func parse(c store.Command, now time.Time) (failover.Observation, error) {
	switch c.Kind {
	case "report":
		var o failover.Report
		if err := json.Unmarshal(c.Payload, &o); err != nil {
			return nil, fmt.Errorf("the payload is no report: %w", err)
		}
		if o.AgentID == "" {
			return nil, fmt.Errorf("the report names no agent")
		}
		o.CommandID, o.At = c.ID, now.Add(-c.Age)
		return o, nil
	case "force":
		var o failover.Force
		if err := json.Unmarshal(c.Payload, &o); err != nil {
			return nil, fmt.Errorf("the payload forces no failover: %w", err)
		}
		if o.FailoverID == "" {
			return nil, fmt.Errorf("the command names no failover")
		}
		o.CommandID, o.By = c.ID, c.By
		return o, nil
	case "bulkForce", "forceSelected", "forceNarrow":
		var o failover.BulkForce
		if err := json.Unmarshal(c.Payload, &o); err != nil {
			return nil, fmt.Errorf("the payload forces no failovers: %w", err)
		}
		if kind := store.ForceKind(&o); c.Kind != kind {
			return nil, fmt.Errorf("a command that asks for this is of kind %s", kind)
		}
		if o.MaxPerSecond < 0 || o.MaxFraction < 0 {
			return nil, fmt.Errorf("maxPerSecond and maxFraction are not negative")
		}
		o.CommandID, o.By = c.ID, c.By
		return o, nil
	case "pause":
		var o failover.PauseGroup
		if err := json.Unmarshal(c.Payload, &o); err != nil {
			return nil, fmt.Errorf("the payload pauses no failover group: %w", err)
		}
		if o.TTL <= 0 {
			return nil, fmt.Errorf("a pause has an end: ttl is %s", o.TTL)
		}
		o.CommandID, o.By = c.ID, c.By
		return o, nil
	case "resume":
		var o failover.ResumeGroup
		if err := json.Unmarshal(c.Payload, &o); err != nil {
			return nil, fmt.Errorf("the payload resumes no failover group: %w", err)
		}
		o.CommandID = c.ID
		return o, nil
	case "drill":
		var o failover.StartDrill
		if err := json.Unmarshal(c.Payload, &o); err != nil {
			return nil, fmt.Errorf("the payload begins no drill: %w", err)
		}
		if o.TTL <= 0 || o.DrillID == "" {
			return nil, fmt.Errorf("a drill has an id and an end: %q, ttl is %s", o.DrillID, o.TTL)
		}
		o.CommandID, o.By = c.ID, c.By
		return o, nil
	}
	return nil, fmt.Errorf("commands of kind %q are not known to this version", c.Kind)
}

// commands is a batch of the inbox. done is closed when its results have been committed.
type commands struct {
	list []store.Command
	at   time.Time // when they were read
	done chan struct{}
}
