package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata's expectations and docs/configuration.md again")

// valid holds every section that a file must have, so that a bad file of testdata is only what is bad about it.
var valid = map[string]string{
	"database": "database: {url: embedded}\n",
	"auth":     "auth: {mode: none}\n",
	"failoverGroups": `failoverGroups:
  - name: main
    instances:
      - {region: us-east-1, instanceId: 12345678-1234-1234-1234-123456789012}
      - {region: us-west-2, instanceId: 12345678-1234-1234-1234-123456789012}
`,
}

// complete adds the sections that text lacks, behind it: line numbers stay.
func complete(text string) []byte {
	for _, section := range []string{"database", "auth", "failoverGroups"} {
		if !strings.HasPrefix(text, section+":") && !strings.Contains(text, "\n"+section+":") {
			text += valid[section]
		}
	}
	return []byte(text)
}

// TestBadFiles reads each file of testdata/bad, one rule each, and compares its faults with the .txt beside it. Run with -update
// and read the difference.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			input := text
			if name := filepath.Base(file); name != "not-yaml.yaml" && name != "not-a-mapping.yaml" && name != "two-documents.yaml" {
				input = complete(string(text))
			}
			_, err = parse("changeover.yaml", input, nil)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "secret", "a password was repeated")
			want := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(want, []byte(err.Error()+"\n"), 0o644))
			}
			expected, readErr := os.ReadFile(want)
			require.NoError(t, readErr)
			require.Equal(t, string(expected), err.Error()+"\n")
		})
	}
}

func TestDefaultsAndGroups(t *testing.T) {
	t.Parallel()
	c, err := parse("changeover.yaml", complete(""), nil)
	require.NoError(t, err)
	want := Default()
	want.Database.URL = Embedded
	want.Auth.Mode = AuthNone
	want.FailoverGroups = []FailoverGroup{{
		Name: "main", Routing: Regional,
		Instances: []Instance{
			{Region: "us-east-1", InstanceID: "12345678-1234-1234-1234-123456789012"},
			{Region: "us-west-2", InstanceID: "12345678-1234-1234-1234-123456789012"},
		},
	}}
	require.Equal(t, want, c)
}

func TestKeyWithoutValueKeepsTheDefault(t *testing.T) {
	t.Parallel()
	c, err := parse("changeover.yaml", complete("http:\npoll:\n  drainInterval:\ncors: {allowedOrigins: }\n"), nil)
	require.NoError(t, err)
	require.Equal(t, 5*time.Second, c.Poll.DrainInterval)
	require.Empty(t, c.CORS.AllowedOrigins)
}

func TestAuthNoneOnEveryLoopbackAddress(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"127.0.0.1:0", "127.8.9.10:1", "[::1]:8080", "localhost:8080"} {
		_, err := parse("changeover.yaml", complete(`http: {listen: "`+listen+`"}`+"\n"), nil)
		require.NoError(t, err, listen)
	}
	// Attack: a name that looks local and resolves to anything.
	for _, listen := range []string{"localhost.example.com:80", "[::]:80", "0:80", "127.1:80", "10.0.0.1:80"} {
		_, err := parse("changeover.yaml", complete(`http: {listen: "`+listen+`"}`+"\n"), nil)
		require.ErrorContains(t, err, "auth.mode: none makes every caller admin", listen)
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	t.Parallel()
	c, err := parse("changeover.yaml", complete("poll: {drainInterval: broken}\nhttp: {listen: \"0.0.0.0:80\"}\n"), []string{
		"PATH=/bin",
		"CHANGEOVER_HTTP_LISTEN=127.0.0.1:9000",
		"CHANGEOVER_HTTP_METRICS_LISTEN=0.0.0.0:9001",
		"CHANGEOVER_HTTP_TRUSTED_PROXIES=10.0.0.0/8, ::1",
		"CHANGEOVER_HTTP_REQUESTS_PER_SECOND_PER_TOKEN=0",
		"CHANGEOVER_DATABASE_URL=postgres://u:p@host/db?sslmode=require",
		"CHANGEOVER_DATABASE_MIGRATE=false",
		"CHANGEOVER_CONNECT_REQUESTS_PER_SECOND=0.6",
		"CHANGEOVER_CONNECT_BURST=2",
		"CHANGEOVER_POLL_DRAIN_INTERVAL=250ms",
		"CHANGEOVER_STREAM_MAX_CONNECTIONS_PER_AGENT=3",
		"CHANGEOVER_CORS_ALLOWED_ORIGINS=https://a.example, https://b.example:8443",
	})
	require.NoError(t, err)
	http := Default().HTTP
	http.Listen, http.MetricsListen = "127.0.0.1:9000", "0.0.0.0:9001"
	http.TrustedProxies = []string{"10.0.0.0/8", "::1"}
	http.RequestsPerSecondPerToken = 0
	require.Equal(t, http, c.HTTP)
	require.Equal(t, Database{URL: "postgres://u:p@host/db?sslmode=require", HistoryRetention: Default().Database.HistoryRetention}, c.Database)
	require.InDelta(t, 0.6, c.Connect.RequestsPerSecond, 0)
	require.Equal(t, 2, c.Connect.Burst)
	require.Equal(t, 250*time.Millisecond, c.Poll.DrainInterval)
	require.Equal(t, 3, c.Stream.MaxConnectionsPerAgent)
	require.Equal(t, []string{"https://a.example", "https://b.example:8443"}, c.CORS.AllowedOrigins)
}

func TestFaultsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	_, err := parse("changeover.yaml", complete(""), []string{
		"CHANGEOVER_HTTP_LISTN=127.0.0.1:1",
		"CHANGEOVER_FAILOVER_GROUPS=[]",
		"CHANGEOVER_DATABASE_MIGRATE=maybe",
		"CHANGEOVER_STREAM_HEARTBEAT=5",
		"CHANGEOVER_CORS_ALLOWED_ORIGINS=https://a.example,*",
	})
	var faults *Error
	require.ErrorAs(t, err, &faults)
	var got []string
	for _, f := range faults.Faults {
		got = append(got, f.String())
	}
	require.Equal(t, []string{
		`database.migrate: "maybe" is not true or false (CHANGEOVER_DATABASE_MIGRATE)`,
		`CHANGEOVER_FAILOVER_GROUPS: no such key in the environment; docs/configuration.md lists them`,
		`CHANGEOVER_HTTP_LISTN: no such key in the environment; docs/configuration.md lists them`,
		`stream.heartbeat: "5" is not a duration with a unit, such as 500ms, 10s, 5m or 24h (CHANGEOVER_STREAM_HEARTBEAT)`,
		`cors.allowedOrigins[1]: "*" is not an exact origin such as https://desktop.example.com (CHANGEOVER_CORS_ALLOWED_ORIGINS)`,
	}, got)
}

// Kubernetes gives every pod variables of the Services beside it: a Service of our own name must not stop us.
func TestVariablesOfKubernetesServicesAreNoKeys(t *testing.T) {
	t.Parallel()
	_, err := parse("changeover.yaml", complete(""), []string{
		"CHANGEOVER_SERVICE_HOST=10.0.0.1", "CHANGEOVER_SERVICE_PORT=80", "CHANGEOVER_SERVICE_PORT_HTTP=80",
		"CHANGEOVER_PORT=tcp://10.0.0.1:80", "CHANGEOVER_PORT_80_TCP=tcp://10.0.0.1:80", "CHANGEOVER_PORT_80_TCP_PROTO=tcp",
		"CHANGEOVER_PORT_80_TCP_PORT=80", "CHANGEOVER_PORT_80_TCP_ADDR=10.0.0.1", "CHANGEOVER_METRICS_SERVICE_HOST=10.0.0.2",
		"CHANGEOVER_PG_BIN=/usr/lib/postgresql/17/bin",
		"CHANGEOVER_TOKEN=for server watch",
		"CHANGEOVER_ENDPOINT=http://127.0.0.1:8080",
	})
	require.NoError(t, err)
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "none.yaml")
}

func TestFileTooLarge(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "large.yaml")
	require.NoError(t, os.WriteFile(file, make([]byte, maxFileSize+1), 0o600))
	_, err := Load(file, nil)
	require.ErrorContains(t, err, "larger than")
}

// FuzzParse: whatever the file and a variable hold, loading ends with a valid configuration or with faults, and what is valid
// keeps the rule that matters most.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(text), "")
		f.Add(string(complete(string(text))), "127.0.0.1:80")
	}
	f.Add("a: &a [*a]\n", "")
	f.Add("cors: &c {allowedOrigins: [*c]}\n", "")
	f.Fuzz(func(t *testing.T, text, listen string) {
		c, err := parse("fuzz.yaml", []byte(text), []string{"CHANGEOVER_HTTP_LISTEN=" + listen})
		if err != nil {
			var faults *Error
			if !errors.As(err, &faults) || len(faults.Faults) == 0 {
				t.Fatalf("not a list of faults: %v", err)
			}
			return
		}
		if c.Auth.Mode != AuthNone || c.HTTP.Listen != listen || len(c.FailoverGroups) == 0 {
			t.Fatalf("accepted: %+v", c)
		}
	})
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"discovery": `auth: {issuer: "https://idp.example/", login: {clientId: console, clientSecret: s, redirectUrl: "https://changeover.example/console/auth/callback"}}`,
		"keys":      `auth: {jwksUrl: "https://idp.example/keys"}`,
		"file":      `auth: {jwksFile: /etc/changeover/keys.json, sameSite: none}`,
	} {
		c, err := parse("changeover.yaml", complete(text+"\n"), nil)
		require.NoError(t, err, name)
		require.Equal(t, AuthJWT, c.Auth.Mode, name)
	}
}
