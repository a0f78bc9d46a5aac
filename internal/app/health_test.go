package app

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// The health command's question to a service that runs: with TLS and without, by an unspecified address, and of one that drains or is gone.
func TestHealth(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	cert, key, _ := certificate(t, time.Now().Add(time.Hour))
	for name, change := range map[string]func(*config.HTTP){
		"plain":   func(*config.HTTP) {},
		"TLS":     func(c *config.HTTP) { c.TLSCert, c.TLSKey = cert, key },
		"metrics": func(c *config.HTTP) { c.TLSCert, c.TLSKey, c.MetricsListen = cert, key, "127.0.0.1:0" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := configuration(floor, postgrestest.NewDatabase(t))
			change(&c.HTTP)
			s := start(t, c)
			at := *c
			at.HTTP.Listen = s.Addr()
			if c.HTTP.MetricsListen != "" {
				at.HTTP.MetricsListen = s.MetricsAddr()
			}
			c = &at
			require.Eventually(t, func() bool { return Health(t.Context(), c) == nil }, patience, 20*time.Millisecond)
			s.api.Drain()
			require.ErrorContains(t, Health(t.Context(), c), "/readyz says 503 Service Unavailable: ")
			s.stop(t)
			require.ErrorContains(t, Health(t.Context(), c), "the service does not answer at http")
		})
	}
}

func TestProbeURL(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:8080":      "http://127.0.0.1:8080/readyz",
		":8080":               "http://127.0.0.1:8080/readyz",
		"0.0.0.0:8080":        "http://127.0.0.1:8080/readyz",
		"[::]:8080":           "http://[::1]:8080/readyz",
		"10.1.2.3:80":         "http://10.1.2.3:80/readyz",
		"pod.example.com:443": "http://pod.example.com:443/readyz",
	} {
		got, err := probeURL(config.HTTP{Listen: listen})
		require.NoError(t, err)
		require.Equal(t, want, got)
		_, err = http.NewRequest(http.MethodGet, got, nil)
		require.NoError(t, err)
	}
	_, err := probeURL(config.HTTP{Listen: ":8080", MetricsListen: "127.0.0.1:0"})
	require.EqualError(t, err, "http.metricsListen is 127.0.0.1:0: a free port, which only the service knows")
}
