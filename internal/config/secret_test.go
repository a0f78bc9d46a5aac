package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	c, err := parse("changeover.yaml", complete("database: {url: embedded}\n"), []string{
		"CHANGEOVER_DATABASE_URL_FILE=" + file("url", "postgres://u:hunter2@host/db\n"),
		"CHANGEOVER_DATABASE_LISTEN_URL_FILE=" + file("listen", "postgres://u:hunter3@host/db\r\n"),
		"CHANGEOVER_DATABASE_MIGRATE_URL_FILE=" + file("migrate", "postgres://u:hunter4@host/db"),
		"CHANGEOVER_AUTH_LOGIN_CLIENT_SECRET_FILE=" + file("client", "hunter5\n"),
		"CHANGEOVER_AUTH_LOGIN_STATE_SECRET_FILE=" + file("state", "hunter6hunter6hunter6hunter6hunter6\n"),
	})
	require.NoError(t, err)
	require.Equal(t, Secret("hunter5"), c.Auth.Login.ClientSecret)
	require.Equal(t, Secret("hunter6hunter6hunter6hunter6hunter6"), c.Auth.Login.StateSecret)
	require.Equal(t, Secret("postgres://u:hunter2@host/db"), c.Database.URL)
	require.Equal(t, Secret("postgres://u:hunter3@host/db"), c.Database.ListenURL)
	require.Equal(t, Secret("postgres://u:hunter4@host/db"), c.Database.MigrateURL)
}

func TestFaultsOfSecretFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"missing":       {[]string{"CHANGEOVER_DATABASE_URL_FILE=" + filepath.Join(dir, "none")}, "database.url: cannot be read: open " + dir},
		"empty":         {[]string{"CHANGEOVER_DATABASE_URL_FILE=" + file("empty", "\n\n")}, "database.url: the file is empty (CHANGEOVER_DATABASE_URL_FILE)"},
		"two lines":     {[]string{"CHANGEOVER_DATABASE_URL_FILE=" + file("two", "hunter2\nhunter3\n")}, "database.url: the file holds more than one line"},
		"not a URL":     {[]string{"CHANGEOVER_DATABASE_URL_FILE=" + file("bare", "hunter2")}, "database.url: is not a PostgreSQL URL"},
		"a folder":      {[]string{"CHANGEOVER_DATABASE_URL_FILE=" + dir}, "database.url: cannot be read"},
		"both":          {[]string{"CHANGEOVER_DATABASE_URL_FILE=" + file("both", "postgres://u:hunter2@h/d"), "CHANGEOVER_DATABASE_URL=postgres://u:hunter3@h/d"}, "database.url: CHANGEOVER_DATABASE_URL_FILE is set too; set one of the two (CHANGEOVER_DATABASE_URL)"},
		"not a secret":  {[]string{"CHANGEOVER_HTTP_LISTEN_FILE=" + file("listen", "127.0.0.1:1")}, "CHANGEOVER_HTTP_LISTEN_FILE: no such key in the environment"},
		"no key at all": {[]string{"CHANGEOVER_NONSENSE_FILE=x"}, "CHANGEOVER_NONSENSE_FILE: no such key in the environment"},
	} {
		_, err := parse("changeover.yaml", complete(""), c.env)
		require.ErrorContains(t, err, c.want, name)
		require.NotContains(t, err.Error(), "hunter", name)
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	for secret, want := range map[Secret]string{
		"":       "",
		Embedded: Embedded,
		"postgres://service@db.internal/changeover":                               "postgres://service@db.internal/changeover",
		"postgresql://service:hunter2@a:1,b:2/changeover?sslmode=require":         "postgresql://service:xxxxx@a:1,b:2/changeover?sslmode=require",
		"postgres:///db?host=/run/pg&user=u&password=hunter2&sslpassword=hunter2": "postgres:///db?host=%2Frun%2Fpg&password=xxxxx&sslpassword=xxxxx&user=u",
		"postgres://h/db?PASSWORD=hunter2&options=-c%20hunter2":                   "postgres://h/db?PASSWORD=xxxxx&options=xxxxx",
		"postgres://h/db#hunter2":                                                 "postgres://h/db",
		"postgres://u:hun%ter2@h/db":                                              "xxxxx", // malformed
		"postgres:u:hunter2@h/db":                                                 "xxxxx", // opaque
		"user=u password=hunter2":                                                 "xxxxx",
		"hunter2":                                                                 "xxxxx",
	} {
		require.Equal(t, want, secret.Redacted())
	}
}

// Leaks by habit: somebody prints, logs or marshals a configuration, or a value that holds one.
func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Database.URL = "postgres://service:hunter2@db.internal/changeover"
	c.Database.MigrateURL = "owner password=hunter2"
	c.Database.ListenURL = "postgres://service@db.internal/changeover?password=hunter2"
	c.FailoverGroups = []FailoverGroup{{Name: "main", Instances: []Instance{{Region: "us-east-1"}}}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c, *c, c.Database, &c.Database, c.Database.URL, []Secret{c.Database.URL}, map[string]any{"c": c}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	fmt.Fprintln(&out, c, *c, c.Database, fmt.Errorf("start: %v", c.Database.URL))
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		log := slog.New(handler)
		log.Info("started", "configuration", c, "value", *c, "database", c.Database, "url", c.Database.URL)
		log.With("configuration", c).WithGroup("group").Info("again", "secrets", []Secret{c.Database.URL})
	}
	asJSON, err := json.Marshal(c)
	require.NoError(t, err)
	out.Write(asJSON)
	asYAML, err := yaml.Marshal(c)
	require.NoError(t, err)
	out.Write(asYAML)
	for _, secret := range []string{"hunter2", fmt.Sprintf("%x", "hunter2")} {
		if _, after, found := strings.Cut(out.String(), secret); found {
			t.Errorf("a password was printed, before %.80s", after)
		}
	}
	require.Contains(t, out.String(), "db.internal", "what is no secret is shown")
}

// The dump at the start names every key as the file does.
func TestLogValue(t *testing.T) {
	t.Parallel()
	c, err := parse("changeover.yaml", complete("database: {url: \"postgres://u:hunter2@h/d\"}\npoll: {drainInterval: 7s}\n"), nil)
	require.NoError(t, err)
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("started", "configuration", c)
	var entry struct {
		Configuration struct {
			HTTP     map[string]any
			Database map[string]any
			Poll     map[string]time.Duration
			Groups   map[string]struct {
				Name      string
				Instances map[string]struct{ Region, InstanceID string }
			} `json:"failoverGroups"`
		}
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &entry), out.String())
	require.Equal(t, "127.0.0.1:8080", entry.Configuration.HTTP["listen"])
	require.Equal(t, "postgres://u:xxxxx@h/d", entry.Configuration.Database["url"])
	require.Equal(t, 7*time.Second, entry.Configuration.Poll["drainInterval"])
	require.Equal(t, "us-west-2", entry.Configuration.Groups["0"].Instances["1"].Region)
}
