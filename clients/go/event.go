package changeover

import (
	"encoding/json"
	"fmt"
	"time"

	"changeover/clients/go/rest"
)

// EventType is the name of an event.
type EventType = rest.EventName

// The events that [Client.Follow] gives. `draining` is none of them: it is about a connection, and answered by the client.
const (
	Snapshot               EventType = "snapshot"               // rest.SnapshotData
	FailoverDetected       EventType = "failoverDetected"       // rest.FailoverDetectedData
	FailoverPending        EventType = "failoverPending"        // rest.FailoverPendingData
	FailoverPendingUpdated EventType = "failoverPendingUpdated" // rest.FailoverPendingUpdatedData
	FailoverCompleted      EventType = "failoverCompleted"      // rest.FailoverCompletedData
	FailoverCancelled      EventType = "failoverCancelled"      // rest.FailoverCancelledData
	FailoverStalled        EventType = "failoverStalled"        // rest.FailoverStalledData
	FailoverPaused         EventType = "failoverPaused"         // rest.FailoverPausedData
	FailoverResumed        EventType = "failoverResumed"        // rest.FailoverResumedData
	DrillDetected          EventType = "drillDetected"          // rest.DrillDetectedData: nothing real has happened, as with all drills
	DrillPending           EventType = "drillPending"           // rest.DrillPendingData
	DrillCompleted         EventType = "drillCompleted"         // rest.DrillCompletedData
	DrillCancelled         EventType = "drillCancelled"         // rest.DrillCancelledData
	ConfigureError         EventType = "configureError"         // rest.ConfigureErrorData
	ConfigureErrorCleared  EventType = "configureErrorCleared"  // rest.ConfigureErrorClearedData
	Reset                  EventType = "reset"                  // rest.ResetData: forget what was told, snapshots follow
	draining               EventType = "draining"
)

// Event is an event of a stream. A type that is not listed here comes from a newer service: pass over it.
type Event struct {
	// ID is the cursor to resume after this event.
	ID   string
	Type EventType
	// AgentID is empty for a Reset of the stream of all agents.
	AgentID string
	// FailoverID is empty where no failover is concerned.
	FailoverID string
	Time       time.Time
	// Data is the whole data, one line of JSON.
	Data json.RawMessage
}

// Data decodes an event's data into its type of package rest, as said at the event types. It fails when the data is not of T's form.
func Data[T any](e Event) (T, error) {
	var v T
	if err := json.Unmarshal(e.Data, &v); err != nil {
		return v, fmt.Errorf("data of %s %s: %w", e.Type, e.ID, err)
	}
	return v, nil
}

// newEvent makes the event of a frame.
func newEvent(f frame) (Event, error) {
	e := Event{ID: f.id, Type: EventType(f.event), Data: json.RawMessage(f.data)}
	var common struct {
		AgentID    *string   `json:"agentId"`
		FailoverID *string   `json:"failoverId"`
		Time       time.Time `json:"time"`
	}
	if err := json.Unmarshal(e.Data, &common); err != nil {
		return e, fmt.Errorf("data of %s %s: %w", e.Type, e.ID, err)
	}
	if common.AgentID != nil {
		e.AgentID = *common.AgentID
	}
	if common.FailoverID != nil {
		e.FailoverID = *common.FailoverID
	}
	e.Time = common.Time
	return e, nil
}
