package auth

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// running runs a Verifier until the test ends, and returns the test's context.
func running(t *testing.T, v *Verifier) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return t.Context()
}

// The issuer's new key is found when the first token names it, without a restart.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx := running(t, v)
		time.Sleep(time.Minute)
		i.rotate("rsa1", "p256")
		start := time.Now()
		_, err := v.Verify(ctx, sign("p256", good()))
		require.NoError(t, err)
		require.Zero(t, time.Since(start), "after a quiet time nobody waits")
		_, err = v.Verify(ctx, sign("rsa1", good()))
		require.NoError(t, err)
		require.Equal(t, 2, i.fetched())
		time.Sleep(time.Hour)
		require.InDelta(t, 2+int(time.Hour/urlPeriod), i.fetched(), 2, "and they are read again by and by")
	})
}

// Memory exhaustion by good tokens: the cache forgets what was used long ago, and gives the same answers.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	v := newIssuer("ed").verifier(t)
	v.cache = newCache(10)
	tokens := make([]string, 50)
	for n := range tokens {
		tokens[n] = sign("ed", good(map[string]any{"sub": fmt.Sprint("s", n)}))
	}
	for range 2 {
		for n, token := range tokens {
			for range 2 {
				id, err := v.Verify(t.Context(), token)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint("s", n), id.Subject)
			}
			require.LessOrEqual(t, len(v.cache.young), 10)
			require.LessOrEqual(t, len(v.cache.old), 10)
		}
	}
}

// A key that the issuer withdraws (it was stolen) ends the tokens that it signed, those remembered as good too, within minutes.
func TestWithdrawnKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1", "rsa2")
		v := i.verifier(t)
		ctx := running(t, v)
		token := sign("rsa1", good(map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()}))
		_, err := v.Verify(ctx, token)
		require.NoError(t, err)
		i.rotate("rsa2")
		_, err = v.Verify(ctx, token)
		require.NoError(t, err, "nobody has told us yet")
		time.Sleep(urlPeriod + urlPeriod/10)
		_, err = v.Verify(ctx, token)
		require.ErrorIs(t, err, ErrUnauthenticated)
		// The same name for another key changes nothing for the old one's tokens.
		i.set(func(i *issuer) { i.keys["rsa1"] = testKeys()["rsa2"] })
		time.Sleep(2 * urlPeriod)
		_, err = v.Verify(ctx, token)
		require.ErrorIs(t, err, ErrUnauthenticated)
	})
}

// Fetch storm: forged kids, thousands of them, make at most one request to the issuer in five seconds, and hold at most so many
// requests; a real new key is still found.
func TestForgedKidsMakeNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx := running(t, v)
		const seconds = 60
		var wg sync.WaitGroup
		var mu sync.Mutex
		answers := map[error]int{}
		for s := range seconds {
			for n := range 20 {
				kid := fmt.Sprintf("forged-%d-%d", s, n)
				wg.Go(func() {
					_, err := v.Verify(ctx, signWith(testKeys()["p256"], "ES256", map[string]any{"kid": kid}, good()))
					mu.Lock()
					defer mu.Unlock()
					for _, e := range []error{ErrUnauthenticated, ErrUnavailable} {
						if strings.HasPrefix(err.Error(), e.Error()) {
							answers[e]++
						}
					}
				})
			}
			if s == 30 {
				i.rotate("rsa1", "rsa2")
				wg.Go(func() {
					start := time.Now()
					_, err := v.Verify(ctx, sign("rsa2", good()))
					if err != nil || time.Since(start) > urlGap {
						t.Errorf("the first token of a new key during the storm: %v after %s", err, time.Since(start))
					}
				})
			}
			time.Sleep(time.Second)
		}
		wg.Wait()
		require.LessOrEqual(t, i.fetched(), 2+int((seconds+urlGap.Seconds())/urlGap.Seconds()))
		require.Equal(t, seconds*20, answers[ErrUnauthenticated]+answers[ErrUnavailable])
		require.NotZero(t, answers[ErrUnauthenticated])
	})
}

// The same while the issuer hangs: the requests that wait are few, and the others are told at once to come again.
func TestForgedKidsWhileTheIssuerHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx := running(t, v)
		time.Sleep(urlGap)
		hold := make(chan struct{})
		i.set(func(i *issuer) { i.hold = hold })
		var wg sync.WaitGroup
		for n := range maxWaiting {
			kid := fmt.Sprint("forged-", n)
			wg.Go(func() {
				_, err := v.Verify(ctx, signWith(testKeys()["p256"], "ES256", map[string]any{"kid": kid}, good()))
				if !strings.HasPrefix(err.Error(), ErrUnavailable.Error()) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		_, err := v.Verify(ctx, signWith(testKeys()["p256"], "ES256", map[string]any{"kid": "one more"}, good()))
		require.ErrorIs(t, err, ErrUnavailable)
		require.Zero(t, time.Since(start))
		_, err = v.Verify(ctx, sign("rsa1", good()))
		require.NoError(t, err, "known keys need no issuer")
		wg.Wait()
		close(hold)
	})
}

// A token that could not be good with any key is not worth a request: expired, of another issuer, for somebody else.
func TestHopelessTokensAskNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx := running(t, v)
		time.Sleep(urlGap)
		for _, c := range []map[string]any{{"exp": time.Now().Add(-time.Hour).Unix()}, {"iss": "https://other.example"}, {"aud": "payroll"}} {
			_, err := v.Verify(ctx, sign("p256", good(c)))
			require.ErrorIs(t, err, ErrUnauthenticated)
		}
		require.Equal(t, 1, i.fetched())
	})
}

// While the issuer is away, or answers nonsense, the last good keys stay; tokens of keys that are not known are neither accepted
// nor refused for good, and come in when it is back.
func TestIssuerAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*issuer){
		"no connection": func(i *issuer) { i.err = errNoRoute },
		"a login page":  func(i *issuer) { i.body = "<html>Sign in to the hotel's network</html>" },
		"no keys":       func(i *issuer) { i.body = `{"keys":[]}` },
		"its secret":    func(i *issuer) { i.body = `{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"p256"}]}` },
		"hanging":       func(i *issuer) { i.hold = make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer("rsa1")
				v := i.verifier(t)
				ctx := running(t, v)
				i.set(away)
				time.Sleep(24 * time.Hour)
				_, err := v.Verify(ctx, sign("rsa1", good()))
				require.NoError(t, err)
				start := time.Now()
				token := sign("p256", good())
				_, err = v.Verify(ctx, token)
				require.ErrorIs(t, err, ErrUnavailable)
				require.NotErrorIs(t, err, ErrUnauthenticated)
				silent(t, err, token)
				require.LessOrEqual(t, time.Since(start), urlGap+2*fetchTimeout)

				i.rotate("rsa1", "p256")
				i.set(func(i *issuer) { i.err, i.body, i.hold = nil, "", nil })
				_, err = v.Verify(ctx, token)
				require.NoError(t, err)
			})
		})
	}
}

// A caller who goes away while its key is looked for takes nobody else's answer along.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx := running(t, v)
		time.Sleep(urlGap)
		hold := make(chan struct{})
		i.rotate("rsa1", "p256")
		i.set(func(i *issuer) { i.hold = hold })
		var wg sync.WaitGroup
		gone, cancel := context.WithCancel(ctx)
		wg.Go(func() {
			if _, err := v.Verify(gone, sign("p256", good())); err == nil {
				t.Error("an answer for somebody who has gone")
			}
		})
		wg.Go(func() {
			if _, err := v.Verify(ctx, sign("p256", good())); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(hold)
		wg.Wait()
	})
}

// Stop: nobody waits for keys that nobody will read any more.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = v.Run(ctx) })
		i.set(func(i *issuer) { i.hold = make(chan struct{}) })
		wg.Go(func() {
			if _, err := v.Verify(t.Context(), sign("p256", good())); err == nil {
				t.Error("accepted")
			}
		})
		time.Sleep(urlGap + time.Second)
		start := time.Now()
		cancel()
		wg.Wait()
		require.Zero(t, time.Since(start))
	})
}

// A key file is read again when it changes, also when it is swapped as a whole, as Kubernetes does with a mounted secret; while it is
// broken or missing the last good keys stay.
func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		i.err = errNoRoute // nothing is asked for
		path := filepath.Join(dir, "jwks.json")
		write := func(data string) {
			require.NoError(t, os.WriteFile(path+".new", []byte(data), 0o600))
			require.NoError(t, os.Rename(path+".new", path))
		}
		write(i.jwks())
		v := i.verifier(t, func(o *VerifierOptions) { o.JWKSFile = path })
		ctx := running(t, v)
		old, fresh := sign("rsa1", good()), sign("p256", good())
		_, err := v.Verify(ctx, old)
		require.NoError(t, err)
		_, err = v.Verify(ctx, fresh)
		require.ErrorIs(t, err, ErrUnauthenticated, "the file was read and does not have it")

		for _, broken := range []string{"", i.jwks()[:40], "{}"} {
			write(broken)
			time.Sleep(2 * filePeriod)
			_, err = v.Verify(ctx, old)
			require.NoError(t, err)
			_, err = v.Verify(ctx, fresh)
			require.ErrorIs(t, err, ErrUnavailable)
		}
		require.NoError(t, os.Remove(path))
		time.Sleep(2 * filePeriod)
		_, err = v.Verify(ctx, old)
		require.NoError(t, err)

		i.rotate("p256")
		write(i.jwks())
		time.Sleep(2 * filePeriod)
		_, err = v.Verify(ctx, fresh)
		require.NoError(t, err)
		_, err = v.Verify(ctx, old)
		require.ErrorIs(t, err, ErrUnauthenticated)
		require.Empty(t, i.requests)
	})
}

// What is wrong at the start is said with the address that was asked and what to do.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		issuer func(*issuer)
		change func(*VerifierOptions)
		says   []string
	}{
		"no connection":       {func(i *issuer) { i.err = errNoRoute }, nil, []string{testIssuer + "/.well-known/openid-configuration", "no route to host", "check auth.issuer", "HTTPS_PROXY", "SSL_CERT_FILE", "auth.jwksFile"}},
		"not an issuer":       {nil, func(o *VerifierOptions) { o.Issuer = "https://intranet.example.com" }, []string{"https://intranet.example.com/.well-known/openid-configuration", "Not Found", "check auth.issuer"}},
		"a slash too many":    {nil, func(o *VerifierOptions) { o.Issuer = testIssuer + "/" }, []string{`names the issuer "` + testIssuer + `"`, `auth.issuer is "` + testIssuer + `/"`, "a slash at the end included"}},
		"keys away":           {func(i *issuer) { i.err = errNoRoute }, func(o *VerifierOptions) { o.JWKSURL = testIssuer + "/keys" }, []string{testIssuer + "/keys", "no route to host", "check auth.jwksUrl"}},
		"no such keys":        {nil, func(o *VerifierOptions) { o.JWKSURL = testIssuer + "/nothing" }, []string{testIssuer + "/nothing", "Not Found"}},
		"no keys":             {func(i *issuer) { i.body = `{"keys":[]}` }, nil, []string{testIssuer + "/keys", "none of the 0 keys"}},
		"a file that is away": {nil, func(o *VerifierOptions) { o.JWKSFile = filepath.Join(dir, "jwks.json") }, []string{filepath.Join(dir, "jwks.json"), "no such file", "auth.jwksFile has to be"}},
		"two sources":         {nil, func(o *VerifierOptions) { o.JWKSFile, o.JWKSURL = "a", "https://b" }, []string{"auth.jwksUrl and auth.jwksFile are both set"}},
		"no source":           {nil, func(o *VerifierOptions) { o.Issuer = "" }, []string{"needs auth.issuer, auth.jwksUrl or auth.jwksFile"}},
		"no audience":         {nil, func(o *VerifierOptions) { o.Audience = "" }, []string{"auth.audience"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer("rsa1")
			if c.issuer != nil {
				i.set(c.issuer)
			}
			o := VerifierOptions{Issuer: testIssuer, Audience: testAudience, AgentClaim: "a", RolesClaim: "r", Transport: i, Log: testLog}
			if c.change != nil {
				c.change(&o)
			}
			_, err := NewVerifier(t.Context(), o)
			require.Error(t, err)
			for _, s := range c.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

// An issuer that hangs does not hold the start for ever.
func TestStartWhileTheIssuerHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		i.hold = make(chan struct{})
		start := time.Now()
		_, err := NewVerifier(t.Context(), VerifierOptions{Issuer: testIssuer, Audience: testAudience, AgentClaim: "a", RolesClaim: "r", Transport: i, Log: testLog})
		require.ErrorContains(t, err, testIssuer)
		require.Equal(t, discoveryTimeout, time.Since(start))
	})
}

// Downgrade: an https issuer whose document sends us for its keys over plain http, or nowhere.
func TestDiscoveryDowngrade(t *testing.T) {
	t.Parallel()
	for _, jwks := range []string{"http://idp.example.com/keys", "", "keys", "file:///etc/passwd", "https:///keys"} {
		transport := roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := newIssuer("rsa1").RoundTrip(req)
			require.NoError(t, err)
			resp.Body = http.NoBody
			resp.Body = body(`{"issuer":"` + testIssuer + `","jwks_uri":"` + jwks + `"}`)
			return resp, nil
		})
		_, err := NewVerifier(t.Context(), VerifierOptions{Issuer: testIssuer, Audience: testAudience, AgentClaim: "a", RolesClaim: "r", Transport: transport, Log: testLog})
		require.ErrorContains(t, err, "jwks_uri is not an https URL", jwks)
	}
}

// Memory exhaustion by a key set without an end.
func TestEndlessKeySet(t *testing.T) {
	t.Parallel()
	transport := roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := newIssuer("rsa1").RoundTrip(req)
		if strings.HasSuffix(req.URL.Path, "/keys") {
			resp.Body = endless{}
		}
		return resp, err
	})
	_, err := NewVerifier(t.Context(), VerifierOptions{Issuer: testIssuer, Audience: testAudience, AgentClaim: "a", RolesClaim: "r", Transport: transport, Log: testLog})
	require.ErrorContains(t, err, "not a JSON Web Key Set")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type stringBody struct{ *strings.Reader }

func (stringBody) Close() error { return nil }

func body(s string) stringBody { return stringBody{strings.NewReader(s)} }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
func (endless) Close() error { return nil }
