package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"changeover/internal/config"
)

// healthTimeout is for the whole question: what runs on the same machine answers in a moment or is not well.
const healthTimeout = 3 * time.Second

// Health asks the service that runs with this configuration on this machine, or in this container, whether it is ready. It returns an
// error that says why if /readyz answers anything but 200.
func Health(ctx context.Context, c *config.Config) error {
	url, err := probeURL(c.HTTP)
	if err != nil {
		return err
	}
	// The certificate names the service as its callers see it, not this address, and nothing secret is sent or believed.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("the service does not answer at %s: %w", url, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s says %s: %s", url, answer.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// probeURL is where this machine reaches /readyz: on http.metricsListen if there is one, for its plain HTTP and its connections of its own.
func probeURL(c config.HTTP) (string, error) {
	key, address, scheme := "http.listen", c.Listen, "http"
	switch {
	case c.MetricsListen != "":
		key, address = "http.metricsListen", c.MetricsListen
	case c.TLSCert != "":
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	if port == "0" {
		return "", fmt.Errorf("%s is %s: a free port, which only the service knows", key, address)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = map[bool]string{true: "127.0.0.1", false: "::1"}[ip.Is4()]
	} else if host == "" {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/readyz", nil
}
