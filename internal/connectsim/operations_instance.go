package connectsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

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
	limit, tok, err := r.paging(10, 10, invalidRequest)
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
	limit, tok, err := r.paging(1000, 100, invalidParameter)
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
	limit, tok, err := r.paging(1000, 100, invalidParameter)
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
