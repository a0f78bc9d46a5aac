package app

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	printer "changeover/internal/watch"
)

// TestGoClientChangesOver follows an agent through a shift in the middle of which the replica goes that it is connected to.
func TestGoClientChangesOver(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	agent := floor.agent(0)
	voice := floor.call(t, agent, connectsim.ChannelVoice)
	c := configuration(floor, postgrestest.NewDatabase(t))
	first, second := start(t, c), start(t, c)
	first.untilHolds(t, agent, 1)
	d := follow(t, agent, first, second)
	d.opened(t)
	floor.shift(t, west)
	d.next(t, "failoverDetected")
	d.next(t, "failoverPending")
	first.stop(t)
	require.NoError(t, floor.ClearContact(voice))
	d.next(t, "failoverCompleted")
	floor.shift(t, east)
	d.next(t, "failoverDetected")
	d.next(t, "failoverCompleted")
}

// TestGoClientPolls follows a shift from behind a proxy that refuses streams.
func TestGoClientPolls(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 2})
	agent := floor.agent(0)
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilWorksIn(t, agent, east)
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Addr()})
	to.Transport = &http.Transport{DisableKeepAlives: true}
	to.ErrorLog = log.New(io.Discard, "", 0) // of pollers that have gone
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			http.Error(w, "no streams here", http.StatusNotAcceptable)
			return
		}
		to.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { proxy.CloseClientConnections(); proxy.Close() })

	var one, all, connection terminal
	ctx, end := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	for _, o := range []printer.Options{{Events: &all, Connection: &connection}, {AgentID: agent, Events: &one, Connection: &terminal{}}} {
		o.Endpoints = []string{proxy.URL}
		go func() { errs <- printer.Run(ctx, o) }()
	}
	connection.until(t, "by polls")
	one.until(t, "active in us-east-1")
	all.until(t, "reset")
	floor.shift(t, west)
	for _, o := range []*terminal{&one, &all} {
		o.until(t, agent+"  failoverDetected        goes to us-west-2")
		o.until(t, agent+"  failoverCompleted       works in us-west-2 now")
	}
	all.until(t, floor.agent(1)+"  failoverCompleted       works in us-west-2 now")
	end()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.Equal(t, 1, strings.Count(one.String(), "failoverCompleted"))
}

// terminal collects what is printed.
type terminal struct{ logtest.Buffer }

func (o *terminal) until(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(o.String(), text) }, patience, 5*time.Millisecond, "%q in %s", text, o)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 2})
	agent := floor.agent(0)
	voice := floor.call(t, agent, connectsim.ChannelVoice)
	s := start(t, configuration(floor, postgrestest.NewDatabase(t)))
	s.untilHolds(t, agent, 1)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("nobody asks for it\n"), 0o600))

	var people, connection, machine terminal
	ctx, end := context.WithCancel(t.Context())
	o := printer.Options{Endpoints: []string{"http://" + s.Addr()}, TokenFile: token, Events: &people, Connection: &connection}
	errs := make(chan error, 2)
	go func() { errs <- printer.Run(ctx, o) }()
	j := o
	j.AgentID, j.JSON, j.Events, j.Connection = agent, true, &machine, &terminal{}
	go func() { errs <- printer.Run(ctx, j) }()
	people.until(t, agent+"  snapshot                active in us-east-1")
	machine.until(t, `"event":"snapshot"`)
	connection.until(t, "watching http://"+s.Addr())
	floor.shift(t, west)
	people.until(t, agent+"  failoverDetected        goes to us-west-2")
	people.until(t, agent+"  failoverPending         goes to us-west-2, held by "+voice)
	people.until(t, floor.agent(1)+"  failoverCompleted       works in us-west-2 now (inferred)")
	require.NoError(t, floor.ClearContact(voice))
	people.until(t, agent+"  failoverCompleted       works in us-west-2 now (inferred)")
	machine.until(t, `"event":"failoverCompleted"`)
	end()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	connection.until(t, "closed")
	for line := range strings.Lines(machine.String()) {
		var item struct {
			ID, Event string
			Data      struct{ AgentID string }
		}
		require.NoError(t, json.Unmarshal([]byte(line), &item), line)
		require.NotEmpty(t, item.ID)
		require.Equal(t, agent, item.Data.AgentID)
	}

	o.Endpoints = []string{"http://admin:hunter2@127.0.0.1:1"}
	err := printer.Run(t.Context(), o)
	require.ErrorContains(t, err, "credentials")
	require.NotContains(t, err.Error(), "hunter2")
	o.Endpoints, o.AgentID = []string{"http://" + s.Addr()}, strings.Repeat("x", 999)
	require.ErrorContains(t, printer.Run(t.Context(), o), "refuses")
}
