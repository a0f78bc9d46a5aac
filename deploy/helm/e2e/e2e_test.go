// Package e2e installs the chart on a real Kubernetes, where a kubelet runs the service in containers, with a real PostgreSQL and a
// simulated Amazon Connect: `make e2e-kubernetes`.
package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	changeover "changeover/clients/go"
	"changeover/clients/go/rest"
	"changeover/internal/connectsim"
)

// object is what the tests read of Kubernetes' objects, whatever their kind.
type object struct {
	Kind     string
	Metadata struct {
		Name, ResourceVersion string
		Generation            int
		Labels                map[string]string
	}
	Spec struct {
		Replicas  int
		ClusterIP string
	}
	Status struct {
		Replicas, AvailableReplicas int
		Phase, PodIP                string
		Conditions                  []struct{ Type, Status, Reason, Message string }
		ContainerStatuses           []struct {
			Ready        bool
			RestartCount int
			State        struct{ Terminated *struct{ ExitCode int } }
		}
	}
}

type list struct{ Items []object }

// revision orders what happened, over all objects: it is etcd's.
func (o object) revision(t *testing.T) int {
	n, err := strconv.Atoi(o.Metadata.ResourceVersion)
	require.NoError(t, err)
	return n
}

func (o object) is(condition string) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == condition {
			return c.Status == "True"
		}
	}
	return false
}

// installation is the chart in its cluster, with what it needs around it.
type installation struct {
	*cluster
	sim    *connectsim.Sim
	key    *ecdsa.PrivateKey // of the identity provider
	client *changeover.Client
	https  *http.Client
	url    string
}

func TestChart(t *testing.T) {
	i := &installation{cluster: newCluster(t)}
	owner, service := i.database(t)
	i.outside(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"the namespace is restricted", i.restricted},
		{"bad values are refused", i.badValues},
		{"a migration that fails leaves nothing but itself", func(t *testing.T) { i.failedInstall(t, owner, service) }},
		{"install", i.install},
		{"helm test", i.helmTest},
		{"upgrade under streams", i.upgrade},
		{"an upgrade that the service refuses changes nothing", i.failedUpgrade},
		{"rollback", i.rollback},
		{"one pod is evicted at a time", i.evictions},
		{"autoscaling by streams", i.autoscaling},
		{"what the examples render is accepted", i.examples},
		{"uninstall", i.uninstall},
	} {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

// outside is what the pods call, where the values say: Amazon Connect, and of the identity provider what it says of itself (its keys are in
// a secret).
func (i *installation) outside(t *testing.T) {
	i.sim = connectsim.New(connectsim.Config{Agents: 20, MoveDelay: time.Second})
	l, err := net.Listen("tcp", host+":443")
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/", i.sim.Handler())
	mux.HandleFunc("GET /idp/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { i.sim.Run(ctx) })
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { cancel(); server.Close(); wg.Wait() })
}

const issuer = "http://" + host + ":443/idp"

// restricted makes the namespace, and sees that it refuses what is not restricted: otherwise it would prove nothing.
func (i *installation) restricted(t *testing.T) {
	i.run(t, "", "kubectl", "create", "namespace", "voice")
	i.run(t, "", "kubectl", "label", "namespace", "voice", "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/enforce-version=latest")
	_, err := i.try("", "kubectl", "--namespace=voice", "run", "lax", "--image=registry.example.com/changeover:1.0.0")
	require.ErrorContains(t, err, `violates PodSecurity "restricted`)
	for _, crd := range []string{"servicemonitors", "prometheusrules", "httproutes"} {
		files, err := filepath.Glob(filepath.Join(i.cache, "kubernetes", "crds", "*_"+crd+".yaml"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		i.run(t, "", "kubectl", "create", "--filename="+files[0])
		i.eventually(t, crd+" are served", func() bool {
			_, err := i.try("", "kubectl", "wait", "--for=condition=Established", "--timeout=1s", "--filename="+files[0])
			return err == nil
		})
	}
}

func (i *installation) helm(args ...string) (string, error) {
	return i.try("", append([]string{"helm", "--namespace=voice"}, args...)...)
}

// deploy installs or upgrades and waits until all of it is ready.
func (i *installation) deploy(command string, args ...string) error {
	_, err := i.helm(append([]string{command, "changeover", filepath.Join("..", "changeover"), "--values=values.yaml", "--wait", "--timeout=100s"}, args...)...)
	return err
}

// badValues are refused before anything is sent, with a message that says what to do.
func (i *installation) badValues(t *testing.T) {
	for flag, message := range map[string]string{
		"--set=image.repository=":                                    "/image/repository",
		"--set=database.url.secret=":                                 "/database/url/secret",
		"--set=config.stream.drain=20":                               "/config/stream/drain",
		"--set=config.auth.login.clientSecret=other":                 "'clientSecret' not allowed",
		"--set-json=config.http.trustedProxies=[]":                   "config.http.trustedProxies is required with ingress or httpRoute: the networks from which the proxy calls",
		"--set=login.clientSecret.secret=,login.stateSecret.secret=": "login.stateSecret is required",
		"--set=serviceAccount.podIdentity=true":                      "two ways to the same role; set one",
	} {
		require.ErrorContains(t, i.deploy("install", flag), message)
	}
	require.Empty(t, get[list](t, i.cluster, "jobs,deployments,services,secrets").Items)
}

// secrets are what somebody made before the chart came.
func (i *installation) secrets(t *testing.T, owner, service string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "changeover"}, DNSNames: []string{"changeover.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	i.write(t, "tls.crt", certificate)
	i.write(t, "tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(certificate))
	i.https = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "changeover.example.com"}, DisableKeepAlives: true}}

	i.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	require.NoError(t, err)
	i.write(t, "jwks.json", keys)

	secret := func(args ...string) {
		i.run(t, "", append([]string{"kubectl", "--namespace=voice", "create", "secret"}, args...)...)
	}
	secret("tls", "certificate", "--cert="+i.path("tls.crt"), "--key="+i.path("tls.key"))
	secret("generic", "keys", "--from-file="+i.path("jwks.json"))
	secret("generic", "console", "--from-literal=client-secret=hunter2", "--from-literal=state=hunter2hunter2hunter2hunter2hunter2")
	secret("generic", "database", "--from-literal=owner="+owner, "--from-literal=service="+service)
}

func (i *installation) token(context.Context) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "1"}}, nil)
	if err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: issuer, Audience: jwt.Audience{"changeover"}, Subject: "operator",
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
	}).Claims(map[string]any{"roles": []string{"operator"}}).Serialize()
}

// failedInstall has the owner's password wrong: helm says that the migration failed, its Job is there with its log, and there is no service.
func (i *installation) failedInstall(t *testing.T, owner, service string) {
	i.secrets(t, strings.Replace(owner, "owner-1", "owner-2", 1), service)
	err := i.deploy("install")
	require.ErrorContains(t, err, "pre-install")
	require.ErrorContains(t, err, "changeover-migrate")
	log := i.run(t, "", "kubectl", "--namespace=voice", "logs", "job/changeover-migrate")
	require.Contains(t, log, "password authentication failed")
	require.NotContains(t, log, "owner-2")
	require.Empty(t, get[list](t, i.cluster, "deployments,services,poddisruptionbudgets,ingresses").Items)

	i.run(t, "", "kubectl", "--namespace=voice", "delete", "secret", "database")
	i.run(t, "", "kubectl", "--namespace=voice", "create", "secret", "generic", "database", "--from-literal=owner="+owner, "--from-literal=service="+service)
}

// install puts right what failed, as its own documentation says: by `helm upgrade --install`.
func (i *installation) install(t *testing.T) {
	jobs, deployments := i.watch(t, "jobs"), i.watch(t, "deployments")
	require.NoError(t, i.deploy("upgrade", "--install"))
	i.migratedBefore(t, jobs, deployments, 1)

	// The apiserver took every field of every object: what it does not know it would have dropped in silence.
	manifest, err := i.helm("get", "manifest", "changeover")
	require.NoError(t, err)
	i.run(t, manifest, "kubectl", "--namespace=voice", "apply", "--dry-run=server", "--validate=strict", "--filename=-")
	for _, kind := range []string{"deployment", "service", "ingress", "httproute", "networkpolicy", "poddisruptionbudget", "serviceaccount", "servicemonitor", "prometheusrule"} {
		i.run(t, "", "kubectl", "--namespace=voice", "get", kind, "changeover")
	}
	require.Empty(t, get[list](t, i.cluster, "jobs").Items, "a migration that went well is tidied away")

	i.url = "https://" + get[object](t, i.cluster, "service", "changeover").Spec.ClusterIP
	i.client, err = changeover.New(changeover.Options{Endpoints: []string{i.url}, Token: i.token, HTTPClient: i.https, Heartbeat: 2 * time.Second})
	require.NoError(t, err)
	t.Logf("memory limit of the program: %s", i.run(t, "", "kubectl", "--namespace=voice", "get", "deployment", "changeover",
		"--output=jsonpath={.spec.template.spec.containers[0].env[?(@.name=='GOMEMLIMIT')].value}"))
	i.works(t, "us-east-1")
}

// works sees through the Service that every agent's active Region is that one, and that nobody is let in without a token.
func (i *installation) works(t *testing.T, region string) {
	t.Helper()
	answer, err := i.https.Get(i.url + "/v1/summary")
	require.NoError(t, err)
	answer.Body.Close()
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	i.eventually(t, "all agents work in "+region, func() bool {
		there := 0
		for _, agent := range i.sim.Agents() {
			answer, err := i.client.REST().GetAgentWithResponse(t.Context(), agent.ID)
			if err != nil || answer.JSON200 == nil {
				return false
			}
			if r := answer.JSON200.ActiveRegion; r != nil && *r == region {
				there++
			}
		}
		return there == len(i.sim.Agents())
	})
}

// migratedBefore holds that the migration was complete before the Deployment's generation was written.
func (i *installation) migratedBefore(t *testing.T, jobs, deployments func() []change, generation int) {
	t.Helper()
	complete, written := 0, 0
	i.eventually(t, "the watches have told", func() bool {
		complete, written = 0, 0
		for _, c := range jobs() {
			if complete == 0 && c.Object.is("Complete") {
				complete = c.Object.revision(t)
			}
		}
		for _, c := range deployments() {
			if written == 0 && c.Object.Metadata.Generation == generation {
				written = c.Object.revision(t)
			}
		}
		return complete > 0 && written > 0
	})
	require.Less(t, complete, written, "the migration is the first")
}

// helmTest asks from inside of the cluster, by the Service's name.
func (i *installation) helmTest(t *testing.T) {
	out, err := i.helm("test", "changeover", "--logs", "--timeout=100s")
	require.NoError(t, err)
	t.Log(out)
	require.Regexp(t, `service +ok +ready at https://changeover\.voice:443`, out)
	require.Regexp(t, `database +ok`, out)
	require.Regexp(t, `TLS certificate +ok`, out)
	require.Equal(t, 2, strings.Count(out, "instance  "), out)
	require.NotContains(t, out, "FAULT")

	// It fails when the service is away.
	i.run(t, "", "kubectl", "--namespace=voice", "scale", "deployment/changeover", "--replicas=0")
	i.run(t, "", "kubectl", "--namespace=voice", "wait", "pods", "--selector=app.kubernetes.io/component=server", "--for=delete", "--timeout=60s")
	_, err = i.helm("test", "changeover", "--timeout=100s")
	require.ErrorContains(t, err, "changeover-check")
	require.Regexp(t, `service +FAULT`, i.run(t, "", "kubectl", "--namespace=voice", "logs", "changeover-check"))
	i.run(t, "", "kubectl", "--namespace=voice", "scale", "deployment/changeover", "--replicas=2")
	i.run(t, "", "kubectl", "--namespace=voice", "rollout", "status", "deployment/changeover", "--timeout=60s")
}

// follow collects who was told of a completed failover to a Region, by one stream of all agents.
func (i *installation) follow(t *testing.T) (completed func(region string) map[string]int) {
	var mu sync.Mutex
	told := map[string]map[string]int{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for event, err := range i.client.Follow(ctx, changeover.Subscription{}) {
			if err != nil {
				return
			}
			if event.Type != changeover.FailoverCompleted {
				continue
			}
			if data, err := changeover.Data[rest.FailoverCompletedData](event); err == nil {
				mu.Lock()
				if told[data.ActiveRegion] == nil {
					told[data.ActiveRegion] = map[string]int{}
				}
				told[data.ActiveRegion][event.AgentID]++
				mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func(region string) map[string]int {
		mu.Lock()
		defer mu.Unlock()
		copied := map[string]int{}
		for agent, n := range told[region] {
			copied[agent] = n
		}
		return copied
	}
}

// replaced holds, over a change of all pods: never fewer than the replicas were available, nor more than one more there; each pod that went
// ended in good order; a shift in the middle of it was told of every agent, once.
func (i *installation) replaced(t *testing.T, to string, by func() error) {
	completed := i.follow(t)
	deployments, pods := i.watch(t, "deployments"), i.watch(t, "pods")
	i.eventually(t, "the watches have begun", func() bool { return len(deployments()) > 0 && len(pods()) >= 2 })
	before := map[string]bool{}
	for _, p := range get[list](t, i.cluster, "pods", "--selector=app.kubernetes.io/component=server").Items {
		before[p.Metadata.Name] = true
	}
	require.Len(t, before, 2)
	result := make(chan error, 1)
	go func() { result <- by() }()
	i.eventually(t, "a new pod has begun", func() bool {
		return slices.ContainsFunc(pods(), func(c change) bool {
			return c.Object.Metadata.Labels["app.kubernetes.io/component"] == "server" && !before[c.Object.Metadata.Name]
		})
	})
	require.NoError(t, i.sim.Shift("default", to, 100))
	require.NoError(t, <-result)

	agents := i.sim.Agents()
	i.eventually(t, "every agent's failover was told", func() bool { return len(completed(to)) == len(agents) })
	for agent, times := range completed(to) {
		require.Equal(t, 1, times, agent)
	}
	gone := map[string]bool{}
	i.eventually(t, "the pods from before are gone", func() bool {
		for _, c := range pods() {
			if name := c.Object.Metadata.Name; before[name] && c.Type == "DELETED" {
				gone[name] = true
			}
		}
		return len(gone) == len(before)
	})
	ended := map[string]bool{}
	for _, c := range pods() {
		name := c.Object.Metadata.Name
		for _, s := range c.Object.Status.ContainerStatuses {
			if before[name] && s.State.Terminated != nil {
				require.Zero(t, s.State.Terminated.ExitCode, name)
				ended[name] = true
			}
			require.Zero(t, s.RestartCount, name)
		}
	}
	require.Equal(t, gone, ended)
	for _, c := range deployments() {
		require.GreaterOrEqual(t, c.Object.Status.AvailableReplicas, 2)
		require.LessOrEqual(t, c.Object.Status.Replicas, 3)
	}
}

func (i *installation) upgrade(t *testing.T) {
	jobs, deployments := i.watch(t, "jobs"), i.watch(t, "deployments")
	generation := get[object](t, i.cluster, "deployment", "changeover").Metadata.Generation
	i.replaced(t, "us-west-2", func() error { return i.deploy("upgrade", "--set=image.tag=1.1.0,config.stream.drain=2s") })
	i.migratedBefore(t, jobs, deployments, generation+1)
	i.works(t, "us-west-2")
	require.Contains(t, i.run(t, "", "kubectl", "--namespace=voice", "get", "deployment", "changeover", "--output=jsonpath={.spec.template.spec.containers[0].image}"), ":1.1.0")
}

// failedUpgrade has a fault that no schema sees: the migration reads the same configuration, so the pods are left alone.
func (i *installation) failedUpgrade(t *testing.T) {
	before := get[object](t, i.cluster, "deployment", "changeover")
	err := i.deploy("upgrade", "--set=image.tag=1.1.0,config.failoverGroups[0].instances[1].region=us-east-1")
	require.ErrorContains(t, err, "pre-upgrade")
	require.Contains(t, i.run(t, "", "kubectl", "--namespace=voice", "logs", "job/changeover-migrate"), `failoverGroups[0].instances[1].region: "us-east-1" is the Region of the other instance too`)
	require.Equal(t, before.Metadata.Generation, get[object](t, i.cluster, "deployment", "changeover").Metadata.Generation)
	i.works(t, "us-west-2")
}

// rollback goes to the first release that went well, and needs no migration.
func (i *installation) rollback(t *testing.T) {
	jobs := i.watch(t, "jobs")
	i.eventually(t, "the failed Job is told of", func() bool { return len(jobs()) > 0 })
	i.replaced(t, "us-east-1", func() error { _, err := i.helm("rollback", "changeover", "2", "--wait", "--timeout=100s"); return err })
	for _, c := range jobs() {
		require.False(t, c.Object.is("Complete"), "nothing migrated")
	}
	i.works(t, "us-east-1")
	require.Contains(t, i.run(t, "", "kubectl", "--namespace=voice", "get", "deployment", "changeover", "--output=jsonpath={.spec.template.spec.containers[0].image}"), ":1.0.0")
}

// evictions is what happens when nodes are emptied.
func (i *installation) evictions(t *testing.T) {
	pods := get[list](t, i.cluster, "pods", "--selector=app.kubernetes.io/component=server").Items
	require.Len(t, pods, 2)
	evict := func(pod string) error {
		_, err := i.try(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "`+pod+`", "namespace": "voice"}}`,
			"kubectl", "create", "--raw=/api/v1/namespaces/voice/pods/"+pod+"/eviction", "--filename=-")
		return err
	}
	i.eventually(t, "the budget has one", func() bool {
		return i.run(t, "", "kubectl", "--namespace=voice", "get", "poddisruptionbudget", "changeover", "--output=jsonpath={.status.disruptionsAllowed}") == "1"
	})
	require.NoError(t, evict(pods[0].Metadata.Name))
	require.ErrorContains(t, evict(pods[1].Metadata.Name), "disruption budget")
	i.run(t, "", "kubectl", "--namespace=voice", "rollout", "status", "deployment/changeover", "--timeout=60s")
	i.works(t, "us-east-1")
}

// autoscaling is turned on under way, follows the open streams, and an upgrade leaves what it decided.
func (i *installation) autoscaling(t *testing.T) {
	i.adapter(t)
	deployments := i.watch(t, "deployments")
	i.eventually(t, "the watch has begun", func() bool { return len(deployments()) > 0 })
	const on = "--set=autoscaling.enabled=true,autoscaling.maxReplicas=3,autoscaling.streamsPerReplica=4"
	require.NoError(t, i.deploy("upgrade", on))
	for range 12 {
		i.follow(t)
	}
	ready := func() bool {
		return get[object](t, i.cluster, "deployment", "changeover").Status.AvailableReplicas == 3
	}
	i.eventually(t, "there are three replicas", ready)
	require.NoError(t, i.deploy("upgrade", on, "--set=config.failover.pace=100"))
	require.True(t, ready())
	for _, c := range deployments() {
		require.GreaterOrEqual(t, c.Object.Spec.Replicas, 2)
		require.GreaterOrEqual(t, c.Object.Status.AvailableReplicas, 2)
	}
	require.True(t, get[object](t, i.cluster, "horizontalpodautoscaler", "changeover").is("ScalingActive"))
}

// adapter serves the pods' own figures as the API of custom metrics: what the Prometheus adapter does, without a Prometheus.
func (i *installation) adapter(t *testing.T) {
	const group, metric = "/apis/custom.metrics.k8s.io/v1beta2", "changeover_stream_connections"
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+group, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "custom.metrics.k8s.io/v1beta2", "resources": []any{
			map[string]any{"name": "pods/" + metric, "namespaced": true, "kind": "MetricValueList", "verbs": []string{"get"}},
		}})
	})
	mux.HandleFunc("GET "+group+"/namespaces/voice/pods/{all}/{metric}", func(w http.ResponseWriter, r *http.Request) {
		text, err := i.try("", "kubectl", "--namespace=voice", "get", "pods", "--selector="+r.FormValue("labelSelector"), "--output=json")
		var pods list
		if err == nil {
			err = json.Unmarshal([]byte(text), &pods)
		}
		if err != nil || r.PathValue("metric") != metric {
			http.Error(w, r.URL.String()+" cannot be told: "+fmt.Sprint(err), http.StatusInternalServerError)
			return
		}
		items := []any{}
		for _, pod := range pods.Items {
			if streams, ok := scrape(pod.Status.PodIP, metric); ok {
				items = append(items, map[string]any{
					"describedObject": map[string]any{"kind": "Pod", "namespace": "voice", "name": pod.Metadata.Name, "apiVersion": "v1"},
					"metric":          map[string]any{"name": metric}, "timestamp": time.Now().UTC().Format(time.RFC3339), "value": strconv.Itoa(streams),
				})
			}
		}
		answer(w, map[string]any{"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": map[string]any{}, "items": items})
	})
	l, err := net.Listen("tcp", host+":6444")
	require.NoError(t, err)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.ServeTLS(l, i.path("tls.crt"), i.path("tls.key")) })
	t.Cleanup(func() {
		_, err := i.try("", "kubectl", "delete", "apiservice", "v1beta2.custom.metrics.k8s.io")
		assert.NoError(t, err)
		server.Close()
		wg.Wait()
	})
	i.run(t, `
apiVersion: v1
kind: Service
metadata: {name: adapter, namespace: default}
spec: {ports: [{port: 443, targetPort: 6444}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: adapter, namespace: default, labels: {kubernetes.io/service-name: adapter}}
addressType: IPv4
ports: [{port: 6444}]
endpoints: [{addresses: [`+host+`]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta2.custom.metrics.k8s.io}
spec:
  service: {name: adapter, namespace: default}
  group: custom.metrics.k8s.io
  version: v1beta2
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
`, "kubectl", "apply", "--filename=-")
	i.run(t, "", "kubectl", "wait", "--for=condition=Available", "apiservice/v1beta2.custom.metrics.k8s.io", "--timeout=60s")
}

// scrape reads a gauge of a pod, the sum over its labels.
func scrape(ip, metric string) (sum int, ok bool) {
	client := http.Client{Timeout: 2 * time.Second}
	answer, err := client.Get("http://" + net.JoinHostPort(ip, "9090") + "/metrics")
	if err != nil {
		return 0, false
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name, _, _ = strings.Cut(name, "{"); name != metric {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, false
		}
		sum, ok = sum+int(n), true
	}
	return sum, ok
}

// examples are not installed, and yet looked at by everything that looks at objects before they are stored.
func (i *installation) examples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "testdata", "*.golden.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 3)
	i.run(t, "", "kubectl", "create", "namespace", "examples")
	i.run(t, "", "kubectl", "label", "namespace", "examples", "pod-security.kubernetes.io/enforce=restricted")
	for _, account := range []string{"changeover", "changeover-pods"} { // pods are not looked at without
		i.run(t, "", "kubectl", "--namespace=examples", "create", "serviceaccount", account)
	}
	for _, file := range files {
		out := i.run(t, "", "kubectl", "--namespace=examples", "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename="+file)
		require.NotContains(t, out, "Warning", file) // so would pods be told that are not restricted
	}
}

// uninstall leaves what the chart did not bring, and of hooks what helm leaves: the last check. The migration that
// failed went with the next one that did not.
func (i *installation) uninstall(t *testing.T) {
	_, err := i.helm("uninstall", "changeover", "--wait", "--timeout=100s")
	require.NoError(t, err)
	i.run(t, "", "kubectl", "--namespace=voice", "wait", "pods", "--selector=app.kubernetes.io/component=server", "--for=delete", "--timeout=60s")
	var left []string
	for _, o := range get[list](t, i.cluster, "deployments,services,ingresses,httproutes,networkpolicies,poddisruptionbudgets,servicemonitors,prometheusrules,secrets,jobs,pods").Items {
		left = append(left, o.Kind+"/"+o.Metadata.Name)
	}
	require.ElementsMatch(t, []string{"Secret/certificate", "Secret/keys", "Secret/console", "Secret/database", "Pod/changeover-check"}, left)
}
