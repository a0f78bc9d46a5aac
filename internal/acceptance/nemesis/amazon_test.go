package nemesis

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connectsim"
)

// amazon is a simulated Amazon Connect that keeps what it answered, and to whom. Ids are those of the source Region.
type amazon struct {
	*connectsim.Sim
	mu      sync.Mutex
	ids     map[string]string // of agents in the replica's Region
	reads   []read
	targets []distribution
	answers map[int]int // by status of HTTP
	curt    string      // the Region that answers sweeps alone; empty: none
}

func newAmazon(c connectsim.Config) *amazon {
	a := &amazon{Sim: connectsim.New(c), ids: map[string]string{}, answers: map[int]int{}}
	for _, p := range a.Agents() {
		a.know(p)
	}
	return a
}

func (a *amazon) know(p connectsim.AgentInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range p.IDs {
		a.ids[id] = p.ID
	}
}

// forget drops what was answered before a time, but for what each Region said last of its distributions, which stands.
func (a *amazon) forget(before time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads = slices.DeleteFunc(a.reads, func(r read) bool { return r.end.Before(before) })
	type question struct{ region, tdg string }
	told := map[question]bool{}
	kept := []distribution{}
	for _, d := range slices.Backward(a.targets) {
		if q := (question{d.region, d.tdg}); !d.end.Before(before) || !told[q] {
			told[q] = true
			kept = append(kept, d)
		}
	}
	slices.Reverse(kept)
	a.targets = kept
}

// endpoint is where one replica reaches one Region. It can be lost, and come back at the same address.
type endpoint struct {
	address string
	handler http.Handler
	server  *http.Server
	done    chan struct{}
}

// listen opens an endpoint of a Region for one replica.
func (a *amazon) listen(t testing.TB, replica int, region string) *endpoint {
	sim := a.Handler()
	e := &endpoint{address: freeAddress(t)}
	e.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		if m := signedFor.FindStringSubmatch(r.Header.Get("Authorization")); m == nil || m[1] != region {
			http.Error(w, "this is "+region, http.StatusMisdirectedRequest)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if a.withholds(region, r, body) {
			<-r.Context().Done()
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		kept := &recorder{ResponseWriter: w}
		sim.ServeHTTP(kept, r)
		if r.Context().Err() == nil {
			a.answered(replica, region, r, body, kept, begun)
		}
	})
	require.NoError(t, e.open())
	t.Cleanup(e.lose)
	return e
}

// beCurt has a Region (empty: none) answer what asks for everybody, and nothing that asks for some: it is not down, and tells nothing of those who
// have left it.
func (a *amazon) beCurt(region string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.curt = region
}

func (a *amazon) withholds(region string, r *http.Request, body []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.curt != region || !strings.HasPrefix(r.URL.Path, userDataPath) {
		return false
	}
	var in struct {
		Filters struct {
			Agents        []string
			ContactFilter *struct{}
		}
	}
	return json.Unmarshal(body, &in) == nil && (len(in.Filters.Agents) > 0 || in.Filters.ContactFilter != nil)
}

// userDataPath begins that of GetCurrentUserData.
const userDataPath = "/metrics/userdata/"

// open begins to listen.
func (e *endpoint) open() error {
	l, err := net.Listen("tcp", e.address)
	if err != nil {
		return err
	}
	e.server, e.done = &http.Server{Handler: e.handler, ReadHeaderTimeout: 10 * time.Second}, make(chan struct{})
	go func(server *http.Server, done chan struct{}) {
		defer close(done)
		_ = server.Serve(l)
	}(e.server, e.done)
	return nil
}

// lose ends the listener and every connection.
func (e *endpoint) lose() {
	if e.server != nil {
		_ = e.server.Close()
		<-e.done
		e.server = nil
	}
}

// recorder keeps an answer while it is sent.
type recorder struct {
	http.ResponseWriter
	status int
	sent   time.Time // nobody has the answer before
	body   bytes.Buffer
}

func (w *recorder) WriteHeader(status int) {
	w.status, w.sent = status, time.Now()
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

// Hijack is how the simulator gives no answer.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := w.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.ErrUnsupported
	}
	return h.Hijack()
}

var signedFor = regexp.MustCompile(`Credential=[^/]+/[0-9]+/([^/]+)/`)

// answered notes an answer that is one.
func (a *amazon) answered(replica int, region string, r *http.Request, body []byte, w *recorder, begun time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[w.status]++
	if w.status != http.StatusOK {
		return
	}
	switch {
	case strings.HasPrefix(r.URL.Path, userDataPath):
		x := read{replica: replica, region: region, begun: begun, end: w.sent}
		if a.userData(&x, body, w.body.Bytes()) {
			a.reads = append(a.reads, x)
		}
	case strings.HasPrefix(r.URL.Path, "/traffic-distribution/") && r.Method == http.MethodGet:
		x := distribution{replica: replica, region: region, begun: begun, end: w.sent}
		var out struct {
			ID          string `json:"Id"`
			AgentConfig *struct {
				Distributions []struct {
					Region     string
					Percentage int
				}
			}
		}
		if json.Unmarshal(w.body.Bytes(), &out) != nil || out.AgentConfig == nil || len(out.AgentConfig.Distributions) != 2 {
			return
		}
		x.tdg = out.ID
		for _, d := range out.AgentConfig.Distributions {
			if d.Percentage == 100 {
				x.target = d.Region
			}
		}
		a.targets = append(a.targets, x)
	}
}

// userData reads an answer to GetCurrentUserData, and says whether it is one. a.mu is held.
func (a *amazon) userData(x *read, question, answer []byte) bool {
	var in struct {
		Filters struct{ Agents, RoutingProfiles []string }
	}
	var out struct {
		NextToken    string
		UserDataList *[]struct {
			User struct {
				ID string `json:"Id"`
			}
			Status   struct{ StatusName string }
			Contacts []struct {
				ContactID string `json:"ContactId"`
				Channel   string
			}
		}
	}
	if json.Unmarshal(question, &in) != nil || json.Unmarshal(answer, &out) != nil || out.UserDataList == nil {
		return false
	}
	x.last = out.NextToken == ""
	x.agents, x.profiles = map[string]bool{}, map[string]bool{}
	x.shown, x.offline = map[string][]shown{}, map[string]bool{}
	for _, id := range in.Filters.Agents {
		x.agents[a.id(id)] = true
	}
	for _, id := range in.Filters.RoutingProfiles {
		x.profiles[id] = true
	}
	for _, u := range *out.UserDataList {
		id := a.id(u.User.ID)
		list := make([]shown, 0, len(u.Contacts))
		for _, c := range u.Contacts {
			list = append(list, shown{c.ContactID, c.Channel})
		}
		x.shown[id], x.offline[id] = list, u.Status.StatusName == connectsim.StatusOffline
	}
	return true
}

func (a *amazon) id(id string) string {
	id = id[strings.LastIndexByte(id, '/')+1:]
	if source := a.ids[id]; source != "" {
		return source
	}
	return id
}
