package app

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"changeover/internal/api/contract"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
)

// span is one that the receiver got, with the service that told it.
type span struct {
	*otlp.Span
	service, instance string
}

func (s span) parent() string { return hex.EncodeToString(s.ParentSpanId) }
func (s span) id() string     { return hex.EncodeToString(s.SpanId) }

func (s span) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// receiver takes traces by OTLP over HTTP.
type receiver struct {
	url string

	mu    sync.Mutex
	spans []span
	raw   []byte // all that came
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		assert.NoError(t, err)
		assert.Equal(t, "/v1/traces", request.URL.Path)
		assert.Equal(t, "application/x-protobuf", request.Header.Get("Content-Type"))
		var in collector.ExportTraceServiceRequest
		assert.NoError(t, proto.Unmarshal(body, &in))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw = append(r.raw, body...)
		for _, resource := range in.ResourceSpans {
			of := span{}
			for _, a := range resource.Resource.Attributes {
				switch a.Key {
				case "service.name":
					of.service = a.Value.GetStringValue()
				case "service.instance.id":
					of.instance = a.Value.GetStringValue()
				}
			}
			for _, scope := range resource.ScopeSpans {
				for _, s := range scope.Spans {
					of.Span = s
					r.spans = append(r.spans, of)
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// below are the spans of a name with a parent, or with a link to it.
func (r *receiver) below(parent span, name string) (found []span) {
	for _, s := range r.spans {
		linked := slices.ContainsFunc(s.Links, func(l *otlp.Span_Link) bool { return hex.EncodeToString(l.SpanId) == parent.id() })
		if (s.parent() == parent.id() || linked) && strings.HasPrefix(s.Name, name) {
			found = append(found, s)
		}
	}
	return found
}

// A shift is a trace from the poll that saw it to its delivery by each replica; the contact that ends is another. Nothing of what agents and people are
// called or say is in them.
func TestTraces(t *testing.T) {
	r := newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.url)
	t.Setenv("OTEL_SERVICE_NAME", "the-service")
	floor := newFloor(t, connectsim.Config{Agents: 4})
	on, held := floor.agent(0), floor.agent(1)
	contact := floor.call(t, on, connectsim.ChannelVoice)
	floor.call(t, held, connectsim.ChannelChat)
	database := postgrestest.NewDatabase(t)
	services := []*service{start(t, configuration(floor, database)), start(t, configuration(floor, database))}
	var desktops []*desktop
	for _, s := range services {
		s.untilHolds(t, on, 1)
		s.untilHolds(t, held, 1)
		d := follow(t, on, s)
		d.opened(t)
		desktops = append(desktops, d)
	}
	floor.shift(t, west)
	for _, d := range desktops {
		d.next(t, "failoverDetected")
		d.next(t, "failoverPending")
	}
	require.NoError(t, floor.EndContact(contact))
	require.NoError(t, floor.ClearContact(contact))
	for _, d := range desktops {
		d.next(t, "failoverCompleted")
	}
	const reason = "said the secret auditor"
	failover := get[contract.Agent](t, services[0], "/v1/agents/"+held).FailoverID
	status, body := services[0].request(t, http.MethodPost, "/v1/failovers/"+*failover+"/force", map[string]any{"reason": reason})
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	for _, s := range services {
		s.untilWorksIn(t, held, west)
		s.stop(t) // and tells the rest
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	whole := func(root string) bool { // from there to the delivery by both
		return slices.ContainsFunc(r.spans, func(poll span) bool {
			return poll.Name == root && len(poll.ParentSpanId) == 0 && slices.ContainsFunc(r.below(poll, "decide"), func(decide span) bool {
				return slices.ContainsFunc(r.below(decide, "commit"), func(commit span) bool {
					delivered := map[string]bool{}
					for _, d := range r.below(commit, "deliver") {
						if d.attribute("changeover.writes") != `int_value:0` {
							delivered[d.instance] = true
						}
						require.Equal(t, "the-service", d.service)
						require.Equal(t, commit.TraceId, d.TraceId)
					}
					calls, statements := r.below(poll, "Amazon Connect "), r.below(commit, "")
					return len(delivered) == 2 && len(calls) > 0 && calls[0].attribute("cloud.region") != "" && len(statements) > 4 &&
						commit.attribute("changeover.agents") != "" && commit.attribute("changeover.events") != ""
				})
			})
		})
	}
	require.True(t, whole("poll traffic distribution"), "no trace of the detection:\n%v", r)
	require.True(t, whole("read contacts"), "no trace of the completion:\n%v", r)
	for _, a := range floor.Agents() {
		require.NotContains(t, string(r.raw), a.ID)
		require.NotContains(t, string(r.raw), a.Username)
	}
	for _, secret := range []string{contact, reason, *failover, "postgres://"} {
		require.NotContains(t, string(r.raw), secret)
	}
}

// String lists the spans from decisions on.
func (r *receiver) String() string {
	var b strings.Builder
	for _, s := range r.spans {
		switch s.Name {
		case "decide", "commit", "deliver":
			fmt.Fprintln(&b, s.instance, s.Name, s.id(), "of", s.parent(), s.attribute("changeover.events"), s.attribute("changeover.writes"), len(s.Links))
		}
	}
	return b.String()
}

// Without a receiver there are no traces; what Changeover cannot do is refused at the start.
func TestTracingIsOff(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		on   bool
		says string
	}{
		"nothing is set":    {},
		"a receiver":        {env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, on: true},
		"the SDK is off":    {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}},
		"traces are off":    {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}},
		"another exporter":  {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "zipkin"}, says: "OTEL_TRACES_EXPORTER"},
		"another transport": {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, says: "OTEL_EXPORTER_OTLP_PROTOCOL"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			provider, err := newTracing(t.Context(), "replica", logtest.New(nil))
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.on, provider != nil)
			if provider != nil {
				require.NoError(t, provider.Shutdown(t.Context()))
			}
		})
	}
}
