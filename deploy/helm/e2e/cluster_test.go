package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/postgres"
)

// host is the machine's address in the network of its own that the cluster has: the node's, and where PostgreSQL and Amazon Connect are.
const host = "10.250.0.1"

// patience is for what takes seconds on an idle machine.
const patience = 2 * time.Minute

// cluster is a Kubernetes of one node, made of its released programs: etcd, apiserver, controllers, scheduler, kube-proxy, and a kubelet that
// runs containers. It lives in the network, mount and process namespaces of the test, and ends with it.
type cluster struct {
	dir   string // of everything that is written
	cache string // .cache of the project
}

func newCluster(t *testing.T) *cluster {
	cache := os.Getenv("E2E_KUBERNETES")
	if cache == "" {
		t.Skip("needs a cluster: make e2e-kubernetes")
	}
	require.Equal(t, 1, os.Getpid(), "this is not a process namespace of its own: make e2e-kubernetes")
	dir, err := os.MkdirTemp("", "changeover-kubernetes-") //nolint:usetesting // containers of a test that failed may hold it, which TempDir would report instead
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) // PostgreSQL's user has to pass
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("PATH", strings.Join([]string{filepath.Join(cache, "kubernetes", "bin"), filepath.Join(cache, "bin"), os.Getenv("PATH"), "/usr/sbin", "/sbin"}, ":"))
	c := &cluster{dir: dir, cache: cache}
	t.Setenv("KUBECONFIG", c.path("kubeconfig"))
	for _, name := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
		t.Setenv(name, dir)
	}

	// Programs have places of which they cannot be talked out; here they are empty, and nothing of the machine's.
	for _, place := range []string{"/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"} {
		require.NoError(t, os.MkdirAll(place, 0o755))
		require.NoError(t, syscall.Mount("tmpfs", place, "tmpfs", 0, ""))
	}
	for _, command := range []string{
		"ip link set lo up",
		"ip link add e2e0 type veth peer name e2e1", "ip link set e2e0 up", "ip link set e2e1 up",
		"ip addr add " + host + "/24 dev e2e0", "ip route add default dev e2e0",
		"sysctl -qw net.ipv4.ip_forward=1",
	} {
		c.run(t, "", strings.Fields(command)...)
	}
	c.control(t)
	c.node(t)
	t.Cleanup(func() {
		if t.Failed() {
			c.explain(t)
		}
		// Containers that are killed leave their control groups on the machine; those that a kubelet ends do not.
		_, _ = c.try("", "kubectl", "delete", "namespace", "voice", "--timeout=60s")
	})
	return c
}

// control starts the control plane.
func (c *cluster) control(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	c.write(t, "accounts.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	c.write(t, "tokens.csv", []byte("administrator,administrator,administrator,system:masters\n"))
	c.write(t, "kubeconfig", []byte(`apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "https://`+host+`:6443", insecure-skip-tls-verify: true}}]
users: [{name: administrator, user: {token: administrator}}]
contexts: [{name: here, context: {cluster: here, user: administrator}}]
current-context: here
`))
	accounts, kubeconfig := c.path("accounts.key"), "--kubeconfig="+c.path("kubeconfig")
	c.start(t, "etcd", "--data-dir", c.path("etcd"), "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync")
	c.start(t, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address="+host, "--cert-dir="+c.path("certificates"),
		"--service-account-key-file="+accounts, "--service-account-signing-key-file="+accounts, "--service-account-issuer=https://kubernetes.default.svc",
		"--token-auth-file="+c.path("tokens.csv"), "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
		"--endpoint-reconciler-type=none", "--kubelet-preferred-address-types=InternalIP")
	c.eventually(t, "the apiserver is ready", func() bool { _, err := c.try("", "kubectl", "get", "--raw=/readyz"); return err == nil })
	c.start(t, "kube-controller-manager", kubeconfig, "--service-account-private-key-file="+accounts, "--leader-elect=false", "--secure-port=0",
		"--horizontal-pod-autoscaler-sync-period=2s")
	c.start(t, "kube-scheduler", kubeconfig, "--leader-elect=false", "--secure-port=0")
}

// node starts what a node has, and loads the images of two releases, which are one program.
func (c *cluster) node(t *testing.T) {
	c.write(t, "networks/10.conflist", []byte(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
	"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`))
	c.write(t, "containerd.toml", []byte(`version = 3
root = "`+c.path("containerd")+`"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "native"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "pause:e2e"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "`+c.path("networks")+`"
`))
	c.write(t, "kubelet.yaml", []byte(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false # machines that have nothing newer
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDNS: [`+host+`]
clusterDomain: cluster.local
resolvConf: ""
evictionHard: {memory.available: 1Mi, nodefs.available: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
`))
	c.write(t, "Corefile", []byte(".:53 {\n bind "+host+"\n errors\n kubernetes cluster.local {\n kubeconfig "+c.path("kubeconfig")+"\n }\n}\n"))

	c.start(t, "containerd", "--config="+c.path("containerd.toml"))
	c.eventually(t, "containerd answers", func() bool { _, err := c.try("", "ctr", "version"); return err == nil })
	c.image(t, "docker.io/library/pause:e2e", filepath.Join(c.cache, "kubernetes", "bin", "pause"), "pause", map[string]any{"Entrypoint": []string{"/pause"}, "User": "65535:65535"})
	for _, release := range []string{"1.0.0", "1.1.0"} {
		c.image(t, "registry.example.com/changeover:"+release, filepath.Join(c.cache, "kubernetes", "image", "server"), "usr/local/bin/server", dockerfile(t))
	}
	c.start(t, "kubelet", "--kubeconfig="+c.path("kubeconfig"), "--config="+c.path("kubelet.yaml"), "--hostname-override=node", "--node-ip="+host, "--cert-dir="+c.path("kubelet"))
	c.start(t, "kube-proxy", "--kubeconfig="+c.path("kubeconfig"), "--hostname-override=node", "--proxy-mode=iptables", "--cluster-cidr=10.244.0.0/16",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
	c.start(t, "coredns", "-conf="+c.path("Corefile"))
	c.run(t, "", "kubectl", "wait", "--for=create", "node/node", "--timeout=60s")
	c.run(t, "", "kubectl", "wait", "--for=condition=Ready", "node/node", "--timeout=60s")
}

// dockerfile is what the image of the project's Dockerfile has beside its program.
func dockerfile(t *testing.T) map[string]any {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "Dockerfile"))
	require.NoError(t, err)
	config := map[string]any{}
	for line := range strings.Lines(string(text)) {
		instruction, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "FROM": // another stage; the last counts
			config = map[string]any{}
		case "USER":
			config["User"] = value
		case "ENV":
			config["Env"] = []string{value}
		case "ENTRYPOINT", "CMD":
			var words []string
			require.NoError(t, json.Unmarshal([]byte(value), &words), line)
			config[map[string]string{"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}[instruction]] = words
		}
	}
	require.Contains(t, config, "User")
	require.Contains(t, config, "Entrypoint")
	return config
}

// image gives the node an image with one program in it.
func (c *cluster) image(t *testing.T, name, program, as string, config map[string]any) {
	binary, err := os.ReadFile(program)
	require.NoError(t, err)
	pack := func(files map[string][]byte) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, content := range files {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}))
			_, err := w.Write(content)
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		return b.Bytes()
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	encode := func(v any) []byte { b, err := json.Marshal(v); require.NoError(t, err); return b }
	layer := pack(map[string][]byte{as: binary})
	configuration := encode(map[string]any{
		"architecture": "amd64", "os": "linux", "config": config, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(layer)}},
	})
	manifest := encode([]any{map[string]any{"Config": sum(configuration) + ".json", "RepoTags": []string{name}, "Layers": []string{sum(layer) + ".tar"}}})
	c.write(t, "image.tar", pack(map[string][]byte{sum(configuration) + ".json": configuration, sum(layer) + ".tar": layer, "manifest.json": manifest}))
	c.run(t, "", "ctr", "--namespace=k8s.io", "images", "import", "--local", c.path("image.tar"))
}

// database starts PostgreSQL where pods reach it, with passwords, and gives the URLs of the owner of the tables and of the service.
func (c *cluster) database(t *testing.T) (owner, service string) {
	binaries, err := postgres.FindBinaries()
	require.NoError(t, err)
	account, err := user.Lookup("postgres")
	require.NoError(t, err)
	uid, err := strconv.Atoi(account.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(account.Gid)
	require.NoError(t, err)
	folder := c.path("postgres")
	require.NoError(t, os.Mkdir(folder, 0o700))
	require.NoError(t, os.Chown(folder, uid, gid))
	as := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		cmd.Dir = folder
		return cmd
	}
	out, err := as(exec.Command(filepath.Join(binaries.Dir, "initdb"), "--pgdata="+folder, "--username=postgres", "--auth=trust", "--no-sync")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "pg_hba.conf"), []byte("local all all trust\nhost all all all scram-sha-256\n"), 0o644))
	c.begin(t, "postgres", as(exec.Command(filepath.Join(binaries.Dir, "postgres"), "-D", folder, "-c", "listen_addresses="+host, "-c", "unix_socket_directories="+folder, "-c", "fsync=off")))
	psql := func(sql string) error {
		_, err := c.try(sql, "psql", "--host="+folder, "--username=postgres", "--quiet", "--set=ON_ERROR_STOP=1")
		return err
	}
	c.eventually(t, "PostgreSQL answers", func() bool { return psql("SELECT 1") == nil })
	require.NoError(t, psql("CREATE ROLE owner LOGIN PASSWORD 'owner-1'; CREATE ROLE service LOGIN PASSWORD 'service-1'; CREATE DATABASE changeover OWNER owner;"))
	at := "@" + host + ":5432/changeover?sslmode=disable"
	return "postgres://owner:owner-1" + at, "postgres://service:service-1" + at
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) write(t *testing.T, name string, content []byte) {
	require.NoError(t, os.MkdirAll(filepath.Dir(c.path(name)), 0o755))
	require.NoError(t, os.WriteFile(c.path(name), content, 0o600))
}

// start runs a program until the test ends.
func (c *cluster) start(t *testing.T, program string, args ...string) {
	c.begin(t, program, exec.Command(program, args...))
}

func (c *cluster) begin(t *testing.T, name string, cmd *exec.Cmd) {
	log, err := os.Create(c.path(name + ".log"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait(); log.Close() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
}

// try runs a command to its end and gives what it said on both streams.
func (c *cluster) try(stdin string, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
	}
	return string(out), err
}

func (c *cluster) run(t *testing.T, stdin string, command ...string) string {
	t.Helper()
	out, err := c.try(stdin, command...)
	require.NoError(t, err)
	return out
}

func (c *cluster) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 200*time.Millisecond, what)
}

// get reads objects of the release's namespace.
func get[T any](t *testing.T, c *cluster, args ...string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(c.run(t, "", append([]string{"kubectl", "--namespace=voice", "get", "--output=json"}, args...)...)), &v))
	return v
}

// change is one state of an object, as the apiserver told it to a watch.
type change struct {
	Type   string // ADDED, MODIFIED, DELETED
	Object object
}

// watch follows the objects of a kind, and gives what was told so far.
func (c *cluster) watch(t *testing.T, kind string) func() []change {
	cmd := exec.Command("kubectl", "--namespace=voice", "get", kind, "--watch", "--output-watch-events", "--output=json")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var mu sync.Mutex
	var told []change
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		decoder := json.NewDecoder(out)
		for {
			var next change
			if decoder.Decode(&next) != nil {
				return
			}
			mu.Lock()
			told = append(told, next)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended; _ = cmd.Wait() })
	return func() []change {
		mu.Lock()
		defer mu.Unlock()
		return append([]change(nil), told...)
	}
}

// explain prints what helps when a step has failed.
func (c *cluster) explain(t *testing.T) {
	for _, command := range []string{
		"kubectl get all,pdb,hpa -A -o wide", "kubectl describe pods -n voice", "kubectl get events -n voice --sort-by=.lastTimestamp",
		"kubectl logs -n voice -l app.kubernetes.io/name=changeover --tail=40 --prefix",
	} {
		out, err := c.try("", strings.Fields(command)...)
		t.Logf("%s: %v\n%s", command, err, out)
	}
	logs, _ := filepath.Glob(c.path("*.log"))
	for _, file := range logs {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil {
			_, _ = f.Seek(max(0, info.Size()-1500), io.SeekStart)
		}
		text, _ := io.ReadAll(f)
		f.Close()
		t.Logf("the end of %s:\n%s", filepath.Base(file), text)
	}
}
