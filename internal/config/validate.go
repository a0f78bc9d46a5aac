package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shortest is the smallest interval that makes sense against a service with quotas of a few calls per second.
const shortest = 100 * time.Millisecond

var (
	groupName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	regionName  = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	uuidPattern = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	uuid        = regexp.MustCompile(`^` + uuidPattern + `$`)
	tdgARN      = regexp.MustCompile(`^arn:aws[a-z-]*:connect:[a-z0-9-]+:[0-9]{12}:traffic-distribution-group/` + uuidPattern + `$`)
	roleARN     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)
)

// Shorter ones are mistyped, and would empty what they are for.
const (
	leastAuditRetention   = 30 * 24 * time.Hour
	leastHistoryRetention = 24 * time.Hour
)

// validate notes every value that is of the right type and still wrong. Messages do not repeat URLs: they may hold a
// password.
func (l *loader) validate(c *Config) {
	l.address("http.listen", c.HTTP.Listen)
	if c.HTTP.MetricsListen != "" {
		l.address("http.metricsListen", c.HTTP.MetricsListen)
		if _, port, _ := net.SplitHostPort(c.HTTP.Listen); c.HTTP.MetricsListen == c.HTTP.Listen && port != "0" {
			l.fault("http.metricsListen", "%s is http.listen; leave it empty to have /metrics there", c.HTTP.MetricsListen)
		}
	}

	l.http(c.HTTP)

	switch c.Database.URL {
	case Embedded:
	case "":
		l.fault("database.url", "is required; expected embedded or postgres://user@host/db")
	default:
		l.databaseURL("database.url", c.Database.URL)
	}
	l.otherDatabaseURL("database.migrateUrl", c.Database.MigrateURL, c.Database.URL)
	l.otherDatabaseURL("database.listenUrl", c.Database.ListenURL, c.Database.URL)

	if c.Database.AuditRetention != 0 {
		l.duration("database.auditRetention", c.Database.AuditRetention, leastAuditRetention)
	}
	if c.Database.HistoryRetention != 0 {
		l.duration("database.historyRetention", c.Database.HistoryRetention, leastHistoryRetention)
	}

	l.auth(c)
	for i, origin := range c.CORS.AllowedOrigins {
		l.origin(fmt.Sprintf("cors.allowedOrigins[%d]", i), origin)
	}

	l.number("connect.requestsPerSecond", c.Connect.RequestsPerSecond, 0.01)
	l.atLeast("connect.burst", c.Connect.Burst, 1)
	l.duration("connect.requestTimeout", c.Connect.RequestTimeout, shortest)

	l.duration("poll.distributionInterval", c.Poll.DistributionInterval, shortest)
	l.duration("poll.agentInterval", c.Poll.AgentInterval, shortest)
	l.duration("poll.drainInterval", c.Poll.DrainInterval, shortest)
	l.duration("poll.membershipInterval", c.Poll.MembershipInterval, shortest)
	l.atLeast("poll.confirmations", c.Poll.Confirmations, 1)
	l.duration("poll.conflictAfter", c.Poll.ConflictAfter, shortest)

	l.duration("failover.regionDownAfter", c.Failover.RegionDownAfter, shortest)
	l.duration("failover.contactsMaxAge", c.Failover.ContactsMaxAge, shortest)
	l.duration("failover.maxUnknown", c.Failover.MaxUnknown, 0)
	l.duration("failover.configureErrorAfter", c.Failover.ConfigureErrorAfter, shortest)
	l.duration("failover.staleRelease", c.Failover.StaleRelease, 0)
	l.duration("failover.confirmWithin", c.Failover.ConfirmWithin, shortest)
	l.number("failover.pace", c.Failover.Pace, 0)

	l.duration("stream.heartbeat", c.Stream.Heartbeat, time.Second)
	l.duration("stream.retry", c.Stream.Retry, shortest)
	l.atLeast("stream.maxConnections", c.Stream.MaxConnections, 1)
	l.atLeast("stream.maxConnectionsPerAgent", c.Stream.MaxConnectionsPerAgent, 1)
	l.duration("stream.writeTimeout", c.Stream.WriteTimeout, shortest)
	l.duration("stream.drain", c.Stream.Drain, 0)
	l.duration("stream.replayRetention", c.Stream.ReplayRetention, shortest)

	l.groups(c.FailoverGroups)
	l.webhooks(c)
}

// webhookEvents are what a webhook can be told; package webhook has the same list.
var webhookEvents = []string{"failoverDetected", "failoverPending", "failoverCompleted", "failoverCancelled", "failoverStalled", "regionUnhealthy"}

// LeastSigningKey is the length of a key that nobody guesses.
const LeastSigningKey = 24

// name looks at the name of a thing of a kind, of which others have the names already.
func (l *loader) name(at, name, kind string, names map[string]bool) {
	switch {
	case !groupName.MatchString(name):
		l.fault(at, "%q is not a name of 1 to 63 letters, digits, -, _ and . that begins with a letter or digit", name)
	case names[name]:
		l.fault(at, "%q is the name of another %s", name, kind)
	}
	names[name] = true
}

func (l *loader) webhooks(c *Config) {
	names := map[string]bool{}
	for i, w := range c.Webhooks {
		at := fmt.Sprintf("webhooks[%d]", i)
		l.name(at+".name", w.Name, "webhook", names)
		l.webURL(at+".url", string(w.URL))
		switch {
		case w.SigningKey == "" && w.SigningKeyFile == "":
			l.fault(at+".signingKey", "is required, here or in signingKeyFile")
		case w.SigningKey != "" && w.SigningKeyFile != "":
			l.fault(at+".signingKeyFile", "is set beside signingKey; the key can be in one place only")
		case w.SigningKey != "" && len(w.SigningKey) < LeastSigningKey:
			l.fault(at+".signingKey", "is too short; expected %d characters or more", LeastSigningKey)
		}
		for j, e := range w.Events {
			if !slices.Contains(webhookEvents, e) {
				l.fault(fmt.Sprintf("%s.events[%d]", at, j), "%q is not one of %s", e, strings.Join(webhookEvents, ", "))
			}
		}
		for j, g := range w.FailoverGroups {
			if !slices.ContainsFunc(c.FailoverGroups, func(f FailoverGroup) bool { return f.Name == g }) {
				l.fault(fmt.Sprintf("%s.failoverGroups[%d]", at, j), "%q is not the name of a failover group", g)
			}
		}
	}
}

func (l *loader) http(h HTTP) {
	switch {
	case h.TLSCert != "" && h.TLSKey == "":
		l.fault("http.tlsKey", "is required with http.tlsCert")
	case h.TLSCert == "" && h.TLSKey != "":
		l.fault("http.tlsCert", "is required with http.tlsKey")
	}
	if h.Profiling && h.MetricsListen == "" {
		l.fault("http.profiling", "needs http.metricsListen: profiles are never on http.listen")
	}
	for i, network := range h.TrustedProxies {
		l.network(fmt.Sprintf("http.trustedProxies[%d]", i), network)
	}
	for i, origin := range h.FrameAncestors {
		l.origin(fmt.Sprintf("http.frameAncestors[%d]", i), origin)
	}
	l.atLeast("http.maxConnections", h.MaxConnections, 1)
	l.atLeast("http.maxConnectionsPerAddress", h.MaxConnectionsPerAddress, 1)
	l.rate("http.requestsPerSecondPerToken", h.RequestsPerSecondPerToken)
	l.rate("http.requestsPerSecondPerAddress", h.RequestsPerSecondPerAddress)
}

func (l *loader) auth(c *Config) {
	switch c.Auth.Mode {
	case AuthJWT:
		if c.Auth.Issuer == "" && c.Auth.JWKSURL == "" && c.Auth.JWKSFile == "" {
			l.fault("auth.issuer", "is required with auth.mode jwt, unless auth.jwksUrl or auth.jwksFile says where the keys are")
		}
		if c.Auth.JWKSURL != "" && c.Auth.JWKSFile != "" {
			l.fault("auth.jwksFile", "is set beside auth.jwksUrl; the keys can be in one place only")
		}
	case AuthNone:
		if host, _, err := net.SplitHostPort(c.HTTP.Listen); err == nil && !loopback(host) {
			l.fault("auth.mode", "none makes every caller admin and is refused while http.listen (%s) is not a loopback address such as 127.0.0.1:8080", c.HTTP.Listen)
		}
	default:
		l.fault("auth.mode", "%q is not jwt or none", c.Auth.Mode)
	}
	if c.Auth.Issuer != "" {
		l.webURL("auth.issuer", c.Auth.Issuer)
	}
	if c.Auth.JWKSURL != "" {
		l.webURL("auth.jwksUrl", c.Auth.JWKSURL)
	}
	l.notEmpty("auth.audience", c.Auth.Audience)
	l.notEmpty("auth.agentClaim", c.Auth.AgentClaim)
	l.notEmpty("auth.rolesClaim", c.Auth.RolesClaim)
	switch c.Auth.SameSite {
	case "strict", "lax", "none":
	default:
		l.fault("auth.sameSite", "%q is not strict, lax or none", c.Auth.SameSite)
	}
	if c.Auth.Login.ClientID == "" {
		return
	}
	if c.Auth.Mode != AuthJWT || c.Auth.Issuer == "" {
		l.fault("auth.login.clientId", "takes auth.mode jwt and auth.issuer, where people are sent to sign in")
	}
	l.webURL("auth.login.redirectUrl", c.Auth.Login.RedirectURL)
}

// loopback says whether only this machine reaches an address of that host. A name other than localhost may resolve
// to anything, and an empty one is every address.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (l *loader) groups(groups []FailoverGroup) {
	if len(groups) == 0 {
		l.fault("failoverGroups", "expected at least one pair of linked instances")
	}
	names, instances := map[string]bool{}, map[string]string{}
	for i, g := range groups {
		at := fmt.Sprintf("failoverGroups[%d]", i)
		l.name(at+".name", g.Name, "failover group", names)
		if g.Routing != Regional && g.Routing != Global {
			l.fault(at+".routing", "%q is not regional or global", g.Routing)
		}
		if len(g.Instances) != 2 {
			l.fault(at+".instances", "expected two instances, the source first; there are %d", len(g.Instances))
		}
		regions := map[string]bool{}
		for j, in := range g.Instances {
			path := fmt.Sprintf("%s.instances[%d]", at, j)
			l.instance(path, in)
			if regions[in.Region] {
				l.fault(path+".region", "%q is the Region of the other instance too", in.Region)
			}
			regions[in.Region] = true
			key := in.Region + " " + in.InstanceID
			if other, ok := instances[key]; ok && other != at {
				l.fault(path+".instanceId", "%s in %s belongs to %s already", in.InstanceID, in.Region, other)
			}
			instances[key] = at
		}
		seen := map[string]bool{}
		for j, tdg := range g.TrafficDistributionGroups {
			path := fmt.Sprintf("%s.trafficDistributionGroups[%d]", at, j)
			id := tdg[strings.LastIndexByte(tdg, '/')+1:]
			switch {
			case !uuid.MatchString(tdg) && !tdgARN.MatchString(tdg):
				l.fault(path, "%q is neither the id nor the ARN of a traffic distribution group", tdg)
			case seen[id]:
				l.fault(path, "%q is listed twice", tdg)
			}
			seen[id] = true
		}
	}
}

func (l *loader) instance(path string, in Instance) {
	if !regionName.MatchString(in.Region) {
		l.fault(path+".region", "%q is not an AWS Region such as us-east-1", in.Region)
	}
	if !uuid.MatchString(in.InstanceID) {
		l.fault(path+".instanceId", "%q is not an instance id such as 12345678-1234-1234-1234-123456789012", in.InstanceID)
	}
	if in.CCPURL != "" {
		l.webURL(path+".ccpUrl", in.CCPURL)
	}
	if in.Endpoint != "" {
		l.webURL(path+".endpoint", in.Endpoint)
	}
	if in.RoleARN != "" && !roleARN.MatchString(in.RoleARN) {
		l.fault(path+".roleArn", "%q is not the ARN of an IAM role such as arn:aws:iam::111122223333:role/changeover", in.RoleARN)
	}
}

func (l *loader) address(path, value string) {
	_, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		l.fault(path, "%q is not host:port, such as 127.0.0.1:8080", value)
	}
}

// network is an address, or a network without bits beyond its length: 10.0.0.1/8 may mean either.
func (l *loader) network(path, value string) {
	prefix, err := ParseNetwork(value)
	switch {
	case err != nil || prefix.Addr().Is4In6(): // addresses are compared as IPv4
		l.fault(path, "%q is not an address or a network such as 10.0.0.0/8", value)
	case prefix != prefix.Masked():
		l.fault(path, "%q has bits beyond its length; expected %v, or %v alone", value, prefix.Masked(), prefix.Addr())
	case prefix.Bits() == 0:
		l.fault(path, "%q trusts everybody: each caller could choose its address", value)
	}
}

// ParseNetwork reads an entry of http.trustedProxies: a network, or an address that stands for itself alone.
func ParseNetwork(value string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(value); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(value)
}

func (l *loader) databaseURL(path string, value Secret) {
	if u, err := url.Parse(string(value)); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		l.fault(path, "is not a PostgreSQL URL such as postgres://user@host/db")
	}
}

func (l *loader) otherDatabaseURL(path string, value, main Secret) {
	switch {
	case value == "":
	case main == Embedded:
		l.fault(path, "is of no use with database.url: embedded; leave it empty")
	default:
		l.databaseURL(path, value)
	}
}

func (l *loader) notEmpty(path, value string) {
	if value == "" {
		l.fault(path, "must not be empty")
	}
}

func (l *loader) webURL(path, value string) {
	u, err := url.Parse(value)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		l.fault(path, "is not an http or https URL such as https://host.example.com/path")
	case u.User != nil:
		l.fault(path, "must not hold a user or password")
	}
}

// origin is one as browsers send it, letter by letter; another spelling of it would never match.
func (l *loader) origin(path, value string) {
	u, err := url.Parse(value)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Scheme+"://"+u.Host != value || !originHost.MatchString(u.Host):
		l.fault(path, "%q is not an exact origin such as https://desktop.example.com", value)
	case u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme]:
		l.fault(path, "%q names the default port, which browsers leave out; expected %s://%s", value, u.Scheme, u.Hostname())
	}
}

// originHost has no capitals and nothing but ASCII (names in other scripts are written as xn--…).
var originHost = regexp.MustCompile(`^([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]+)?$`)

func (l *loader) duration(path string, value, least time.Duration) {
	if value < least {
		l.fault(path, "%v is too short; expected %v or more", value, least)
	}
}

func (l *loader) number(path string, value, least float64) {
	if !(value >= least) || math.IsInf(value, 0) { // not value < least: NaN is not either
		l.fault(path, "%v is not a number of %v or more", value, least)
	}
}

// rate is requests per second; below one, even a burst would be refused.
func (l *loader) rate(path string, value float64) {
	if value != 0 && !(value >= 1) || math.IsInf(value, 0) {
		l.fault(path, "%v is not a number of 1 or more, or 0 for no limit", value)
	}
}

func (l *loader) atLeast(path string, value, least int) {
	if value < least {
		l.fault(path, "%d is too small; expected %d or more", value, least)
	}
}
