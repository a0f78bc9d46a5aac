package connectsim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
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

// ---- traffic distribution groups

const (
	maxTDGs        = 8 // per replicated instance
	tdgARNResource = ":traffic-distribution-group/"
)

type tdgSummary struct {
	ID          string `json:"Id"`
	Arn         string
	Name        string
	InstanceArn string
	Status      string
	IsDefault   bool
}

func (s *Sim) tdgSummary(t *tdg, region int) tdgSummary {
	return tdgSummary{t.id, s.tdgARN(t), t.name, s.instanceARN(0), t.views[region].status, t.isDefault}
}

func listTDGs(s *Sim, r *request, emptyPages bool) (any, error) {
	limit, err := r.maxResults(10, 10, invalidRequest)
	if err != nil {
		return nil, err
	}
	// Without an instance the groups of all of the account's instances in the Region are listed: there is one.
	if r.query.Has("instanceId") {
		id := r.query.Get("instanceId")
		if err := s.instanceOrARN(r.region, id); err != nil {
			return nil, invalidRequest("Instance " + strconv.Quote(id) + " not found.") // the operation has no 404
		}
	}
	tok, err := readToken(r.query.Get("nextToken"), question(r.op.name), invalidRequest)
	if err != nil {
		return nil, err
	}
	items, next := page(s.tdgs, func(t *tdg) int { return t.seq }, func(t *tdg) bool { return t.views[r.region].exists }, tok, limit, emptyPages)
	out := struct {
		NextToken                           *string `json:",omitempty"`
		TrafficDistributionGroupSummaryList []tdgSummary
	}{next, make([]tdgSummary, 0, len(items))}
	for _, t := range items {
		out.TrafficDistributionGroupSummaryList = append(out.TrafficDistributionGroupSummaryList, s.tdgSummary(t, r.region))
	}
	return out, nil
}

// tdgOf finds the group of a request's path.
func (s *Sim) tdgOf(r *request) (*tdg, error) {
	id := r.label["Id"]
	bare := id
	if i := strings.Index(id, tdgARNResource); i >= 0 {
		bare = id[i+len(tdgARNResource):]
	}
	if !uuidPattern.MatchString(bare) || bare != id && !strings.HasPrefix(id, "arn:aws") {
		return nil, invalidRequest(fmt.Sprintf("%q is not the id or ARN of a traffic distribution group.", id))
	}
	if t := s.findTDG(r.region, id); t != nil {
		return t, nil
	}
	return nil, notFound(fmt.Sprintf("Traffic distribution group %q not found.", id))
}

// homeTDGOf is tdgOf for operations that are possible only in the Region where the group was made.
func (s *Sim) homeTDGOf(r *request) (*tdg, error) {
	t, err := s.tdgOf(r)
	if err == nil && r.region != 0 {
		err = notFound("This operation is only possible in the Region where the traffic distribution group was created.")
	}
	return t, err
}

func describeTDG(s *Sim, r *request, _ bool) (any, error) {
	t, err := s.tdgOf(r)
	if err != nil {
		return nil, err
	}
	type description struct {
		tdgSummary
		Description string            `json:",omitempty"`
		Tags        map[string]string `json:",omitempty"`
	}
	return struct{ TrafficDistributionGroup description }{description{s.tdgSummary(t, r.region), t.description, t.tags}}, nil
}

type wireShare struct {
	Region     *string
	Percentage *int
}

type wireSignIn struct {
	Region  *string
	Enabled *bool
}

type wireShares struct{ Distributions []wireShare }
type wireSignIns struct{ Distributions []wireSignIn }

func sharesOut(shares []Share) *wireShares {
	if shares == nil {
		return nil
	}
	out := &wireShares{Distributions: make([]wireShare, 0, len(shares))}
	for _, s := range shares {
		out.Distributions = append(out.Distributions, wireShare{&s.Region, &s.Percent})
	}
	return out
}

func getDistribution(s *Sim, r *request, _ bool) (any, error) {
	t, err := s.tdgOf(r)
	if err != nil {
		return nil, err
	}
	v := &t.views[r.region]
	if v.status != tdgActive {
		return nil, invalidRequest("The traffic distribution group is not ACTIVE: its status is " + v.status + ".")
	}
	out := struct {
		ID              string `json:"Id"`
		Arn             string
		TelephonyConfig *wireShares  `json:",omitempty"`
		AgentConfig     *wireShares  `json:",omitempty"`
		SignInConfig    *wireSignIns `json:",omitempty"`
	}{ID: t.id, Arn: s.tdgARN(t), TelephonyConfig: sharesOut(v.dist.Telephony), AgentConfig: sharesOut(v.dist.Agents)}
	if v.dist.SignIn != nil {
		out.SignInConfig = &wireSignIns{}
		for _, si := range v.dist.SignIn {
			out.SignInConfig.Distributions = append(out.SignInConfig.Distributions, wireSignIn{&si.Region, &si.Enabled})
		}
	}
	return out, nil
}

// sharesIn reads a distribution of an update and holds it to Amazon's rules.
func (s *Sim) sharesIn(name string, w *wireShares) ([]Share, error) {
	if w == nil {
		return nil, nil
	}
	out := make([]Share, 0, 2)
	sum := 0
	for _, d := range w.Distributions {
		if d.Region == nil || d.Percentage == nil {
			return nil, invalidRequest(name + ": every distribution needs a Region and a Percentage.")
		}
		if *d.Percentage < 0 || *d.Percentage > 100 || *d.Percentage%10 != 0 {
			return nil, invalidRequest(fmt.Sprintf("%s: %d is not a percentage from 0 to 100 in increments of 10.", name, *d.Percentage))
		}
		sum += *d.Percentage
		out = append(out, Share{*d.Region, *d.Percentage})
	}
	if err := s.bothRegions(name, len(out), func(i int) string { return out[i].Region }); err != nil {
		return nil, err
	}
	if sum != 100 {
		return nil, invalidRequest(fmt.Sprintf("%s: the percentages add up to %d and not to 100.", name, sum))
	}
	sort.Slice(out, func(i, j int) bool { return s.regionIndex(out[i].Region) < s.regionIndex(out[j].Region) })
	return out, nil
}

func (s *Sim) signInIn(w *wireSignIns) ([]SignIn, error) {
	if w == nil {
		return nil, nil
	}
	out := make([]SignIn, 0, 2)
	for _, d := range w.Distributions {
		if d.Region == nil || d.Enabled == nil {
			return nil, invalidRequest("SignInConfig: every distribution needs a Region and Enabled.")
		}
		out = append(out, SignIn{*d.Region, *d.Enabled})
	}
	if err := s.bothRegions("SignInConfig", len(out), func(i int) string { return out[i].Region }); err != nil {
		return nil, err
	}
	sort.Slice(out, func(i, j int) bool { return s.regionIndex(out[i].Region) < s.regionIndex(out[j].Region) })
	return out, nil
}

// bothRegions checks that a distribution names each Region once.
func (s *Sim) bothRegions(name string, n int, region func(int) string) error {
	var seen [2]bool
	for i := range n {
		r := s.regionIndex(region(i))
		if r < 0 || seen[r] {
			return invalidRequest(fmt.Sprintf("%s: %q is not a Region of the group, or given twice.", name, region(i)))
		}
		seen[r] = true
	}
	if !seen[0] || !seen[1] {
		return invalidRequest(name + ": the distribution must list all Regions of the group.")
	}
	return nil
}

func updateDistribution(s *Sim, r *request, _ bool) (any, error) {
	var in struct {
		TelephonyConfig *wireShares
		AgentConfig     *wireShares
		SignInConfig    *wireSignIns
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	t, err := s.tdgOf(r)
	if err != nil {
		return nil, err
	}
	var d Distributions
	if d.Telephony, err = s.sharesIn("TelephonyConfig", in.TelephonyConfig); err != nil {
		return nil, err
	}
	if d.Agents, err = s.sharesIn("AgentConfig", in.AgentConfig); err != nil {
		return nil, err
	}
	if d.SignIn, err = s.signInIn(in.SignInConfig); err != nil {
		return nil, err
	}
	if d.SignIn != nil && !t.isDefault {
		return nil, invalidRequest("SignInConfig is available only on the default traffic distribution group.")
	}
	if t.status != tdgActive || t.views[r.region].status != tdgActive {
		return nil, invalidRequest("The traffic distribution group is not ACTIVE: its status is " + t.status + ".")
	}
	if d.Telephony != nil || d.Agents != nil || d.SignIn != nil {
		s.update(t, r.region, d)
	}
	// The administrator guide asks for a telephony distribution in every call; the API reference leaves each
	// distribution optional, and so does the simulator.
	return none{}, nil
}

type tdgUser struct {
	UserID string `json:"UserId"`
}

func listTDGUsers(s *Sim, r *request, emptyPages bool) (any, error) {
	limit, err := r.maxResults(10, 10, invalidRequest)
	if err != nil {
		return nil, err
	}
	t, err := s.tdgOf(r)
	if err != nil {
		return nil, err
	}
	tok, err := readToken(r.query.Get("nextToken"), question(r.op.name, t.id), invalidRequest)
	if err != nil {
		return nil, err
	}
	items, next := page(t.members, func(a *agent) int { return a.seq }, func(*agent) bool { return true }, tok, limit, emptyPages)
	out := struct {
		NextToken                               *string `json:",omitempty"`
		TrafficDistributionGroupUserSummaryList []tdgUser
	}{next, make([]tdgUser, 0, len(items))}
	for _, a := range items {
		// Members are users of the source instance, wherever the list is read.
		out.TrafficDistributionGroupUserSummaryList = append(out.TrafficDistributionGroupUserSummaryList, tdgUser{a.ids[0]})
	}
	return out, nil
}

// userOf finds a user of the Region's instance by id or ARN.
func (s *Sim) userOf(region int, idOrARN string) *agent {
	return s.byID[region][bareID(s.resourceARN(region, "agent", ""), idOrARN)]
}

// bareID takes the prefix of an ARN away; another ARN finds nothing.
func bareID(prefix, idOrARN string) string { return strings.TrimPrefix(idOrARN, prefix) }

// memberOf checks what Associate and Disassociate have in common.
func (s *Sim) memberOf(r *request, userID, instanceID string) (*tdg, *agent, error) {
	t, err := s.homeTDGOf(r)
	if err != nil {
		return nil, nil, err
	}
	if userID == "" || instanceID == "" {
		return nil, nil, invalidRequest("UserId and InstanceId are required.")
	}
	if err := s.instance(instanceID); err != nil {
		return nil, nil, err
	}
	if t.status != tdgActive {
		return nil, nil, notFound("The traffic distribution group is not ACTIVE: its status is " + t.status + ".")
	}
	a := s.userOf(r.region, userID)
	if a == nil {
		return nil, nil, notFound(fmt.Sprintf("User %q not found.", userID))
	}
	return t, a, nil
}

func associateUser(s *Sim, r *request, _ bool) (any, error) {
	var in struct {
		UserID     string `json:"UserId"`
		InstanceID string `json:"InstanceId"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	t, a, err := s.memberOf(r, in.UserID, in.InstanceID)
	switch {
	case err != nil:
		return nil, err
	case a.tdg == t:
		return none{}, nil // the operation is idempotent
	case a.tdg != nil:
		// Not documented; an agent has one target, so the simulator lets nobody be a member of two groups.
		return nil, conflict("The user is associated with another traffic distribution group.")
	}
	s.join(a, t)
	s.planMove(a)
	return none{}, nil
}

func disassociateUser(s *Sim, r *request, _ bool) (any, error) {
	t, a, err := s.memberOf(r, r.query.Get("UserId"), r.query.Get("InstanceId"))
	if err != nil {
		return nil, err
	}
	if a.tdg == t {
		s.leave(a)
		s.planMove(a)
	}
	return none{}, nil
}

// isText checks a name or description.
func isText(s string, limit int) bool {
	return s != "" && utf8.RuneCountInString(s) <= limit && strings.TrimSpace(s) == s
}

var tagKeyPattern = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$`)

func createTDG(s *Sim, r *request, _ bool) (any, error) {
	var in struct {
		Name        string
		Description *string
		InstanceID  string `json:"InstanceId"`
		ClientToken string
		Tags        map[string]string
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if !isText(in.Name, 128) || in.Description != nil && !isText(*in.Description, 250) {
		return nil, invalidRequest("Name and Description: expected 1 to 128 and 1 to 250 characters without blanks around.")
	}
	if len(in.ClientToken) > 500 || in.Tags != nil && len(in.Tags) < 1 || len(in.Tags) > 50 {
		return nil, invalidRequest("ClientToken and Tags: expected up to 500 characters and 1 to 50 tags.")
	}
	for k, v := range in.Tags {
		if !tagKeyPattern.MatchString(k) || strings.HasPrefix(k, "aws:") || utf8.RuneCountInString(v) > 256 {
			return nil, invalidRequest(fmt.Sprintf("Tags: %q is not a key, or its value is longer than 256 characters.", k))
		}
	}
	if err := s.instanceOrARN(r.region, in.InstanceID); err != nil {
		return nil, err
	}
	if r.region != 0 {
		return nil, invalidRequest("A traffic distribution group is created in the Region of the source instance.")
	}
	out := func(t *tdg) any {
		return struct {
			ID  string `json:"Id"`
			Arn string
		}{t.id, s.tdgARN(t)}
	}
	if id := s.tokens[in.ClientToken]; id != "" && in.ClientToken != "" {
		if t := s.namedTDG(id); t != nil {
			return out(t), nil
		}
	}
	exist := 0
	for _, t := range s.tdgs {
		if !t.deleted {
			exist++
			if t.name == in.Name {
				return nil, conflict("A traffic distribution group named " + strconv.Quote(in.Name) + " exists.")
			}
		}
	}
	if exist >= maxTDGs {
		return nil, &Error{Status: 402, Type: "ServiceQuotaExceededException", Message: "The instance has as many traffic distribution groups as its quota allows."}
	}
	t := s.newTDG(TDGConfig{ID: s.randomUUID(), Name: in.Name, Percent: 100})
	if in.Description != nil {
		t.description = *in.Description
	}
	t.tags = in.Tags
	t.views = [2]tdgView{}
	t.seq = s.tdgs[len(s.tdgs)-1].seq + 1
	s.tdgs = append(s.tdgs, t)
	s.tokens[in.ClientToken] = t.id
	if s.cfg.UpdateWindow > 0 {
		t.status = tdgCreating
		s.publish(t, r.region, tdgView{exists: true, status: tdgCreating, dist: t.dist})
	}
	s.afterWindow(func() {
		t.status = tdgActive
		s.publish(t, r.region, tdgView{exists: true, status: tdgActive, dist: t.dist})
	})
	return out(t), nil
}

func deleteTDG(s *Sim, r *request, _ bool) (any, error) {
	t, err := s.homeTDGOf(r)
	if err != nil {
		return nil, invalidRequest(err.Error()) // the operation has no 404
	}
	if t.isDefault {
		return nil, invalidRequest("The default traffic distribution group cannot be deleted.")
	}
	if len(t.members) > 0 {
		return nil, &Error{
			Status: 409, Type: "ResourceInUseException", Message: "Users are associated with the traffic distribution group.",
			members: map[string]any{"ResourceType": "USER", "ResourceId": s.resourceARN(0, "agent", t.members[0].ids[0])},
		}
	}
	if t.status == tdgUpdating || t.status == tdgCreating {
		return nil, invalidRequest("The traffic distribution group is not ACTIVE: its status is " + t.status + ".")
	}
	if s.cfg.UpdateWindow > 0 {
		t.status = tdgDeleting
		s.publish(t, r.region, tdgView{exists: true, status: tdgDeleting, dist: t.dist})
	}
	s.afterWindow(func() {
		t.deleted = true
		s.publish(t, r.region, tdgView{})
	})
	return none{}, nil
}

// ---- instances, users, routing profiles, contacts

func (s *Sim) alias(region int) string {
	return s.cfg.Alias + "-" + s.cfg.Regions[region]
}

// accessURL is where people open the Region's instance.
func (s *Sim) accessURL(region int) string {
	if s.cfg.View == Global {
		return "https://" + s.cfg.Regions[region] + "." + s.cfg.Alias + ".my.connect.aws"
	}
	return "https://" + s.alias(region) + ".my.connect.aws"
}

type instanceOut struct {
	ID                     string `json:"Id"`
	Arn                    string
	IdentityManagementType string
	InstanceAlias          string
	CreatedTime            epoch
	ServiceRole            string
	InstanceStatus         string
	InboundCallsEnabled    bool
	OutboundCallsEnabled   bool
	InstanceAccessURL      string `json:"InstanceAccessUrl"`
}

func (s *Sim) instanceOut(region int) instanceOut {
	return instanceOut{
		ID: s.cfg.InstanceID, Arn: s.instanceARN(region), IdentityManagementType: "SAML", InstanceAlias: s.alias(region),
		CreatedTime:    epoch(s.created()),
		ServiceRole:    "arn:aws:iam::" + s.cfg.Account + ":role/aws-service-role/connect.amazonaws.com/AWSServiceRoleForAmazonConnect_simulated",
		InstanceStatus: "ACTIVE", InboundCallsEnabled: true, OutboundCallsEnabled: true, InstanceAccessURL: s.accessURL(region),
	}
}

func listInstances(s *Sim, r *request, emptyPages bool) (any, error) {
	limit, err := r.maxResults(10, 10, invalidRequest)
	if err != nil {
		return nil, err
	}
	tok, err := readToken(r.query.Get("nextToken"), question(r.op.name), invalidRequest)
	if err != nil {
		return nil, err
	}
	items, next := page([]instanceOut{s.instanceOut(r.region)}, func(instanceOut) int { return 0 }, func(instanceOut) bool { return true }, tok, limit, emptyPages)
	return struct {
		NextToken           *string `json:",omitempty"`
		InstanceSummaryList []instanceOut
	}{next, items}, nil
}

func describeInstance(s *Sim, r *request, _ bool) (any, error) {
	if err := s.instance(r.label["InstanceId"]); err != nil {
		return nil, err
	}
	type replica struct{ Region, ReplicationStatus, ReplicationStatusReason string }
	type replication struct {
		ReplicationStatusSummaryList []replica
		SourceRegion                 string
		GlobalSignInEndpoint         string
	}
	return struct {
		Instance                 instanceOut
		ReplicationConfiguration replication
	}{s.instanceOut(r.region), replication{
		ReplicationStatusSummaryList: []replica{{s.cfg.Regions[1], "INSTANCE_REPLICATION_COMPLETE", "The replica is complete."}},
		SourceRegion:                 s.cfg.Regions[0],
		GlobalSignInEndpoint:         "https://" + s.cfg.InstanceID + "." + s.cfg.Regions[0] + ".sign-in.connect.aws/saml",
	}}, nil
}

func listUsers(s *Sim, r *request, emptyPages bool) (any, error) {
	if err := s.instance(r.label["InstanceId"]); err != nil {
		return nil, err
	}
	limit, err := r.maxResults(1000, 100, invalidParameter)
	if err != nil {
		return nil, err
	}
	tok, err := readToken(r.query.Get("nextToken"), question(r.op.name), invalidParameter)
	if err != nil {
		return nil, err
	}
	items, next := page(s.agents, func(a *agent) int { return a.seq }, func(*agent) bool { return true }, tok, limit, emptyPages)
	type user struct {
		ID                 string `json:"Id"`
		Arn, Username      string
		LastModifiedTime   epoch
		LastModifiedRegion string
	}
	out := struct {
		NextToken       *string `json:",omitempty"`
		UserSummaryList []user
	}{next, make([]user, 0, len(items))}
	for _, a := range items {
		id := a.ids[r.region]
		out.UserSummaryList = append(out.UserSummaryList, user{id, s.resourceARN(r.region, "agent", id), a.username, epoch(s.created()), s.cfg.Regions[0]})
	}
	return out, nil
}

type identity struct{ FirstName, LastName string }

type phoneConfig struct {
	PhoneType                 string
	AutoAccept                bool
	AfterContactWorkTimeLimit int
}

type userOut struct {
	ID                 string `json:"Id"`
	Arn                string
	Username           string
	IdentityInfo       identity
	PhoneConfig        phoneConfig
	SecurityProfileIDs []string `json:"SecurityProfileIds"`
	RoutingProfileID   string   `json:"RoutingProfileId"`
	HierarchyGroupID   string   `json:"HierarchyGroupId"`
}

func (s *Sim) userOut(a *agent, region int) userOut {
	return userOut{
		ID: a.ids[region], Arn: s.resourceARN(region, "agent", a.ids[region]), Username: a.username,
		IdentityInfo: identity{a.first, a.last}, PhoneConfig: phoneConfig{PhoneType: "SOFT_PHONE"},
		SecurityProfileIDs: []string{s.uuidOf("security-profile", "agent")}, RoutingProfileID: a.profile.id,
		HierarchyGroupID: s.groupNames[a.group],
	}
}

func describeUser(s *Sim, r *request, _ bool) (any, error) {
	if err := s.instance(r.label["InstanceId"]); err != nil {
		return nil, err
	}
	a := s.userOf(r.region, r.label["UserId"])
	if a == nil {
		return nil, notFound(fmt.Sprintf("User %q not found.", r.label["UserId"]))
	}
	type described struct {
		userOut
		LastModifiedTime   epoch
		LastModifiedRegion string
	}
	return struct{ User described }{described{s.userOut(a, r.region), epoch(s.created()), s.cfg.Regions[0]}}, nil
}

// userCriteria is UserSearchCriteria.
type userCriteria struct {
	OrConditions, AndConditions []userCriteria
	StringCondition             *stringCondition
	ListCondition               *struct {
		TargetListType string
		Conditions     []struct {
			StringCondition *stringCondition
			NumberCondition *struct {
				FieldName          string
				MinValue, MaxValue *int32
				ComparisonType     string
			}
		}
	}
	HierarchyGroupCondition *hierarchyCondition
}

type stringCondition struct{ FieldName, Value, ComparisonType string }

type hierarchyCondition struct{ Value, HierarchyGroupMatchType string }

type tagCondition struct{ TagKey, TagValue string }

type attributeAnd struct {
	TagConditions           []tagCondition
	HierarchyGroupCondition *hierarchyCondition
}

// userFilter is UserSearchFilter.
type userFilter struct {
	TagFilter *struct {
		OrConditions  [][]tagCondition
		AndConditions []tagCondition
		TagCondition  *tagCondition
	}
	UserAttributeFilter *struct {
		OrConditions            []attributeAnd
		AndCondition            *attributeAnd
		TagCondition            *tagCondition
		HierarchyGroupCondition *hierarchyCondition
	}
}

// oneOf checks an enum; a member that is not given is empty.
func oneOf(name, value string, values ...string) error {
	if value != "" && !slices.Contains(values, value) {
		return invalidParameter(fmt.Sprintf("%s %q: expected one of %v.", name, value, values))
	}
	return nil
}

func (c *stringCondition) validate() error {
	if c == nil {
		return nil
	}
	return oneOf("ComparisonType", c.ComparisonType, "STARTS_WITH", "CONTAINS", "EXACT")
}

func (c *hierarchyCondition) validate() error {
	if c == nil {
		return nil
	}
	return oneOf("HierarchyGroupMatchType", c.HierarchyGroupMatchType, "EXACT", "WITH_CHILD_GROUPS")
}

func (c *userCriteria) validate() error {
	errs := []error{c.StringCondition.validate(), c.HierarchyGroupCondition.validate()}
	for i := range c.OrConditions {
		errs = append(errs, c.OrConditions[i].validate())
	}
	for i := range c.AndConditions {
		errs = append(errs, c.AndConditions[i].validate())
	}
	if l := c.ListCondition; l != nil {
		errs = append(errs, oneOf("TargetListType", l.TargetListType, "PROFICIENCIES"))
		for _, lc := range l.Conditions {
			errs = append(errs, lc.StringCondition.validate())
			if n := lc.NumberCondition; n != nil {
				errs = append(errs, oneOf("ComparisonType", n.ComparisonType,
					"GREATER_OR_EQUAL", "GREATER", "LESSER_OR_EQUAL", "LESSER", "EQUAL", "NOT_EQUAL", "RANGE"))
			}
		}
	}
	return errors.Join(errs...)
}

// meets says whether a user meets the criteria. Nobody has proficiencies.
func (s *Sim) meets(a *agent, region int, c *userCriteria) (bool, error) {
	for i := range c.AndConditions {
		if ok, err := s.meets(a, region, &c.AndConditions[i]); !ok || err != nil {
			return ok, err
		}
	}
	any := len(c.OrConditions) == 0
	for i := range c.OrConditions {
		ok, err := s.meets(a, region, &c.OrConditions[i])
		if err != nil {
			return false, err
		}
		any = any || ok
	}
	if !any || c.ListCondition != nil || !s.inHierarchy(a, region, c.HierarchyGroupCondition) {
		return false, nil
	}
	if c.StringCondition == nil {
		return true, nil
	}
	field, ok := map[string]string{
		"username": a.username, "firstname": a.first, "lastname": a.last, "routingprofileid": a.profile.id, "resourceid": a.ids[region],
	}[strings.ToLower(c.StringCondition.FieldName)]
	if !ok {
		return false, invalidParameter(fmt.Sprintf("FieldName %q is not known.", c.StringCondition.FieldName))
	}
	field, value := strings.ToLower(field), strings.ToLower(c.StringCondition.Value)
	switch c.StringCondition.ComparisonType {
	case "STARTS_WITH":
		return strings.HasPrefix(field, value), nil
	case "CONTAINS":
		return strings.Contains(field, value), nil
	}
	return field == value, nil
}

func (s *Sim) inHierarchy(a *agent, region int, c *hierarchyCondition) bool {
	return c == nil || bareID(s.resourceARN(region, "agent-group", ""), c.Value) == s.groupNames[a.group]
}

// passes says whether a user passes the filter. Nobody has tags.
func (s *Sim) passes(a *agent, region int, f *userFilter) bool {
	if t := f.TagFilter; t != nil && (t.TagCondition != nil || len(t.AndConditions) > 0 || len(t.OrConditions) > 0) {
		return false
	}
	u := f.UserAttributeFilter
	if u == nil {
		return true
	}
	and := func(c attributeAnd) bool {
		return len(c.TagConditions) == 0 && s.inHierarchy(a, region, c.HierarchyGroupCondition)
	}
	return u.TagCondition == nil && s.inHierarchy(a, region, u.HierarchyGroupCondition) &&
		(u.AndCondition == nil || and(*u.AndCondition)) && (len(u.OrConditions) == 0 || slices.ContainsFunc(u.OrConditions, and))
}

func (f *userFilter) validate() error {
	u := f.UserAttributeFilter
	if u == nil {
		return nil
	}
	errs := []error{u.HierarchyGroupCondition.validate()}
	if u.AndCondition != nil {
		errs = append(errs, u.AndCondition.HierarchyGroupCondition.validate())
	}
	for _, c := range u.OrConditions {
		errs = append(errs, c.HierarchyGroupCondition.validate())
	}
	return errors.Join(errs...)
}

func searchUsers(s *Sim, r *request, emptyPages bool) (any, error) {
	var in struct {
		InstanceID     string `json:"InstanceId"`
		NextToken      *string
		MaxResults     *int
		SearchFilter   userFilter
		SearchCriteria userCriteria
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.InstanceID == "" {
		return nil, invalidRequest("InstanceId is required.")
	}
	if err := s.instance(in.InstanceID); err != nil {
		return nil, err
	}
	limit, err := bodyLimit(in.MaxResults, 500)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(in.SearchFilter.validate(), in.SearchCriteria.validate()); err != nil {
		return nil, err
	}
	text := ""
	if in.NextToken != nil {
		if text = *in.NextToken; text == "" || len(text) > 2500 {
			return nil, invalidParameter("NextToken: expected 1 to 2500 characters.")
		}
	}
	asked, err := json.Marshal([]any{in.SearchFilter, in.SearchCriteria})
	if err != nil {
		panic(err) // they were decoded a moment ago
	}
	tok, err := readToken(text, question(r.op.name, string(asked)), invalidParameter)
	if err != nil {
		return nil, err
	}
	found := make([]*agent, 0, len(s.agents))
	for _, a := range s.agents {
		ok, err := s.meets(a, r.region, &in.SearchCriteria)
		if err != nil {
			return nil, err
		}
		if ok && s.passes(a, r.region, &in.SearchFilter) {
			found = append(found, a)
		}
	}
	items, next := page(found, func(a *agent) int { return a.seq }, func(*agent) bool { return true }, tok, limit, emptyPages)
	out := struct {
		Users                 []userOut
		NextToken             *string `json:",omitempty"`
		ApproximateTotalCount int64
	}{make([]userOut, 0, len(items)), next, int64(len(found))}
	for _, a := range items {
		out.Users = append(out.Users, s.userOut(a, r.region))
	}
	return out, nil
}

// bodyLimit reads the page size of a POST.
func bodyLimit(n *int, limit int) (int, error) {
	switch {
	case n == nil:
		return limit, nil
	case *n < 1 || *n > limit:
		return 0, invalidParameter(fmt.Sprintf("1 validation error detected: Value '%d' at 'maxResults' failed to satisfy constraint: Member must have value between 1 and %d", *n, limit))
	}
	return *n, nil
}

func listRoutingProfiles(s *Sim, r *request, emptyPages bool) (any, error) {
	if err := s.instance(r.label["InstanceId"]); err != nil {
		return nil, err
	}
	limit, err := r.maxResults(1000, 100, invalidParameter)
	if err != nil {
		return nil, err
	}
	tok, err := readToken(r.query.Get("nextToken"), question(r.op.name), invalidParameter)
	if err != nil {
		return nil, err
	}
	items, next := page(s.profiles, func(p *profile) int { return p.seq }, func(*profile) bool { return true }, tok, limit, emptyPages)
	type routingProfile struct {
		ID                 string `json:"Id"`
		Arn, Name          string
		LastModifiedTime   epoch
		LastModifiedRegion string
	}
	out := struct {
		NextToken                 *string `json:",omitempty"`
		RoutingProfileSummaryList []routingProfile
	}{next, make([]routingProfile, 0, len(items))}
	for _, p := range items {
		out.RoutingProfileSummaryList = append(out.RoutingProfileSummaryList,
			routingProfile{p.id, s.resourceARN(r.region, "routing-profile", p.id), p.name, epoch(s.created()), s.cfg.Regions[0]})
	}
	return out, nil
}

func describeContact(s *Sim, r *request, _ bool) (any, error) {
	if err := s.instance(r.label["InstanceId"]); err != nil {
		return nil, err
	}
	id := r.label["ContactId"]
	c := s.contacts[id]
	if c == nil || !s.sees(r.region, c) {
		return nil, notFound(fmt.Sprintf("Contact %q not found.", id))
	}
	type queueInfo struct {
		ID               string `json:"Id"`
		EnqueueTimestamp epoch
	}
	type agentInfo struct {
		ID                        string `json:"Id"`
		ConnectedToAgentTimestamp *epoch `json:",omitempty"`
	}
	type resiliency struct {
		ActiveRegion, OriginRegion string
		TrafficDistributionGroupID string `json:"TrafficDistributionGroupId,omitempty"`
	}
	type described struct {
		Arn                      string
		ID                       string `json:"Id"`
		InitialContactID         string `json:"InitialContactId"`
		InitiationMethod         string
		Channel                  string
		QueueInfo                queueInfo
		AgentInfo                agentInfo
		InitiationTimestamp      epoch
		DisconnectTimestamp      *epoch `json:",omitempty"`
		LastUpdateTimestamp      epoch
		GlobalResiliencyMetadata resiliency
	}
	began := epoch(s.time(c.began))
	updated := max(c.began, c.connectedAt, c.endedAt)
	if c.clearedAt < 0 {
		updated = max(updated, c.stateSince)
	}
	return struct{ Contact described }{described{
		Arn: s.resourceARN(c.region, "contact", c.id), ID: c.id, InitialContactID: c.id, InitiationMethod: c.method, Channel: c.channel,
		QueueInfo:           queueInfo{c.agent.profile.queueID, began},
		AgentInfo:           agentInfo{c.agent.ids[r.region], s.epochOf(c.connectedAt)},
		InitiationTimestamp: began, DisconnectTimestamp: s.epochOf(c.endedAt), LastUpdateTimestamp: epoch(s.time(updated)),
		GlobalResiliencyMetadata: resiliency{s.cfg.Regions[c.region], s.cfg.Regions[c.region], c.tdgID},
	}}, nil
}

// ---- GetCurrentUserData

type reference struct {
	ID  string `json:"Id"`
	Arn string
}

type contactOut struct {
	ContactID                 string `json:"ContactId"`
	Channel                   string
	InitiationMethod          string
	AgentContactState         string
	StateStartTimestamp       epoch
	ConnectedToAgentTimestamp *epoch `json:",omitempty"`
	Queue                     reference
}

type userDataOut struct {
	User           reference
	RoutingProfile reference
	HierarchyPath  struct{ LevelOne reference }
	Status         struct {
		StatusStartTimestamp epoch
		StatusArn            string
		StatusName           string
	}
	AvailableSlotsByChannel map[string]int
	MaxSlotsByChannel       map[string]int
	ActiveSlotsByChannel    map[string]int
	Contacts                []contactOut
}

// sees says whether a Region shows a contact: its own, or with a global view those of every Region whose contacts
// can be had. The administrator guide says that contact details may be unavailable while their Region is impaired.
func (s *Sim) sees(region int, c *contact) bool {
	if s.cfg.View == Regional {
		return c.region == region
	}
	return s.down[c.region] == Up
}

// statusIn is the status of an agent as the Region shows it, and whether it shows him at all.
func (s *Sim) statusIn(region int, a *agent) (status string, shown bool) {
	status = a.status
	if s.cfg.View == Regional && a.region != region {
		status = StatusOffline
	}
	if status != StatusOffline || s.cfg.ShowOffline {
		return status, true
	}
	return status, slices.ContainsFunc(a.contacts, func(c *contact) bool { return s.sees(region, c) })
}

// scan visits the agents of the sources from a place on, until visit says false.
func scan(sources [][]*agent, rank, after int, visit func(rank int, a *agent) bool) {
	for ; rank < len(sources); rank++ {
		list := sources[rank]
		for _, a := range list[sort.Search(len(list), func(i int) bool { return list[i].seq > after }):] {
			if !visit(rank, a) {
				return
			}
		}
		after = -1
	}
}

func getCurrentUserData(s *Sim, r *request, emptyPages bool) (any, error) {
	var in struct {
		Filters *struct {
			Queues, RoutingProfiles, Agents, UserHierarchyGroups []string
			ContactFilter                                        *struct{ ContactStates []string }
		}
		NextToken  string
		MaxResults *int
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if err := s.instance(r.label["InstanceId"]); err != nil {
		return nil, err
	}
	limit, err := bodyLimit(in.MaxResults, 100)
	if err != nil {
		return nil, err
	}
	if in.Filters == nil {
		return nil, invalidRequest("Filters is required.")
	}
	f := in.Filters
	given, kind, ids := 0, "", []string(nil)
	for _, o := range []struct {
		kind string
		ids  []string
		max  int
	}{{"Queues", f.Queues, 100}, {"RoutingProfiles", f.RoutingProfiles, 100}, {"Agents", f.Agents, 100}, {"UserHierarchyGroups", f.UserHierarchyGroups, 1}} {
		if o.ids == nil {
			continue
		}
		if len(o.ids) < 1 || len(o.ids) > o.max {
			return nil, invalidParameter(fmt.Sprintf("%s: expected 1 to %d values, got %d.", o.kind, o.max, len(o.ids)))
		}
		given++
		kind, ids = o.kind, o.ids
	}
	// "A maximum of one filter"; what none gives is not documented, and the simulator refuses to guess.
	if given != 1 {
		return nil, invalidParameter(fmt.Sprintf("Exactly one of Queues, RoutingProfiles, Agents and UserHierarchyGroups is expected, got %d.", given))
	}
	var states []string
	if f.ContactFilter != nil {
		states = f.ContactFilter.ContactStates
		for _, st := range states {
			if !slices.Contains(contactStates, st) {
				return nil, invalidParameter(fmt.Sprintf("ContactStates: %q is not a contact state.", st))
			}
		}
		if len(states) > 9 {
			return nil, invalidParameter("ContactStates: expected up to 9.")
		}
	}
	tok, err := readToken(in.NextToken, question(append(append([]string{r.op.name, kind}, ids...), append([]string{"/"}, states...)...)...), invalidParameter)
	if err != nil {
		return nil, err
	}

	wanted := func(a *agent) bool {
		if _, shown := s.statusIn(r.region, a); !shown {
			return false
		}
		return len(states) == 0 || slices.ContainsFunc(a.contacts, func(c *contact) bool {
			return s.sees(r.region, c) && slices.Contains(states, c.state)
		})
	}
	sources := s.sources(r.region, kind, ids)
	if in.NextToken == "" {
		scan(sources, 0, -1, func(_ int, a *agent) bool {
			if wanted(a) {
				tok.Total++
			}
			return true
		})
	}
	out := struct {
		NextToken             *string `json:",omitempty"`
		ApproximateTotalCount int64
		UserDataList          []userDataOut
	}{ApproximateTotalCount: tok.Total, UserDataList: make([]userDataOut, 0, limit)}
	if emptyPages && !tok.Empty {
		tok.Empty = true
		text := tok.String()
		out.NextToken = &text
		return out, nil
	}
	tok.Empty = false
	last := tok
	scan(sources, tok.Rank, tok.After, func(rank int, a *agent) bool {
		if !wanted(a) {
			return true
		}
		if len(out.UserDataList) == limit {
			text := last.String()
			out.NextToken = &text
			return false
		}
		out.UserDataList = append(out.UserDataList, s.userData(r.region, a))
		last.Rank, last.After = rank, a.seq
		return true
	})
	return out, nil
}

// sources are the agents that a filter names. What is not known, or has the ARN of the other Region, names nobody;
// whether Amazon Connect refuses it is not documented.
func (s *Sim) sources(region int, kind string, ids []string) [][]*agent {
	var out [][]*agent
	seen := make(map[string]bool, len(ids))
	var agents []*agent
	for _, id := range ids {
		switch kind {
		case "Queues":
			id = bareID(s.resourceARN(region, "queue", ""), id)
			if p := s.queueIDs[id]; p != nil && !seen[id] {
				out = append(out, p.agents)
			}
		case "RoutingProfiles":
			id = bareID(s.resourceARN(region, "routing-profile", ""), id)
			if p := s.profileIDs[id]; p != nil && !seen[id] {
				out = append(out, p.agents)
			}
		case "Agents":
			a := s.userOf(region, id)
			if a != nil && !seen[a.ids[region]] {
				id = a.ids[region]
				agents = append(agents, a)
			}
		case "UserHierarchyGroups":
			id = bareID(s.resourceARN(region, "agent-group", ""), id)
			if g, ok := s.groupIDs[id]; ok {
				for _, a := range s.agents {
					if a.group == g {
						agents = append(agents, a)
					}
				}
			}
		}
		seen[id] = true
	}
	if agents != nil {
		sort.Slice(agents, func(i, j int) bool { return agents[i].seq < agents[j].seq })
		out = append(out, agents)
	}
	return out
}

func (s *Sim) userData(region int, a *agent) userDataOut {
	status, _ := s.statusIn(region, a)
	u := userDataOut{
		User:                    reference{a.ids[region], s.resourceARN(region, "agent", a.ids[region])},
		RoutingProfile:          reference{a.profile.id, s.resourceARN(region, "routing-profile", a.profile.id)},
		MaxSlotsByChannel:       slots,
		ActiveSlotsByChannel:    map[string]int{},
		AvailableSlotsByChannel: map[string]int{},
		Contacts:                []contactOut{},
	}
	g := s.groupNames[a.group]
	u.HierarchyPath.LevelOne = reference{g, s.resourceARN(region, "agent-group", g)}
	u.Status.StatusName = status
	u.Status.StatusStartTimestamp = epoch(s.time(a.statusSince))
	u.Status.StatusArn = s.resourceARN(region, "agent-state", s.statusID(status))
	for _, c := range a.contacts {
		if !s.sees(region, c) {
			continue
		}
		u.ActiveSlotsByChannel[c.channel]++
		u.Contacts = append(u.Contacts, contactOut{
			ContactID: c.id, Channel: c.channel, InitiationMethod: c.method, AgentContactState: c.state,
			StateStartTimestamp: epoch(s.time(c.stateSince)), ConnectedToAgentTimestamp: s.epochOf(c.connectedAt),
			Queue: reference{a.profile.queueID, s.resourceARN(region, "queue", a.profile.queueID)},
		})
	}
	for ch, n := range slots {
		if status == StatusAvailable {
			n = max(n-u.ActiveSlotsByChannel[ch], 0)
		} else {
			n = 0
		}
		u.AvailableSlotsByChannel[ch] = n
	}
	return u
}
