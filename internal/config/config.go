package config

import "time"

// Embedded as database.url runs a private PostgreSQL for one machine.
const Embedded = "embedded"

// The values of auth.mode.
const (
	AuthJWT  = "jwt"
	AuthNone = "none"
)

// The values of failoverGroups[].routing.
const (
	Regional = "regional"
	Global   = "global"
)

// Config is the whole configuration. The comments of the fields are the text of docs/configuration.md.
type Config struct {
	// Where the service listens.
	HTTP HTTP `yaml:"http"`
	// PostgreSQL, 15 or newer, holds all state.
	Database Database `yaml:"database"`
	// Who may call.
	Auth Auth `yaml:"auth"`
	// Which web pages may call from a browser.
	CORS CORS `yaml:"cors"`
	// How Amazon Connect is called. Quotas are per account, Region and operation. Credentials come from the AWS SDK's default chain and from nowhere else.
	Connect Connect `yaml:"connect"`
	// How often Amazon Connect is read.
	Poll Poll `yaml:"poll"`
	// The numbers in the [rules](rules.md).
	Failover Failover `yaml:"failover"`
	// The [event streams](events.md).
	Stream Stream `yaml:"stream"`
	// One entry per pair of linked Amazon Connect instances; at least one. In the file only.
	FailoverGroups []FailoverGroup `yaml:"failoverGroups"`
	// Services that are told by HTTP POST what happens: [operations](operations.md#webhooks). In the file only.
	Webhooks []Webhook `yaml:"webhooks"`
}

// HTTP says where the service listens.
type HTTP struct {
	// Address of the API, the event streams and the console, as host:port; port 0 takes any free one.
	Listen string `yaml:"listen"`
	// Another address for `/metrics`, in plain HTTP, which is then no more on `http.listen`; the probes are on both. Empty: everything is on `http.listen`.
	MetricsListen string `yaml:"metricsListen"`
	// Profiles of the running process, for `go tool pprof`, under `/debug/pprof/` of `http.metricsListen`, which is required with it. Whoever reaches them can slow the service down.
	Profiling bool `yaml:"profiling"`
	// A PEM file with the certificate of `http.listen` and its intermediates; with `http.tlsKey`. It is then HTTPS (TLS 1.2 or 1.3) with HTTP/2. The files are read again when they change; one that is broken or expired leaves the old one in use.
	TLSCert string `yaml:"tlsCert"`
	// A PEM file with the private key of `http.tlsCert`.
	TLSKey string `yaml:"tlsKey"`
	// Addresses and networks (`10.0.0.0/8`) of load balancers and proxies in front. `X-Forwarded-For`, `-Proto` and `-Host` count from these alone, and `http.maxConnectionsPerAddress` does not count theirs.
	TrustedProxies []string `yaml:"trustedProxies"`
	// Origins whose pages may show the console in a frame; empty: none.
	FrameAncestors []string `yaml:"frameAncestors"`
	// Open connections of one replica, streams included; never more than the process may have open files. When it is reached, connections on which nobody has proved who they are make room, the oldest first.
	MaxConnections int `yaml:"maxConnections"`
	// Open connections from one address (IPv6: one /64 network), with the same rule. The default is for a whole floor behind one NAT.
	MaxConnectionsPerAddress int `yaml:"maxConnectionsPerAddress"`
	// Requests per second with one token, with a burst of ten seconds' worth; beyond that 429 with `Retry-After`, or for a stream 200 with a long `retry:`. Probes do not count. 0: no limit.
	RequestsPerSecondPerToken float64 `yaml:"requestsPerSecondPerToken"`
	// The same for one address (IPv6: one /64 network), whatever the token. The default is for a whole floor that comes back at once through one NAT.
	RequestsPerSecondPerAddress float64 `yaml:"requestsPerSecondPerAddress"`
}

// Database says where PostgreSQL is.
type Database struct {
	// `postgres://user@host/db`, or `embedded`: a private PostgreSQL, started by the service from the machine's own binaries, for one machine. Required. Several hosts (`postgres://user@a,b/db`): the one is taken that can be written to. A transaction pooler will do, with `database.listenUrl`. A password in a file that the URL names (`?passfile=`), and certificates, are read anew for each connection.
	URL Secret `yaml:"url"`
	// Where the embedded PostgreSQL keeps its files; empty: a folder of the user's cache directory.
	DataDir string `yaml:"dataDir"`
	// Apply migrations at start. With `false`, run `server migrate` before a new version.
	Migrate bool `yaml:"migrate"`
	// The URL of a role that owns the tables, for migrations; empty: `database.url`. The service's own role need not own them.
	MigrateURL Secret `yaml:"migrateUrl"`
	// A direct URL for LISTEN when `database.url` goes through a transaction pooler; empty: `database.url`.
	ListenURL Secret `yaml:"listenUrl"`
	// How long entries of the audit are kept, 720h or more; 0: for ever. Applied with the migrations, by the role that owns the tables.
	AuditRetention time.Duration `yaml:"auditRetention"`
	// How long failovers that are over, changes of distributions and drills are kept, 24h or more; 0: for ever. (Events: `stream.replayRetention`.)
	HistoryRetention time.Duration `yaml:"historyRetention"`
}

// Auth says who may call.
type Auth struct {
	// `jwt`: callers bring a token. `none`: every caller is admin; refused unless `http.listen` is a loopback address.
	Mode string `yaml:"mode"`
	// The OpenID Connect issuer: what a token's `iss` has to be, and where the keys are found by discovery. May be empty with `auth.jwksUrl` or `auth.jwksFile`; then the keys alone say whose tokens are good.
	Issuer string `yaml:"issuer"`
	// Where the issuer's keys are, instead of discovery.
	JWKSURL string `yaml:"jwksUrl"`
	// A file with the issuer's keys, for closed networks; read again when it changes.
	JWKSFile string `yaml:"jwksFile"`
	// What a token's `aud` has to contain.
	Audience string `yaml:"audience"`
	// The claim that holds the Connect user id of a desktop's agent.
	AgentClaim string `yaml:"agentClaim"`
	// The claim that holds the roles: `agent`, `viewer`, `operator`, `admin`.
	RolesClaim string `yaml:"rolesClaim"`
	// SameSite of the session cookie: `strict`, `lax`, or `none` for desktops that are pages of another site.
	SameSite string `yaml:"sameSite"`
	// Signing in to the console with a browser.
	Login Login `yaml:"login"`
}

// Login says how people sign in with their browser. It is off while the client id is empty.
type Login struct {
	// How the identity provider knows this service. Empty: nobody signs in here.
	ClientID string `yaml:"clientId"`
	// The client's secret; empty for a public client. PKCE is used with both.
	ClientSecret Secret `yaml:"clientSecret"`
	// The address of the callback as browsers see it and as the identity provider has it registered: `https://changeover.example.com/console/auth/callback`.
	RedirectURL string `yaml:"redirectUrl"`
	// What is asked for beside `openid`; empty: `profile` and `email`. Some providers put roles into a token only when asked.
	Scopes []string `yaml:"scopes"`
	// Encrypts what a browser keeps while its user is at the identity provider; the same for all replicas. Empty: derived from the client's secret. A public client on several replicas needs it.
	StateSecret Secret `yaml:"stateSecret"`
}

// CORS says which web pages may call from a browser.
type CORS struct {
	// Exact origins, such as `https://desktop.example.com`; `*` is refused. In the environment: separated by commas.
	AllowedOrigins []string `yaml:"allowedOrigins"`
}

// Connect says how Amazon Connect is called.
type Connect struct {
	// Calls per second, for each Region and operation. Amazon's default quota is 2, shared with the account's other users.
	RequestsPerSecond float64 `yaml:"requestsPerSecond"`
	// Calls at once after a quiet moment, for each Region and operation. Amazon's default quota is 5.
	Burst int `yaml:"burst"`
	// The time limit of one attempt; a Region that hangs never holds up the other.
	RequestTimeout time.Duration `yaml:"requestTimeout"`
}

// Poll says how often Amazon Connect is read.
type Poll struct {
	// GetTrafficDistribution, each group, from each Region.
	DistributionInterval time.Duration `yaml:"distributionInterval"`
	// Full sweep of signed-in agents; it takes longer when the quota does not allow it.
	AgentInterval time.Duration `yaml:"agentInterval"`
	// Contacts of agents whose failover is pending; goes before the sweep.
	DrainInterval time.Duration `yaml:"drainInterval"`
	// ListTrafficDistributionGroupUsers, in the background, resumable.
	MembershipInterval time.Duration `yaml:"membershipInterval"`
	// Consecutive observations that make a distribution change real (R14).
	Confirmations int `yaml:"confirmations"`
	// How long two Regions may disagree before the answer that changed last wins (R14).
	ConflictAfter time.Duration `yaml:"conflictAfter"`
}

// Failover holds the numbers in the rules.
type Failover struct {
	// How long a Region has to be silent to count as down (R9).
	RegionDownAfter time.Duration `yaml:"regionDownAfter"`
	// An older contact list is stale (R9).
	ContactsMaxAge time.Duration `yaml:"contactsMaxAge"`
	// How long a Region may have been silent for its last known empty contact lists to release agents (R9); 0: never.
	MaxUnknown time.Duration `yaml:"maxUnknown"`
	// How long a wrong set-up of a whole group lasts before its agents are told (R17).
	ConfigureErrorAfter time.Duration `yaml:"configureErrorAfter"`
	// Releases agents whose last known contact list was not empty so long after their Region went down (R9); 0: they are held until their contacts clear, or force.
	StaleRelease time.Duration `yaml:"staleRelease"`
	// Completed but not seen in the new Region by then: stalled (R12). Also how long a completion waits for a reporting desktop (R8).
	ConfirmWithin time.Duration `yaml:"confirmWithin"`
	// Completions per second and failover group; 0: no limit (R8).
	Pace float64 `yaml:"pace"`
}

// Stream holds the limits of the event streams.
type Stream struct {
	// A comment is sent so often on a stream without events; 1s or more.
	Heartbeat time.Duration `yaml:"heartbeat"`
	// The `retry:` of a connection, jittered to 1x to 3x.
	Retry time.Duration `yaml:"retry"`
	// Open streams of one replica, and beside them as many long polls.
	MaxConnections int `yaml:"maxConnections"`
	// Open streams of one agent on one replica, and beside them as many long polls.
	MaxConnectionsPerAgent int `yaml:"maxConnectionsPerAgent"`
	// A client that takes longer to accept an event is disconnected; it resumes.
	WriteTimeout time.Duration `yaml:"writeTimeout"`
	// The open streams are closed over so long a time at SIGTERM.
	Drain time.Duration `yaml:"drain"`
	// How long events are kept for clients that resume.
	ReplayRetention time.Duration `yaml:"replayRetention"`
}

// Webhook is a service that is told by HTTP POST what happens.
type Webhook struct {
	// Names it in the API, in metrics and in the database: letters, digits, `-`, `_` and `.`.
	Name string `yaml:"name"`
	// Where it is sent to. Redirects are not followed, and link-local addresses (a cloud machine's metadata) are not called.
	URL Secret `yaml:"url"`
	// Signs the deliveries ([Standard Webhooks](https://www.standardwebhooks.com/)): 24 characters or more, or `whsec_` and base64. Or `signingKeyFile`.
	SigningKey Secret `yaml:"signingKey"`
	// A file with the key, read at the start.
	SigningKeyFile string `yaml:"signingKeyFile"`
	// What it is told: `failoverDetected`, `failoverPending`, `failoverCompleted`, `failoverCancelled`, `failoverStalled`, `regionUnhealthy` (and then `regionRecovered`). Empty: detected, completed, stalled and Regions.
	Events []string `yaml:"events"`
	// Of which failover groups; empty: all.
	FailoverGroups []string `yaml:"failoverGroups"`
}

// FailoverGroup is a pair of linked Amazon Connect instances.
type FailoverGroup struct {
	// Names the group in the API, in events and in metrics: letters, digits, `-`, `_` and `.`.
	Name string `yaml:"name"`
	// `regional` or `global`. With Amazon's global routing (the default for instances created since 2026-09-01) GetCurrentUserData gives the same view from both Regions (R20).
	Routing string `yaml:"routing"`
	// Exactly two; the first is the source. The instance id is normally the same in both.
	Instances []Instance `yaml:"instances"`
	// Ids or ARNs of the traffic distribution groups to watch; empty: every group of the source instance.
	TrafficDistributionGroups []string `yaml:"trafficDistributionGroups"`
}

// Instance is one of the two linked instances.
type Instance struct {
	// AWS Region, such as `us-east-1`.
	Region string `yaml:"region"`
	// Amazon Connect instance id.
	InstanceID string `yaml:"instanceId"`
	// Address of this instance's Contact Control Panel, given to desktops as `activeCcpUrl`. Without it agents who would work here get `SECONDARY_CCP_URL_MISSING`.
	CCPURL string `yaml:"ccpUrl"`
	// Overrides the Amazon Connect API endpoint of this Region.
	Endpoint string `yaml:"endpoint"`
	// IAM role that is assumed for the calls to this Region.
	RoleARN string `yaml:"roleArn"`
}

// Default returns the configuration of an empty file. It is not valid: a database, the failover groups and the issuer of
// tokens have to be said.
func Default() *Config {
	return &Config{
		HTTP: HTTP{
			Listen:         "127.0.0.1:8080",
			MaxConnections: 110_000, MaxConnectionsPerAddress: 50_000,
			RequestsPerSecondPerToken: 500, RequestsPerSecondPerAddress: 10_000,
		},
		Database: Database{Migrate: true, HistoryRetention: 90 * 24 * time.Hour},
		Auth:     Auth{Mode: AuthJWT, Audience: "changeover", AgentClaim: "connect_user_id", RolesClaim: "roles", SameSite: "strict"},
		Connect:  Connect{RequestsPerSecond: 1.2, Burst: 4, RequestTimeout: 4 * time.Second},
		Poll: Poll{
			DistributionInterval: 10 * time.Second,
			AgentInterval:        15 * time.Second,
			DrainInterval:        5 * time.Second,
			MembershipInterval:   15 * time.Minute,
			Confirmations:        1,
			ConflictAfter:        time.Minute,
		},
		Failover: Failover{
			RegionDownAfter:     30 * time.Second,
			ContactsMaxAge:      time.Minute,
			MaxUnknown:          15 * time.Minute,
			ConfigureErrorAfter: time.Minute,
			ConfirmWithin:       5 * time.Minute,
		},
		Stream: Stream{
			Heartbeat:              15 * time.Second,
			Retry:                  3 * time.Second,
			MaxConnections:         100_000,
			MaxConnectionsPerAgent: 8,
			WriteTimeout:           5 * time.Second,
			Drain:                  20 * time.Second,
			ReplayRetention:        24 * time.Hour,
		},
	}
}
