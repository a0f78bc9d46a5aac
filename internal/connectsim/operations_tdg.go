package connectsim

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

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
	for _, status := range []string{t.status, t.views[r.region].status} { // a Region that lags behind goes by what it knows
		if status != tdgActive {
			return nil, invalidRequest("The traffic distribution group is not ACTIVE: its status is " + status + ".")
		}
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
