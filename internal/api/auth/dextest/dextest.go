// Package dextest runs dex, a real OpenID Connect server, for tests. dex is built from the Go module registry, in the module of
// its own that lies in folder dex, so that nothing of it is in the service's go.mod; the program is kept in .cache, and built
// again when anything of it changes. The first build takes about a minute of one core.
package dextest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"changeover/internal/logtest"
)

// Config is what dex knows.
type Config struct {
	Clients   []Client
	Users     []User
	TokenLife time.Duration // of ID tokens and access tokens
}

// Client is a program that asks dex for tokens. A public one has no secret, and any redirect URI on localhost.
type Client struct {
	ID           string   `json:"id"`
	Secret       string   `json:"secret"`
	RedirectURIs []string `json:"redirectURIs"`
	Public       bool     `json:"public"`
	// TrustedPeers may ask for tokens with this client as audience, by the scope audience:server:client_id:ID.
	TrustedPeers []string `json:"trustedPeers"`
}

// User is somebody who can sign in. dex puts PreferredUsername and Groups into claims preferred_username and groups.
type User struct {
	ID, Email, Password, PreferredUsername string
	Groups                                 []string
}

// Dex is a running server. It ends with the test.
type Dex struct {
	t      testing.TB
	issuer string
	input  io.Writer
	output *bufio.Scanner
	stop   func()

	transport http.RoundTripper // of the browser in Token
}

// At is a dex that somebody else runs, for SignIn and Token alone. The transport leads a browser to the issuer.
func At(t testing.TB, issuer string, transport http.RoundTripper) *Dex {
	return &Dex{t: t, issuer: issuer, transport: transport}
}

// Start builds dex if need be and runs it on a free port of 127.0.0.1.
func Start(t testing.TB, c Config) *Dex {
	t.Helper()
	program, err := build()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program)
	cmd.WaitDelay = 5 * time.Second
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	d := &Dex{t: t, transport: transport}
	log := &bytes.Buffer{} // to be read when the process has ended
	cmd.Stderr = log
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	d.stop = sync.OnceFunc(func() {
		input.Close() // dex ends with its input
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("dex says:\n%s", log)
		}
	})
	d.input, d.output = input, bufio.NewScanner(output)
	line, err := json.Marshal(c)
	require.NoError(t, err)
	d.issuer = d.tell(string(line))
	return d
}

// tell sends a line and returns the answer.
func (d *Dex) tell(line string) string {
	d.t.Helper()
	_, err := fmt.Fprintln(d.input, line)
	require.NoError(d.t, err)
	require.True(d.t, d.output.Scan(), "dex has ended: %v", d.output.Err())
	return d.output.Text()
}

// Issuer is the issuer's URL.
func (d *Dex) Issuer() string { return d.issuer }

// Rotate makes dex sign with a new key from now on; the old one stays published.
func (d *Dex) Rotate() {
	d.t.Helper()
	require.Equal(d.t, "ok", d.tell("rotate"))
}

// Forget withdraws every key but the one that signs now.
func (d *Dex) Forget() {
	d.t.Helper()
	require.Equal(d.t, "ok", d.tell("forget"))
}

// Stop ends dex: nobody can reach it any more.
func (d *Dex) Stop() { d.stop() }

// Token does what a desktop does that is a public client, in its user's browser: the authorization code flow with PKCE. It
// returns the ID token for these scopes.
func (d *Dex) Token(client, email, password string, scopes ...string) string {
	d.t.Helper()
	c := oauth2.Config{
		ClientID: client, RedirectURL: "http://localhost:8765/callback", Scopes: append([]string{"openid", "profile", "groups"}, scopes...),
		Endpoint: oauth2.Endpoint{AuthURL: d.issuer + "/auth", TokenURL: d.issuer + "/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	jar, err := cookiejar.New(nil)
	require.NoError(d.t, err)
	browser := &http.Client{Jar: jar, Transport: d.transport}
	pkce := oauth2.GenerateVerifier()
	back := d.SignIn(browser, c.AuthCodeURL("s", oauth2.S256ChallengeOption(pkce)), email, password)
	require.Equal(d.t, "s", back.Query().Get("state"))
	tokens, err := c.Exchange(context.WithValue(d.t.Context(), oauth2.HTTPClient, browser), back.Query().Get("code"), oauth2.VerifierOption(pkce))
	require.NoError(d.t, err)
	token, ok := tokens.Extra("id_token").(string)
	require.True(d.t, ok)
	return logtest.Secret(token)
}

var (
	form   = regexp.MustCompile(`(?s)<form method="post"(?: action="([^"]*)")?>(.*?)</form>`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// SignIn does what a person does with a browser that a program sent to authURL: fills in dex's form with address and password,
// grants access on the next, and is sent back. It returns where to. The browser has to keep cookies; it follows redirects
// within dex alone.
func (d *Dex) SignIn(browser *http.Client, authURL, email, password string) *url.URL {
	d.t.Helper()
	page, back := d.visit(browser, http.MethodGet, authURL, nil)
	require.Nil(d.t, back, "dex asks nobody who they are: %s", back)
	page, back = d.submit(browser, page, url.Values{"login": {email}, "password": {password}})
	if back == nil { // unless oauth2.skipApprovalScreen
		_, back = d.submit(browser, page, nil)
	}
	require.NotNil(d.t, back, "dex does not send the browser back")
	logtest.Secret(back.Query().Get("code"))
	return back
}

type page struct {
	url  *url.URL
	body string
}

// submit fills in the first form of a page: the one that goes on.
func (d *Dex) submit(browser *http.Client, p page, values url.Values) (page, *url.URL) {
	d.t.Helper()
	f := form.FindStringSubmatch(p.body)
	require.NotNil(d.t, f, "dex shows no form at %s:\n%s", p.url.Path, p.body)
	if values == nil {
		values = url.Values{}
	}
	for _, h := range hidden.FindAllStringSubmatch(f[2], -1) {
		values.Set(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
	}
	action := p.url
	if f[1] != "" {
		var err error
		action, err = p.url.Parse(html.UnescapeString(f[1]))
		require.NoError(d.t, err)
	}
	return d.visit(browser, http.MethodPost, action.String(), values)
}

// visit returns a page of dex, or where it sends the browser to.
func (d *Dex) visit(browser *http.Client, method, address string, values url.Values) (page, *url.URL) {
	d.t.Helper()
	b := *browser
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for range 10 {
		req, err := http.NewRequestWithContext(d.t.Context(), method, address, strings.NewReader(values.Encode()))
		require.NoError(d.t, err)
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := b.Do(req)
		require.NoError(d.t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(d.t, err)
		if resp.StatusCode < 300 || resp.StatusCode > 399 {
			require.Equal(d.t, http.StatusOK, resp.StatusCode, "%s", body)
			return page{req.URL, string(body)}, nil
		}
		to, err := resp.Location()
		require.NoError(d.t, err)
		if !strings.HasPrefix(to.String(), d.issuer+"/") {
			return page{}, to
		}
		method, address, values = http.MethodGet, to.String(), nil
	}
	require.FailNow(d.t, "dex redirects without an end")
	return page{}, nil
}

// build returns the program.
func build() (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if data, err := os.ReadFile(filepath.Join(root, "go.mod")); err == nil && bytes.HasPrefix(data, []byte("module changeover\n")) {
			break
		}
		if root == filepath.Dir(root) {
			return "", fmt.Errorf("dextest runs within the sources of changeover only")
		}
		root = filepath.Dir(root)
	}
	source := filepath.Join(root, "internal", "api", "auth", "dextest", "dex")
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version())
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		sum.Write(data)
	}
	program := filepath.Join(root, ".cache", "dex", hex.EncodeToString(sum.Sum(nil))[:16], "dex")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return "", err
	}
	// Another test may build it too: whoever is last puts the same in place.
	unfinished := fmt.Sprintf("%s.%d", program, os.Getpid())
	cmd := exec.Command("go", "build", "-buildvcs=false", "-mod=readonly", "-o", unfinished, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build dex in %s (it needs the Go module registry, once): %w\n%s", source, err, out)
	}
	return program, os.Rename(unfinished, program)
}
