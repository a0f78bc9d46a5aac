package compose

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	changeover "changeover/clients/go"
	"changeover/clients/go/rest"
	"changeover/internal/api/auth/dextest"
	"changeover/internal/connectsim"
)

const (
	host = "changeover.localhost"
	east = "us-east-1"
	west = "us-west-2"

	// patience is for what takes seconds on an idle machine.
	patience = 3 * time.Minute
	followed = 20 // agents whose streams are open beside those of all agents
)

// stack is a project of Docker Compose, from the files as they are, with an image, a name and ports of its own.
type stack struct {
	t                      *testing.T
	program, project       string
	image                  string
	proxy, simulator, prom string   // addresses on this machine
	files, env             []string // -f
	transport              *http.Transport
}

func newStack(t *testing.T) *stack {
	t.Helper()
	program := os.Getenv("E2E_COMPOSE")
	if program == "" {
		t.Skip("needs a container engine: make e2e-compose")
	}
	s := &stack{t: t, program: program, project: os.Getenv("E2E_PROJECT")}
	s.image = strings.Replace(s.project, "-", ":", 1)
	s.files = []string{"-f", "../../docker-compose.yml"}
	if os.Getenv("E2E_WITHOUT_GRAFANA") != "" {
		s.files = append(s.files, "-f", "without-grafana.yaml")
	}
	s.env = append(os.Environ(), "CHANGEOVER_IMAGE="+s.image, "COMPOSE_ANSI=never", "COMPOSE_PROGRESS=plain", "COMPOSE_BAKE=false")
	for _, name := range []string{"CHANGEOVER_PORT", "CONNECTSIM_PORT", "CCP_EAST_PORT", "CCP_WEST_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close() // not before all are known, so that they differ
		_, port, _ := net.SplitHostPort(l.Addr().String())
		s.env = append(s.env, name+"="+port)
		switch name {
		case "CHANGEOVER_PORT":
			s.proxy = "127.0.0.1:" + port
		case "CONNECTSIM_PORT":
			s.simulator = "http://127.0.0.1:" + port
		case "PROMETHEUS_PORT":
			s.prom = "http://127.0.0.1:" + port
		}
	}
	// As browsers do, without asking anybody where a name that ends in .localhost is.
	s.transport = &http.Transport{MaxIdleConnsPerHost: 100, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.proxy)
	}}
	t.Cleanup(s.transport.CloseIdleConnections)
	return s
}

func (s *stack) url(path string) string {
	_, port, _ := net.SplitHostPort(s.proxy)
	return "http://" + net.JoinHostPort(host, port) + path
}

// run runs a program to its end and returns its standard output.
func (s *stack) run(ctx context.Context, program string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, program, args...)
	command.Env = s.env
	var out, complaint bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaint
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, complaint.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (s *stack) compose(args ...string) string {
	s.t.Helper()
	out, err := s.run(s.t.Context(), s.program, append(append([]string{"-p", s.project}, s.files...), args...)...)
	require.NoError(s.t, err)
	return out
}

func (s *stack) docker(args ...string) string {
	s.t.Helper()
	out, err := s.run(s.t.Context(), "docker", args...)
	require.NoError(s.t, err)
	return out
}

// up starts everything and waits until all of it is healthy. What was started ends with the test, whatever becomes of it.
func (s *stack) up() {
	s.t.Helper()
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		arguments := append([]string{"-p", s.project}, s.files...)
		if s.t.Failed() {
			out, _ := s.run(ctx, s.program, append(slices.Clone(arguments), "logs", "--no-color", "--tail=60")...)
			s.t.Logf("%s", out)
		}
		_, _ = s.run(ctx, s.program, append(arguments, "down", "--volumes", "--remove-orphans", "--timeout=5")...)
		_, _ = s.run(ctx, "docker", "image", "rm", "--force", s.image)
	})
	s.compose("build", "server") // one image, of which the simulator is made too
	s.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "300")
}

// control calls the simulator's control API.
func (s *stack) control(method, path string, body, answer any) {
	s.t.Helper()
	content, err := json.Marshal(body)
	require.NoError(s.t, err)
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.simulator+"/_control"+path, bytes.NewReader(content))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/json")
	s.answer(http.DefaultClient, r, answer)
}

// get reads JSON.
func (s *stack) get(client *http.Client, address string, answer any, header ...string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	s.answer(client, r, answer)
}

func (s *stack) answer(client *http.Client, r *http.Request, answer any) {
	s.t.Helper()
	resp, err := client.Do(r)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	require.Less(s.t, resp.StatusCode, 300, "%s %s: %s", r.Method, r.URL, body)
	if answer != nil {
		require.NoError(s.t, json.Unmarshal(body, answer), "%s", body)
	}
}

// secureLocalhost is a jar that takes http://*.localhost for secure, as Chromium and Firefox do (Secure Contexts, 3.1): the session's
// cookie is Secure.
type secureLocalhost struct{ *cookiejar.Jar }

func secure(u *url.URL) *url.URL {
	c := *u
	if strings.HasSuffix(c.Hostname(), ".localhost") {
		c.Scheme = "https"
	}
	return &c
}

// SetCookies implements http.CookieJar.
func (j secureLocalhost) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.Jar.SetCookies(secure(u), cookies)
}

// Cookies implements http.CookieJar.
func (j secureLocalhost) Cookies(u *url.URL) []*http.Cookie { return j.Jar.Cookies(secure(u)) }

func (s *stack) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &http.Client{
		Transport: s.transport, Jar: secureLocalhost{jar},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// follower reads a stream through the proxy, and comes back with its cursor when it breaks.
type follower struct {
	agent string // empty: all
	mu    sync.Mutex
	got   []changeover.Event
	waits int // how often it had to come back
	end   error
}

func (s *stack) follow(ctx context.Context, token, agent string, over *sync.WaitGroup) *follower {
	s.t.Helper()
	client, err := changeover.New(changeover.Options{
		Endpoints: []string{s.url("")}, HTTPClient: &http.Client{Transport: s.transport}, Token: func(context.Context) (string, error) { return token, nil },
	})
	require.NoError(s.t, err)
	f := &follower{agent: agent}
	over.Go(func() {
		subscription := changeover.Subscription{AgentID: agent, OnState: func(state changeover.State) {
			if state.Phase == changeover.Waiting {
				f.mu.Lock()
				f.waits++
				f.mu.Unlock()
			}
		}}
		for e, err := range client.Follow(ctx, subscription) {
			f.mu.Lock()
			if err != nil {
				f.end = err
			} else {
				f.got = append(f.got, e)
			}
			f.mu.Unlock()
		}
	})
	return f
}

func (f *follower) events() []changeover.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// await returns the first event from the n-th that is meant.
func (f *follower) await(t *testing.T, n int, meant func(changeover.Event) bool) changeover.Event {
	t.Helper()
	var found changeover.Event
	require.Eventually(t, func() bool {
		events := f.events()
		i := slices.IndexFunc(events[min(n, len(events)):], meant)
		if i >= 0 {
			found = events[min(n, len(events))+i]
		}
		return i >= 0
	}, patience, 50*time.Millisecond)
	return found
}

func of(kind changeover.EventType) func(changeover.Event) bool {
	return func(e changeover.Event) bool { return e.Type == kind }
}

// history is the whole log, as REST gives it.
func (s *stack) history(token string) (events []struct {
	ID    string
	Event string
	Data  struct{ AgentID string }
}) {
	s.t.Helper()
	for after := ""; ; {
		var page struct {
			Items []struct {
				ID    string
				Event string
				Data  struct{ AgentID string }
			}
			NextCursor string
		}
		s.get(&http.Client{Transport: s.transport}, s.url("/v1/events?limit=1000&after="+url.QueryEscape(after)), &page, "Authorization", "Bearer "+token, "Accept", "application/json")
		if len(page.Items) == 0 {
			return events
		}
		events, after = append(events, page.Items...), page.NextCursor
	}
}

// The whole of docker-compose.yml, for real: everything becomes healthy; somebody signs in with a browser's means; an agent's desktop hears
// a shift through the proxy, while a call holds it and when the call is over; replicas are killed, stopped and replaced under open streams,
// on which nothing is lost or doubled; Prometheus sees both replicas; and when it is over nothing is left.
func TestCompose(t *testing.T) {
	s := newStack(t)
	s.up()

	t.Log("healthy")
	for service, n := range map[string]int{"server": 2, "connectsim": 1, "proxy": 1, "dex": 1, "postgres": 1, "prometheus": 1} {
		ids := strings.Fields(s.compose("ps", "--quiet", service))
		require.Len(t, ids, n, service)
		for _, id := range ids {
			require.Equal(t, "healthy", s.docker("inspect", "--format={{.State.Health.Status}}", id), service)
		}
	}
	s.checkImage(s.image, elf.EM_X86_64)

	// Somebody signs in to the console: authorization code and PKCE, the service being dex's client.
	dex := dextest.At(t, s.url("/dex"), s.transport)
	operator := s.browser()
	visit := func(address string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		require.NoError(t, err)
		resp, err := operator.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	require.Equal(t, http.StatusUnauthorized, visit(s.url("/v1/summary")).StatusCode)
	resp := visit(s.url("/console/auth/login?return=/console/"))
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	back := dex.SignIn(operator, resp.Header.Get("Location"), "operator", "operator")
	resp = visit(back.String())
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	require.Equal(t, "/console/", resp.Header.Get("Location"))
	require.Equal(t, http.StatusOK, visit(s.url("/v1/summary")).StatusCode)
	require.Equal(t, http.StatusForbidden, visit(s.url("/v1/audit")).StatusCode, "an operator is no admin")
	for role, want := range map[string]int{"viewer": http.StatusForbidden, "admin": http.StatusOK} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/v1/audit"), nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+dex.Token("desktop", role, role, "email", "audience:server:client_id:changeover"))
		resp, err := s.transport.RoundTrip(r)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, want, resp.StatusCode, role)
	}
	resp = visit(s.url("/console/"))
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Content-Type"), "text/html")
	require.Equal(t, http.StatusNotFound, visit(s.url("/metrics")).StatusCode, "Prometheus asks the replicas")

	// The desktop of the demo's agent, who is given a call that nobody ends but this test.
	scopes := []string{"email", "audience:server:client_id:changeover"}
	token := dex.Token("desktop", "agent", "agent", scopes...)
	staff := dex.Token("desktop", "operator", "operator", scopes...)
	var floor struct{ Items []connectsim.AgentInfo }
	s.control(http.MethodGet, "/agents?limit=200", nil, &floor)
	require.Len(t, floor.Items, 200)
	me := floor.Items[0].ID
	// Contacts of seconds, so that a shift is over soon.
	second := connectsim.Duration(time.Second)
	s.control(http.MethodPut, "/floor", connectsim.Floor{CallsPerHour: 70, ChatsPerHour: 25, Ring: second, Talk: 4 * second, Chat: 4 * second, AfterContactWork: 2 * second}, nil)
	var call struct{ ContactID string }
	s.control(http.MethodPost, "/agents/"+me+"/contacts", map[string]any{"channel": "VOICE"}, &call)
	client := &http.Client{Transport: s.transport}
	require.Eventually(t, func() bool {
		var contacts rest.ContactList
		s.get(client, s.url("/v1/agents/"+me+"/contacts"), &contacts, "Authorization", "Bearer "+token)
		return slices.ContainsFunc(contacts.Items, func(c rest.Contact) bool { return c.ContactID == call.ContactID })
	}, patience, time.Second)

	ctx, end := context.WithCancel(t.Context())
	var over sync.WaitGroup
	defer over.Wait()
	defer end()
	desktop := s.follow(ctx, token, me, &over)
	streams := []*follower{desktop}
	for range 3 {
		streams = append(streams, s.follow(ctx, staff, "", &over))
	}
	for _, agent := range floor.Items[1 : 1+followed] {
		streams = append(streams, s.follow(ctx, staff, agent.ID, &over))
	}
	for _, f := range streams {
		f.await(t, 0, of(changeover.Snapshot))
	}
	s.spread(staff, len(streams))

	t.Log("shift")
	shift := func(to string) { s.control(http.MethodPost, "/shift", map[string]any{"tdg": "default", "to": to}, nil) }
	shift(west)
	began := time.Now()
	desktop.await(t, 0, of(changeover.FailoverDetected))
	t.Logf("detected after %v", time.Since(began).Round(100*time.Millisecond))
	pending, err := changeover.Data[rest.FailoverPendingData](desktop.await(t, 0, of(changeover.FailoverPending)))
	require.NoError(t, err)
	require.Contains(t, pending.ContactIds, call.ContactID)
	for _, e := range desktop.events() {
		require.NotEqual(t, changeover.FailoverCompleted, e.Type, "the call holds it")
	}
	s.control(http.MethodPost, "/contacts/"+call.ContactID+"/end", nil, nil)
	s.control(http.MethodPost, "/contacts/"+call.ContactID+"/clear", nil, nil)
	completed, err := changeover.Data[rest.FailoverCompletedData](desktop.await(t, 0, of(changeover.FailoverCompleted)))
	require.NoError(t, err)
	require.Equal(t, west, completed.ActiveRegion)
	settled := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			for _, status := range []string{"detected", "pending"} {
				var open rest.FailoverList
				s.get(client, s.url("/v1/failovers?status="+status), &open, "Authorization", "Bearer "+staff)
				if len(open.Items) > 0 {
					return false
				}
			}
			return true
		}, patience, 2*time.Second)
	}
	settled()
	require.Zero(t, s.returns(streams), "a stream broke without a cause")

	// Back again, while one replica is killed and its successor starts; then to the west, while the other is stopped as a roll-out does it.
	for _, step := range []struct {
		name, to string
		end      []string
	}{
		{"kill", east, []string{"kill"}},
		{"stop", west, []string{"stop", "-t", "30"}},
	} {
		t.Log(step.name)
		oldest := strings.Fields(s.docker("ps", "--filter=label=com.docker.compose.project="+s.project, "--filter=label=com.docker.compose.service=server", "--quiet"))
		require.Len(t, oldest, 2)
		victim := oldest[1] // the newest comes first
		n := len(desktop.events())
		before := s.returns(streams)
		asked := s.ask(staff)
		shift(step.to)
		desktop.await(t, n, of(changeover.FailoverDetected))
		s.docker(append(step.end, victim)...)
		if step.name == "stop" {
			require.Equal(t, "0", s.docker("inspect", "--format={{.State.ExitCode}}", victim), "it ended well, within its time")
		}
		s.docker("rm", "--force", victim)
		s.compose("up", "--detach", "--no-build", "--no-recreate", "--wait", "--wait-timeout", "120", "server")
		require.NotContains(t, s.compose("ps", "--quiet", "server"), victim)
		done, err := changeover.Data[rest.FailoverCompletedData](desktop.await(t, n, of(changeover.FailoverCompleted)))
		require.NoError(t, err)
		require.Equal(t, step.to, done.ActiveRegion)
		settled()
		answered, failures := asked()
		require.Empty(t, failures, "the proxy asks the other replica")
		require.Greater(t, answered, 20)
		broken := s.returns(streams) - before
		require.Positive(t, broken, "nobody was connected to the replica that went")
		t.Logf("%d times one of %d streams came back; %d other requests, each answered", broken, len(streams), answered)
	}

	// Nothing is lost or doubled: each stream holds what the log has from its beginning on.
	log := s.history(staff)
	for _, f := range streams {
		var want, got []string
		for _, e := range log {
			if f.agent == "" || e.Data.AgentID == f.agent {
				want = append(want, e.ID)
			}
		}
		require.Eventually(t, func() bool {
			got = nil
			for _, e := range f.events() {
				require.NotEqual(t, changeover.Reset, e.Type)
				if e.Type != changeover.Snapshot {
					got = append(got, e.ID)
				}
			}
			return len(got) > 0 && got[len(got)-1] == want[len(want)-1]
		}, patience, 100*time.Millisecond)
		first := slices.Index(want, got[0])
		require.Equal(t, want[first:], got)
		require.GreaterOrEqual(t, len(got), 6, "detected and completed, thrice")
		require.NoError(t, f.end)
	}
	t.Logf("%d events in the log, on %d streams", len(log), len(streams))

	t.Log("Prometheus")
	require.Eventually(t, func() bool {
		var targets struct {
			Data struct {
				ActiveTargets []struct{ Health string }
			}
		}
		s.get(http.DefaultClient, s.prom+"/api/v1/targets", &targets)
		return len(targets.Data.ActiveTargets) == 2 && targets.Data.ActiveTargets[0].Health == "up" && targets.Data.ActiveTargets[1].Health == "up"
	}, patience, time.Second)
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Type, Name, Health, LastError string }
			}
		}
	}
	alerts := 0
	require.Eventually(t, func() bool {
		s.get(http.DefaultClient, s.prom+"/api/v1/rules", &rules)
		alerts = 0
		for _, group := range rules.Data.Groups {
			for _, rule := range group.Rules {
				if rule.Health != "ok" {
					return false
				}
				if rule.Type == "alerting" {
					alerts++
				}
			}
		}
		return alerts > 0
	}, patience, time.Second)
	require.Equal(t, strings.Count(read(t, "../prometheus/rules.yaml"), "- alert: "), alerts)
	var leader struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	s.get(http.DefaultClient, s.prom+"/api/v1/query?query="+url.QueryEscape("sum(changeover_leader)"), &leader)
	require.Equal(t, "1", leader.Data.Result[0].Value[1])
	end()
	over.Wait()

	t.Log("down")
	s.compose("down", "--volumes")
	for _, list := range [][]string{{"ps", "--all"}, {"network", "ls"}, {"volume", "ls"}} {
		require.Empty(t, s.docker(append(list, "--quiet", "--filter=label=com.docker.compose.project="+s.project)...))
	}
}

// The image for the other platform, compiled on this one.
func TestImageForARM(t *testing.T) {
	s := newStack(t)
	s.image += "-arm64"
	s.env = append(s.env, "CHANGEOVER_IMAGE="+s.image, "DOCKER_DEFAULT_PLATFORM=linux/arm64")
	t.Cleanup(func() { _, _ = s.run(context.Background(), "docker", "image", "rm", "--force", s.image) })
	s.compose("build", "server")
	require.Equal(t, "arm64", s.docker("image", "inspect", "--format={{.Architecture}}", s.image))
	s.checkImage(s.image, elf.EM_AARCH64)
}

// spread waits until every stream is known and each replica has some.
func (s *stack) spread(token string, streams int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var list rest.ConnectionList
		s.get(&http.Client{Transport: s.transport}, s.url("/v1/connections?limit=1000"), &list, "Authorization", "Bearer "+token)
		replicas := map[string]int{}
		for _, c := range list.Items {
			replicas[c.Replica]++
		}
		return len(list.Items) == streams && len(replicas) == 2
	}, patience, time.Second)
}

// ask reads the summary through the proxy ten times a second until the function that it returns is called, which gives how often and what failed.
func (s *stack) ask(token string) func() (answered int, failures []string) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	var answered int
	var failures []string
	once := func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/v1/summary"), nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := s.transport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return err
	}
	go func() {
		defer close(done)
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			switch err := once(); {
			case ctx.Err() != nil:
				tick.Stop()
				return
			case err != nil:
				failures = append(failures, err.Error())
			default:
				answered++
			}
			<-tick.C
		}
	}()
	return func() (int, []string) {
		cancel()
		<-done
		return answered, failures
	}
}

func (s *stack) returns(streams []*follower) (n int) {
	for _, f := range streams {
		f.mu.Lock()
		n += f.waits
		f.mu.Unlock()
	}
	return n
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// checkImage: nothing is in the image but two static programs for that machine, certificates, and for each program a list of what it
// consists of, which names every module that the program itself names. It runs as nobody in particular and knows how to be asked for its health.
func (s *stack) checkImage(image string, machine elf.Machine) {
	s.t.Helper()
	var config struct {
		User        string
		Entrypoint  []string
		Healthcheck struct{ Test []string }
	}
	require.NoError(s.t, json.Unmarshal([]byte(s.docker("image", "inspect", "--format={{json .Config}}", image)), &config))
	require.Equal(s.t, "65532:65532", config.User)
	require.Equal(s.t, []string{"CMD", "server", "health", "--config", "/etc/changeover/changeover.yaml"}, config.Healthcheck.Test)
	container := s.docker("create", image)
	defer func() { _, err := s.run(context.Background(), "docker", "rm", container); require.NoError(s.t, err) }()

	files := map[string][]byte{}
	command := exec.CommandContext(s.t.Context(), "docker", "export", container)
	archive, err := command.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, command.Start())
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(s.t, err)
		if header.Typeflag == tar.TypeReg && header.Size > 0 {
			files[header.Name], err = io.ReadAll(r)
			require.NoError(s.t, err)
		}
	}
	require.NoError(s.t, command.Wait())
	var names []string
	size := 0
	for name, content := range files {
		names = append(names, name)
		size += len(content)
	}
	slices.Sort(names)
	require.Equal(s.t, []string{
		"etc/ssl/certs/ca-certificates.crt",
		"usr/local/bin/connectsim", "usr/local/bin/server", "usr/share/sbom/connectsim.cdx.json", "usr/share/sbom/server.cdx.json",
	}, names)
	for _, name := range []string{"server", "connectsim"} {
		program := bytes.NewReader(files["usr/local/bin/"+name])
		binary, err := elf.NewFile(program)
		require.NoError(s.t, err)
		require.Equal(s.t, machine, binary.Machine)
		for _, p := range binary.Progs {
			require.NotEqual(s.t, elf.PT_INTERP, p.Type, "%s is not static", name)
		}
		info, err := buildinfo.Read(program)
		require.NoError(s.t, err)
		require.Greater(s.t, len(info.Deps), 5)
		var bom struct {
			BOMFormat  string
			Components []struct{ Name, Version, PURL string }
		}
		require.NoError(s.t, json.Unmarshal(files["usr/share/sbom/"+name+".cdx.json"], &bom))
		require.Equal(s.t, "CycloneDX", bom.BOMFormat)
		var want, got []string
		for _, m := range info.Deps {
			want = append(want, m.Path+" "+m.Version)
		}
		for _, c := range bom.Components {
			if c.Name == "stdlib" {
				require.Equal(s.t, info.GoVersion, "go"+c.Version)
				continue
			}
			require.Regexp(s.t, `^pkg:golang/`+regexp.QuoteMeta(c.Name)+`@v`, c.PURL)
			got = append(got, c.Name+" "+c.Version)
		}
		require.ElementsMatch(s.t, want, got)
		s.t.Logf("%s of %s: %.1f MB, %d modules", name, image, float64(len(files["usr/local/bin/"+name]))/1e6, len(want))
	}
	s.t.Logf("%s: %.1f MB", image, float64(size)/1e6)
}
