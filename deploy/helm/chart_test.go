// Package helm tests the Helm chart. What needs helm itself runs by `make test/helm`, which names the program in HELM.
package helm

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"changeover/internal/config"
)

var update = flag.Bool("update", false, "write the golden files again")

// helm calls the pinned helm. Without a cluster it has to be told of which version to render for.
func helm(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	program := os.Getenv("HELM")
	if program == "" {
		t.Skip("needs helm: make test/helm")
	}
	command := exec.CommandContext(t.Context(), program, append(args, "--kube-version=1.33.0")...)
	var out, complaint strings.Builder
	command.Stdout, command.Stderr = &out, &complaint
	if err = command.Run(); err != nil {
		err = errors.New(out.String() + complaint.String())
	}
	return out.String(), err
}

var examples = map[string]string{
	"us-east-1":  filepath.Join("changeover", "examples", "us-east-1.yaml"),
	"us-west-2":  filepath.Join("changeover", "examples", "us-west-2.yaml"),
	"everything": filepath.Join("testdata", "everything.yaml"),
}

// render gives the text of the objects and the objects by KIND/NAME.
func render(t *testing.T, args ...string) (string, map[string]object) {
	t.Helper()
	text, err := helm(t, append([]string{"template", "changeover", "changeover", "--namespace=voice"}, args...)...)
	require.NoError(t, err)
	objects := map[string]object{}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return text, objects
		}
		require.NoError(t, err)
		if o == nil {
			continue
		}
		name := o.at("kind").(string) + "/" + o.at("metadata", "name").(string)
		require.NotContains(t, objects, name)
		objects[name] = o
	}
}

type object map[string]any

// at follows keys, and into the only element of a list.
func (o object) at(path ...string) any {
	var v any = o
	for _, key := range path {
		if list, ok := v.([]any); ok && len(list) == 1 {
			v = list[0]
		}
		switch m := v.(type) {
		case object:
			v = m[key]
		case map[string]any:
			v = m[key]
		default:
			return nil
		}
	}
	return v
}

func TestLint(t *testing.T) {
	t.Parallel()
	for name, values := range examples {
		_, err := helm(t, "lint", "changeover", "--strict", "--values="+values)
		require.NoError(t, err, name)
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, values := range examples {
		text, _ := render(t, "--values="+values)
		golden := filepath.Join("testdata", name+".golden.yaml")
		if *update {
			require.NoError(t, os.WriteFile(golden, []byte(text), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), text, "%s; if that is meant: make test/helm HELM_FLAGS=-update, and look at the difference", golden)
	}
}

// TestConfigurationIsAccepted by the service itself, with the environment of its container, in the service and in the migration.
func TestConfigurationIsAccepted(t *testing.T) {
	t.Parallel()
	for name, values := range examples {
		_, objects := render(t, "--values="+values)
		secret := filepath.Join(t.TempDir(), "url")
		require.NoError(t, os.WriteFile(secret, []byte("postgres://changeover@db/changeover\n"), 0o600))
		for workload, from := range map[string]string{"Deployment/changeover": "Secret/changeover", "Job/changeover-migrate": "Secret/changeover-migrate"} {
			var env []string
			for _, v := range objects[workload].at("spec", "template", "spec", "containers", "env").([]any) {
				variable := v.(object)
				value := variable["value"].(string)
				if strings.HasPrefix(value, "/run/secrets/changeover/") {
					value = secret
				}
				env = append(env, variable["name"].(string)+"="+value)
			}
			file := filepath.Join(t.TempDir(), "changeover.yaml")
			require.NoError(t, os.WriteFile(file, []byte(objects[from].at("stringData", "changeover.yaml").(string)), 0o600))
			c, err := config.Load(file, env)
			require.NoError(t, err, "%s, %s", name, workload)
			require.Equal(t, "0.0.0.0:8080", c.HTTP.Listen)
			require.False(t, c.Database.Migrate, "the migration is the Job's")
			require.Equal(t, strings.HasPrefix(workload, "Job/"), c.Database.MigrateURL != "", "only the migration knows the owner of the tables")
		}
	}
}

// TestOwnerOfTheTables: the secret of the owner is mounted into the migration and nowhere else.
func TestOwnerOfTheTables(t *testing.T) {
	t.Parallel()
	_, objects := render(t, "--values="+examples["us-east-1"])
	const owner = "changeover-database-owner"
	seen := 0
	for name, o := range objects {
		text, err := json.Marshal(o)
		require.NoError(t, err)
		if strings.Contains(string(text), owner) {
			seen++
			require.Equal(t, "Job/changeover-migrate", name)
		}
	}
	require.Equal(t, 1, seen)
}

// TestRestricted: every pod keeps to what the Pod Security Standard "restricted" asks for, and to a read-only root.
func TestRestricted(t *testing.T) {
	t.Parallel()
	for name, values := range examples {
		_, objects := render(t, "--values="+values)
		for object, path := range map[string][]string{
			"Deployment/changeover": {"spec", "template", "spec"}, "Job/changeover-migrate": {"spec", "template", "spec"}, "Pod/changeover-check": {"spec"},
		} {
			at := func(keys ...string) any { return objects[object].at(append(append([]string{}, path...), keys...)...) }
			what := name + ", " + object
			require.Equal(t, true, at("securityContext", "runAsNonRoot"), what)
			require.Equal(t, "RuntimeDefault", at("securityContext", "seccompProfile", "type"), what)
			require.Equal(t, false, at("automountServiceAccountToken"), what)
			require.Equal(t, false, at("containers", "securityContext", "allowPrivilegeEscalation"), what)
			require.Equal(t, true, at("containers", "securityContext", "readOnlyRootFilesystem"), what)
			require.Equal(t, []any{"ALL"}, at("containers", "securityContext", "capabilities", "drop"), what)
		}
	}
}

func TestGracePeriod(t *testing.T) {
	t.Parallel()
	for drain, seconds := range map[string]int{"0s": 45, "500ms": 46, "20s": 65, "1m30s": 135, "1m30.5s": 136, "1h": 3645} {
		_, objects := render(t, "--values="+examples["us-east-1"], "--set=config.stream.drain="+drain)
		require.Equal(t, seconds, objects["Deployment/changeover"].at("spec", "template", "spec", "terminationGracePeriodSeconds"), drain)
	}
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	for limit, bytes := range map[string]string{
		"2Gi": "1932735283", "1.5Gi": "1449551462", "512Mi": "483183820", "1G": "900000000", "4000k": "3600000", "1073741824": "966367641", "": "",
	} {
		_, objects := render(t, "--values="+examples["us-east-1"], "--set-string=resources.limits.memory="+limit)
		variable := ""
		for _, v := range objects["Deployment/changeover"].at("spec", "template", "spec", "containers", "env").([]any) {
			if v.(object)["name"] == "GOMEMLIMIT" {
				variable = v.(object)["value"].(string)
			}
		}
		require.Equal(t, bytes, variable, limit)
	}
}

// TestPodsFollowTheConfiguration: another configuration makes other pods, because it is read at the start only.
func TestPodsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	hash := func(args ...string) any {
		_, objects := render(t, append(args, "--values="+examples["us-east-1"])...)
		return objects["Deployment/changeover"].at("spec", "template", "metadata", "annotations", "changeover/config")
	}
	require.NotEmpty(t, hash())
	require.Equal(t, hash(), hash("--set=replicas=5"))
	require.NotEqual(t, hash(), hash("--set=config.failover.pace=5"))
}

// TestRulesAreFresh needs no helm.
func TestRulesAreFresh(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile(filepath.Join("..", "prometheus", "rules.yaml"))
	require.NoError(t, err)
	have, err := os.ReadFile(filepath.Join("changeover", "files", "rules.yaml"))
	require.NoError(t, err)
	require.Equal(t, string(want), string(have), "stale; run make generate")
}

// TestPrometheusRule holds the alerts of deploy/prometheus, to the letter.
func TestPrometheusRule(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "prometheus", "rules.yaml"))
	require.NoError(t, err)
	var want object
	require.NoError(t, yaml.Unmarshal(text, &want))
	require.NotEmpty(t, want["groups"])
	_, objects := render(t, "--values="+examples["us-east-1"], "--set=metrics.prometheusRule.enabled=true,metrics.prometheusRule.labels.release=prometheus")
	rule := objects["PrometheusRule/changeover"]
	require.Equal(t, want["groups"], rule.at("spec", "groups"))
	require.Equal(t, "prometheus", rule.at("metadata", "labels", "release"))
}

// TestBadValues are refused, with a message that names the key.
func TestBadValues(t *testing.T) {
	t.Parallel()
	for set, message := range map[string]string{
		"replica=3":         "'replica' not allowed",
		"replicas=0":        "/replicas",
		"image.repository=": "/image/repository",
		"image.repository=registry/changeover:v1":                 "/image/repository",
		"database.url.secret=":                                    "/database/url/secret",
		"database.url.key=a b":                                    "/database/url/key",
		"config.failoverGroups=null":                              "failoverGroups",
		"config.failoverGroups[0].instances=null":                 "instances",
		"config.auth.issuer=":                                     "config.auth.issuer is required",
		"config.auth.mode=none":                                   "/config/auth/mode",
		"config.stream.drain=20":                                  "/config/stream/drain",
		"config.stream.drian=20s":                                 "'drian' not allowed",
		"config.http.listen=:80":                                  "'listen' not allowed",
		"config.auth.login.clientSecret=hunter2":                  "'clientSecret' not allowed",
		"config.auth.login.clientId=console":                      "login.stateSecret is required",
		"resources.limits.memory=2GB":                             "resources.limits.memory: \"2GB\" is not an amount",
		"config.database.url=postgres://u:p@db/c":                 "'url' not allowed",
		"config.database.migrate=true":                            "'migrate' not allowed",
		"config.http.trustedProxies={}":                           "/config/http/trustedProxies/0",
		"ingress.host=":                                           "/ingress/host",
		"ingress.controller=traefik":                              "/ingress/controller",
		"httpRoute.enabled=true":                                  "/httpRoute",
		"metrics.port=8080":                                       "/metrics/port",
		"serviceAccount.podIdentity=true":                         "set one",
		"serviceAccount.create=false":                             "needs serviceAccount.create",
		"serviceAccount.roleArn=changeover":                       "/serviceAccount/roleArn",
		"autoscaling.enabled=true,autoscaling.maxReplicas=1":      "autoscaling.maxReplicas is less",
		"extraEnv[0].name=CHANGEOVER_AUTH_MODE":                   "/extraEnv/0/name",
		"secretFiles[0].name=database,secretFiles[0].secret=mine": "/secretFiles/0/name",
	} {
		_, err := helm(t, "template", "changeover", "changeover", "--values="+examples["us-east-1"], "--set="+set)
		require.Error(t, err, set)
		require.Contains(t, err.Error(), message, set)
	}
	_, err := helm(t, "template", "changeover", "changeover", "--values="+examples["us-east-1"], "--set-json=config.http.trustedProxies=[]")
	require.ErrorContains(t, err, "config.http.trustedProxies is required with ingress")
}

// decidedByTheChart are keys that values must not have: the chart sets them, or takes them from secrets.
var decidedByTheChart = map[string]bool{
	"http.listen": true, "http.metricsListen": true, "http.tlsCert": true, "http.tlsKey": true,
	"database.url": true, "database.migrateUrl": true, "database.listenUrl": true, "database.migrate": true, "database.dataDir": true,
	"auth.login.clientSecret": true, "auth.login.stateSecret": true,
}

// TestSchemaHasEveryKey of the service's configuration, and no other. It needs no helm.
func TestSchemaHasEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("changeover", "values.schema.json"))
	require.NoError(t, err)
	var schema struct {
		Defs struct {
			Config schemaNode `json:"config"`
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(text, &schema))
	compareKeys(t, schema.Defs.Config, reflect.TypeFor[config.Config](), "")
}

type schemaNode struct {
	Properties map[string]schemaNode `json:"properties"`
	Additional *bool                 `json:"additionalProperties"`
	Items      *schemaNode           `json:"items"`
}

func compareKeys(t *testing.T, node schemaNode, of reflect.Type, path string) {
	t.Helper()
	require.True(t, node.Additional != nil && !*node.Additional, "%s takes any key", path)
	var keys []string
	for field := range of.Fields() {
		key := field.Tag.Get("yaml")
		child, what := strings.TrimPrefix(path+"."+key, "."), field.Type
		if decidedByTheChart[child] {
			continue
		}
		keys = append(keys, key)
		property, ok := node.Properties[key]
		require.True(t, ok, "values.schema.json lacks config.%s", child)
		if what.Kind() == reflect.Slice {
			require.NotNil(t, property.Items, child)
			property, what = *property.Items, what.Elem()
		}
		if what.Kind() == reflect.Struct {
			compareKeys(t, property, what, child)
		}
	}
	require.Len(t, node.Properties, len(keys), "config.%s has other keys than the service: %v", path, node.Properties)
}
