package auth

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// When keys are read again. The first number is how long a withdrawn key is good for at most; the second bounds what forged
// tokens can make the issuer do, and how long the first token of a new key waits.
const (
	urlPeriod  = 5 * time.Minute
	urlGap     = 5 * time.Second
	filePeriod = 5 * time.Second
	fileGap    = time.Second

	retryPeriod  = 30 * time.Second // after a failure, unless the period is shorter
	fetchTimeout = 5 * time.Second
	maxWaiting   = 256 // requests that wait for keys; the others are told to come again
	maxDocument  = 1 << 20
)

// keyring holds the issuer's keys and keeps them fresh. It is an oidc.KeySet.
type keyring struct {
	where       string // the URL or the file, for messages
	fetch       func(context.Context) ([]byte, error)
	period, gap time.Duration
	log         *slog.Logger

	current atomic.Pointer[keySet]

	ask  chan struct{} // one place: a token names a key that is not there
	done chan struct{} // closed when run has returned

	mu      sync.Mutex
	next    *refresh      // the refresh that has not begun yet and that callers wait for; nil: nobody does
	changed chan struct{} // closed and replaced when current changes
	waiting int
	begun   time.Time // of the last refresh
	failing bool
}

// refresh is one reading of the keys. err may be read when done is closed.
type refresh struct {
	done chan struct{}
	err  error
}

// newKeyring reads the keys for the first time.
func newKeyring(ctx context.Context, where string, fetch func(context.Context) ([]byte, error), period, gap time.Duration, log *slog.Logger) (*keyring, error) {
	k := &keyring{
		where: where, fetch: fetch, period: period, gap: gap, log: log,
		ask: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{}), begun: time.Now(),
	}
	set, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	k.current.Store(set)
	k.log.InfoContext(ctx, "signing keys read", "source", where, "keys", len(set.all), "ignored", set.ignored)
	return k, nil
}

func (k *keyring) read(ctx context.Context) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	data, err := k.fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the keys of %s: %w", k.where, err)
	}
	set, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read the keys of %s: %w", k.where, err)
	}
	return set, nil
}

// run reads the keys again and again until ctx ends. Every reading but the first happens here, one after the other.
func (k *keyring) run(ctx context.Context) {
	defer close(k.done)
	timer := time.NewTimer(jitter(k.period))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.ask:
			wait := time.NewTimer(k.gap - time.Since(k.begun)) // may be over already
			select {
			case <-ctx.Done():
				wait.Stop()
				return
			case <-wait.C:
			}
		}
		if k.refresh(ctx) {
			timer.Reset(jitter(k.period))
		} else {
			timer.Reset(jitter(min(k.period, retryPeriod)))
		}
	}
}

// refresh reads the keys once and tells who waits for them. A failure changes nothing.
func (k *keyring) refresh(ctx context.Context) bool {
	k.mu.Lock()
	r := k.next
	k.next = nil
	k.begun = time.Now()
	k.mu.Unlock()

	set, err := k.read(ctx)
	if ctx.Err() != nil {
		return false
	}
	old := k.current.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	if r != nil {
		r.err = err
		defer close(r.done)
	}
	if err != nil {
		if !k.failing {
			k.log.WarnContext(ctx, "signing keys not read, the last ones stay", "source", k.where, "keys", len(old.all), "error", err)
		}
		k.failing = true
		return false
	}
	if k.failing {
		k.log.InfoContext(ctx, "signing keys read again", "source", k.where, "keys", len(set.all))
	}
	k.failing = false
	if !set.same(old) {
		k.current.Store(set)
		close(k.changed)
		k.changed = make(chan struct{})
		k.log.InfoContext(ctx, "signing keys changed", "source", k.where, "keys", len(set.all), "ignored", set.ignored)
	}
	return true
}

func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// attempt is one verification of a token. It travels in the context, because go-oidc keeps only the text of errors.
type attempt struct {
	// worth says whether a token that is not verified yet is worth asking the issuer for keys.
	worth   func(payload []byte) bool
	payload []byte
	key     *key // that verified it
	err     error
}

type attemptKey struct{}

// VerifySignature implements oidc.KeySet for a token with one of algorithms.
func (k *keyring) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	a := ctx.Value(attemptKey{}).(*attempt)
	a.err = k.verify(ctx, token, a)
	return a.payload, a.err
}

func (k *keyring) verify(ctx context.Context, token string, a *attempt) error {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return refuse("the token is not a signed JWT of an allowed algorithm")
	}
	header := jws.Signatures[0].Protected
	if err := plainHeader(header); err != nil {
		return err
	}
	keys := k.current.Load().find(header.KeyID, header.Algorithm)
	if len(keys) == 0 {
		if !a.worth(jws.UnsafePayloadWithoutVerification()) {
			return refuse("the token is of another issuer, for another audience or expired, and names a key that the issuer does not have")
		}
		if keys, err = k.await(ctx, header.KeyID, header.Algorithm); err != nil {
			return err
		}
	}
	for _, candidate := range keys {
		if payload, err := jws.Verify(candidate.public); err == nil {
			a.payload, a.key = payload, candidate
			return nil
		}
	}
	return refuse("the token's signature is not the issuer's")
}

// tokenTypes are the values of typ that a token of ours may have, in lower case and without "application/" (RFC 8725 §3.11). Others
// are signed with the same keys for other purposes: a logout token must not let anybody in.
var tokenTypes = []string{"jwt", "at+jwt", "id+jwt"}

// plainHeader refuses headers that change what is signed or what the token is for. What they say about keys is not looked at.
func plainHeader(h jose.Header) error {
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := h.ExtraHeaders[name]; ok {
			return refuse("the token's header asks for an extension")
		}
	}
	typ, ok := h.ExtraHeaders[jose.HeaderType]
	if !ok {
		return nil
	}
	s, _ := typ.(string)
	if !slices.Contains(tokenTypes, strings.TrimPrefix(strings.ToLower(s), "application/")) {
		return refuse("the token is of a type for another purpose")
	}
	return nil
}

// await has the keys read and waits until the one that is asked for is there, or it is certain that it is not.
func (k *keyring) await(ctx context.Context, kid, algorithm string) ([]*key, error) {
	k.mu.Lock()
	if k.waiting >= maxWaiting {
		k.mu.Unlock()
		return nil, fmt.Errorf("%w: too many requests wait for the issuer's keys", ErrUnavailable)
	}
	k.waiting++
	if k.next == nil {
		k.next = &refresh{done: make(chan struct{})}
		select {
		case k.ask <- struct{}{}:
		default:
		}
	}
	mine, changed := k.next, k.changed
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.waiting--
		k.mu.Unlock()
	}()

	// Nobody waits longer than for the gap, the refresh before and his own.
	limit := time.NewTimer(k.gap + 2*fetchTimeout)
	defer limit.Stop()
	for {
		if keys := k.current.Load().find(kid, algorithm); len(keys) > 0 {
			return keys, nil
		}
		select {
		case <-mine.done:
			if mine.err != nil {
				return nil, fmt.Errorf("%w: the token names an unknown key and the issuer cannot be asked: %w", ErrUnavailable, mine.err)
			}
			if keys := k.current.Load().find(kid, algorithm); len(keys) > 0 {
				return keys, nil
			}
			return nil, refuse("the token names a key that the issuer does not have")
		case <-changed:
			k.mu.Lock()
			changed = k.changed
			k.mu.Unlock()
		case <-limit.C:
			return nil, fmt.Errorf("%w: the issuer's keys were not read in time", ErrUnavailable)
		case <-k.done:
			return nil, fmt.Errorf("%w: the service stops", ErrUnavailable)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the caller has gone: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// fromURL reads a key set with a GET. client bounds what it reads.
func fromURL(client *http.Client, url string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Cache-Control", "no-cache") // a proxy's old copy would hide a rotation
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the issuer answers %s", resp.Status)
		}
		return io.ReadAll(resp.Body)
	}
}

// fromFile reads a key set from a file; a few kilobytes, so that looking for a change is reading it. A mounted secret that is
// replaced as a whole is noticed too.
func fromFile(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxDocument))
	}
}

// newClient is what the issuer is called with: answers are bounded in size, and requests by their contexts.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &http.Client{Transport: bounded{transport}}
}

// bounded ends the body of an answer after maxDocument bytes: go-oidc reads discovery documents as long as they come.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = &struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxDocument), resp.Body}
	}
	return resp, err
}
