package connect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/connect"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithytime "github.com/aws/smithy-go/time"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// GetCurrentUserData is nearly all that a leader reads: the SDK's decoding of it, into maps of everything and from there into structs, took two
// fifths of the memory that the leader of a large floor allocates. So its answers, and only its, are decoded here; requests, signatures, errors and everything
// else stay the SDK's.

// userDataDocument is what is used of an answer of GetCurrentUserData, by Amazon's names.
type userDataDocument struct {
	NextToken    *string
	UserDataList []userDataItem // nil: missing or null
}

type userDataItem struct {
	User, RoutingProfile struct{ Id, Arn string }
	Status               struct {
		StatusName           string
		StatusStartTimestamp epoch
	}
	NextStatus           string
	ActiveSlotsByChannel json.RawMessage // mostly not looked at
	Contacts             []struct {
		ContactId, Channel, AgentContactState, InitiationMethod string
		StateStartTimestamp, ConnectedToAgentTimestamp          epoch
	}
}

// epoch is a time as Amazon Connect sends it: seconds since 1970, with a fraction.
type epoch struct{ time.Time }

// UnmarshalJSON implements [json.Unmarshaler].
func (t *epoch) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	seconds, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("a timestamp is not a number of seconds: %w", err)
	}
	t.Time = smithytime.ParseEpochSeconds(seconds)
	return nil
}

// currentUserData calls GetCurrentUserData.
func (c *Client) currentUserData(ctx context.Context, in *sdk.GetCurrentUserDataInput, options ...func(*sdk.Options)) (*userDataDocument, error) {
	out, err := c.api.GetCurrentUserData(ctx, in, options...)
	if err != nil {
		return nil, err
	}
	return out.ResultMetadata.Get(userDataKey{}).(*userDataDocument), nil
}

// userDataKey is where userDataDecoder leaves the document.
type userDataKey struct{}

// addUserDataDecoder is an option of the SDK's client.
func addUserDataDecoder(stack *middleware.Stack) error {
	if stack.ID() != OpGetCurrentUserData {
		return nil
	}
	return stack.Deserialize.Insert(userDataDecoder{}, "OperationDeserializer", middleware.After)
}

// userDataDecoder stands between the SDK's decoder and the network, and leaves that only an empty document to decode.
type userDataDecoder struct{}

// ID implements [middleware.DeserializeMiddleware].
func (userDataDecoder) ID() string { return "changeoverUserData" }

// HandleDeserialize implements [middleware.DeserializeMiddleware]. Errors are those of the SDK's own decoder, so that they are told apart as all
// others are.
func (userDataDecoder) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
	out middleware.DeserializeOutput, metadata middleware.Metadata, err error,
) {
	out, metadata, err = next.HandleDeserialize(ctx, in)
	response, ok := out.RawResponse.(*smithyhttp.Response)
	if err != nil || !ok || response.StatusCode < 200 || response.StatusCode >= 300 {
		return out, metadata, err
	}
	buf := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(response.Body); err != nil {
		return out, metadata, &smithy.DeserializationError{Err: fmt.Errorf("read the answer: %w", err)}
	}
	document := &userDataDocument{}
	if buf.Len() > 0 { // else as the SDK has it: an answer without anything
		if err := json.Unmarshal(buf.Bytes(), document); err != nil {
			return out, metadata, &smithy.DeserializationError{Err: fmt.Errorf("decode the answer: %w", err)}
		}
	}
	metadata.Set(userDataKey{}, document)
	response.Body = struct {
		io.Reader
		io.Closer
	}{strings.NewReader("{}"), response.Body}
	return out, metadata, nil
}

// bodies are the buffers of answers: a page of a hundred agents takes 100 KiB.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func userData(u userDataItem) (UserData, error) {
	id := bareID(cmp.Or(u.User.Id, u.User.Arn))
	if id == "" {
		return UserData{}, malformedError("an agent has no id")
	}
	d := UserData{
		UserID: id, RoutingProfileID: bareID(cmp.Or(u.RoutingProfile.Id, u.RoutingProfile.Arn)),
		StatusName: u.Status.StatusName, StatusSince: u.Status.StatusStartTimestamp.Time, NextStatus: u.NextStatus,
	}
	if u.Contacts == nil && !noSlots(u.ActiveSlotsByChannel) {
		return UserData{}, malformedError("agent " + id + " has no list of contacts")
	}
	d.Contacts = make([]Contact, 0, len(u.Contacts))
	for _, contact := range u.Contacts {
		if contact.ContactId == "" {
			return UserData{}, malformedError("agent " + id + " has a contact without an id")
		}
		d.Contacts = append(d.Contacts, Contact{
			ID: contact.ContactId, Channel: contact.Channel, State: contact.AgentContactState, InitiationMethod: contact.InitiationMethod,
			StateSince: contact.StateStartTimestamp.Time, ConnectedAt: contact.ConnectedToAgentTimestamp.Time,
		})
	}
	return d, nil
}

// noSlots says whether the answer itself tells that none of an agent's slots is taken: then a missing list of contacts is an
// empty one. Amazon does not promise to send empty lists.
func noSlots(channels json.RawMessage) bool {
	var active map[string]int32
	if json.Unmarshal(channels, &active) != nil || active == nil {
		return false
	}
	for _, n := range active {
		if n != 0 {
			return false
		}
	}
	return true
}
