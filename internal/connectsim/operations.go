package connectsim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"sort"
	"strconv"
	"strings"
)

// operation is one operation of Amazon Connect.
type operation struct {
	name     string
	method   string
	segments []string // of the path; {Name} is a label
	lists    []string // members without which the answer says nothing, for the faults that take them away
	no404    bool     // the model has no ResourceNotFoundException for it
	run      func(s *Sim, r *request, emptyPages bool) (any, error)
}

// OperationNames lists the operations that are simulated.
func OperationNames() []string {
	names := make([]string, 0, len(operationTable))
	for _, o := range operationTable {
		names = append(names, o.name)
	}
	return names
}

// operationTable names the operations; their code is joined in [Sim.operations], because it refers back to the names.
var operationTable = []struct {
	name, method, path string
	lists              []string
	no404              bool
}{
	{"ListTrafficDistributionGroups", "GET", "traffic-distribution-groups", []string{"TrafficDistributionGroupSummaryList"}, true},
	{"DescribeTrafficDistributionGroup", "GET", "traffic-distribution-group/{Id}", []string{"TrafficDistributionGroup"}, false},
	{"CreateTrafficDistributionGroup", "PUT", "traffic-distribution-group", []string{"Id", "Arn"}, false},
	{"DeleteTrafficDistributionGroup", "DELETE", "traffic-distribution-group/{Id}", nil, true},
	{"GetTrafficDistribution", "GET", "traffic-distribution/{Id}", []string{"TelephonyConfig", "AgentConfig", "SignInConfig"}, false},
	{"UpdateTrafficDistribution", "PUT", "traffic-distribution/{Id}", nil, false},
	{"ListTrafficDistributionGroupUsers", "GET", "traffic-distribution-group/{Id}/user", []string{"TrafficDistributionGroupUserSummaryList"}, false},
	{"AssociateTrafficDistributionGroupUser", "PUT", "traffic-distribution-group/{Id}/user", nil, false},
	{"DisassociateTrafficDistributionGroupUser", "DELETE", "traffic-distribution-group/{Id}/user", nil, false},
	{"ListInstances", "GET", "instance", []string{"InstanceSummaryList"}, true},
	{"DescribeInstance", "GET", "instance/{InstanceId}", []string{"Instance", "ReplicationConfiguration"}, false},
	{"ListUsers", "GET", "users-summary/{InstanceId}", []string{"UserSummaryList"}, false},
	{"DescribeUser", "GET", "users/{InstanceId}/{UserId}", []string{"User"}, false},
	{"SearchUsers", "POST", "search-users", []string{"Users"}, false},
	{"ListRoutingProfiles", "GET", "routing-profiles-summary/{InstanceId}", []string{"RoutingProfileSummaryList"}, false},
	{"GetCurrentUserData", "POST", "metrics/userdata/{InstanceId}", []string{"UserDataList"}, false},
	{"DescribeContact", "GET", "contacts/{InstanceId}/{ContactId}", []string{"Contact"}, false},
}

// operations joins the table with the code.
func (s *Sim) operations() []operation {
	run := map[string]func(*Sim, *request, bool) (any, error){
		"ListTrafficDistributionGroups":            listTDGs,
		"DescribeTrafficDistributionGroup":         describeTDG,
		"CreateTrafficDistributionGroup":           createTDG,
		"DeleteTrafficDistributionGroup":           deleteTDG,
		"GetTrafficDistribution":                   getDistribution,
		"UpdateTrafficDistribution":                updateDistribution,
		"ListTrafficDistributionGroupUsers":        listTDGUsers,
		"AssociateTrafficDistributionGroupUser":    associateUser,
		"DisassociateTrafficDistributionGroupUser": disassociateUser,
		"ListInstances":                            listInstances,
		"DescribeInstance":                         describeInstance,
		"ListUsers":                                listUsers,
		"DescribeUser":                             describeUser,
		"SearchUsers":                              searchUsers,
		"ListRoutingProfiles":                      listRoutingProfiles,
		"GetCurrentUserData":                       getCurrentUserData,
		"DescribeContact":                          describeContact,
	}
	ops := make([]operation, 0, len(operationTable))
	for _, o := range operationTable {
		ops = append(ops, operation{name: o.name, method: o.method, segments: strings.Split(o.path, "/"), lists: o.lists, no404: o.no404, run: run[o.name]})
	}
	return ops
}

// token is where a list goes on. It is opaque to clients and belongs to the question that gave it.
type token struct {
	Question uint32 `json:"q"`
	Rank     int    `json:"r,omitempty"` // of the source, where a list has several
	After    int    `json:"a"`           // seq or index of the last item; -1: none
	Total    int64  `json:"t,omitempty"`
	Empty    bool   `json:"e,omitempty"` // the page before was empty by FaultEmptyPages
}

func (t token) String() string {
	b, _ := json.Marshal(t) // of numbers alone
	return base64.RawURLEncoding.EncodeToString(b)
}

// question is the fingerprint of a request's parameters but the page.
func question(parts ...string) uint32 {
	h := fnv.New32a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return h.Sum32()
}

// readToken reads a token of the question; without one it starts at the beginning.
func readToken(text string, q uint32, bad func(string) *Error) (token, error) {
	t := token{Question: q, After: -1}
	if text == "" {
		return t, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(b, &t) != nil || t.Question != q || t.After < -1 || t.Rank < 0 {
		return t, bad("The NextToken is not valid for this request.")
	}
	return t, nil
}

// page cuts a page out of what a list holds after the token. The items are sorted by key.
func page[T any](items []T, key func(T) int, show func(T) bool, t token, limit int, emptyPages bool) (out []T, next *string) {
	out = make([]T, 0, min(limit, len(items)))
	if emptyPages && !t.Empty {
		t.Empty = true
		text := t.String()
		return out, &text
	}
	t.Empty = false
	for _, it := range items[sort.Search(len(items), func(i int) bool { return key(items[i]) > t.After }):] {
		if !show(it) {
			continue
		}
		if len(out) == limit {
			t.After = key(out[limit-1])
			text := t.String()
			return out, &text
		}
		out = append(out, it)
	}
	return out, nil
}

// maxResults reads the page size of a GET.
func (r *request) maxResults(limit, def int, bad func(string) *Error) (int, error) {
	text := r.query.Get("maxResults")
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > limit {
		return 0, bad(fmt.Sprintf("1 validation error detected: Value '%s' at 'maxResults' failed to satisfy constraint: Member must have value between 1 and %d", text, limit))
	}
	return n, nil
}

// paging reads the page size and the place to go on of a GET.
func (r *request) paging(limit, def int, bad func(string) *Error) (int, token, error) {
	size, err := r.maxResults(limit, def, bad)
	if err != nil {
		return 0, token{}, err
	}
	tok, err := readToken(r.query.Get("nextToken"), question(r.op.name), bad)
	return size, tok, err
}

// instance checks the instance of a request, given by id.
func (s *Sim) instance(id string) error {
	if id != s.cfg.InstanceID {
		return notFound("Instance " + strconv.Quote(id) + " not found.")
	}
	return nil
}

// instanceOrARN checks the instance of a request, given by id or by its ARN in the Region.
func (s *Sim) instanceOrARN(region int, id string) error {
	if id == s.instanceARN(region) {
		return nil
	}
	return s.instance(id)
}

// decode reads a JSON body. Members that are not known are ignored, as Amazon Connect does.
func (r *request) decode(v any) error {
	if len(r.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		return &Error{Status: 400, Type: "SerializationException", Message: err.Error()}
	}
	return nil
}

type none struct{}
