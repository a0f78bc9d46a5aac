package connect

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"
)

const testRole = "arn:aws:iam::111122223333:role/changeover"

// stsTransport plays the STS that gives credentials for a role, and Amazon Connect behind it.
type stsTransport struct {
	mu       sync.Mutex
	sts      roundTripper // nil: gives credentials for an hour
	given    int          // credentials given; the access key ends in their number
	hosts    []string     // of the requests to STS
	keys     []string     // access keys of the requests to Amazon Connect
	roleName string
}

func (s *stsTransport) fail(next roundTripper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sts = next
}

func (s *stsTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.HasPrefix(req.URL.Host, "sts.") {
		key, _, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="), "/")
		s.keys = append(s.keys, key)
		return answer(req, write(200, "", distribution)), nil
	}
	s.hosts = append(s.hosts, req.URL.Host)
	if s.sts != nil {
		next := s.sts
		s.mu.Unlock()
		defer s.mu.Lock()
		return next(req)
	}
	if err := req.ParseForm(); err != nil {
		return nil, err
	}
	s.roleName = req.PostForm.Get("RoleArn") + " as " + req.PostForm.Get("RoleSessionName")
	s.given++
	type credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	body, err := xml.Marshal(struct {
		XMLName     xml.Name    `xml:"AssumeRoleResponse"`
		Credentials credentials `xml:"AssumeRoleResult>Credentials"`
	}{Credentials: credentials{fmt.Sprintf("ASIA%d", s.given), "s", "t", time.Now().UTC().Add(time.Hour)}})
	if err != nil {
		return nil, err
	}
	return answer(req, write(200, "", string(body))), nil
}

func (s *stsTransport) lastKey() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[len(s.keys)-1]
}

func newWithRole(t *testing.T, region string) (*Client, *stsTransport) {
	transport := &stsTransport{}
	return newClient(t, func(o *Options) {
		o.Region, o.RoleARN, o.Transport, o.RequestTimeout = region, testRole, transport, 4*time.Second
	}), transport
}

func get(t *testing.T, c *Client) error {
	t.Helper()
	_, err := c.GetTrafficDistribution(t.Context(), testTDG)
	return err
}

// The STS of another Region may be down with that Region.
func TestRoleIsAssumedInItsOwnRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, region := range []string{"us-east-1", "us-west-2", "eu-central-1"} {
			c, transport := newWithRole(t, region)
			for range 3 {
				require.NoError(t, get(t, c))
			}
			require.Equal(t, []string{"sts." + region + ".amazonaws.com"}, transport.hosts, "one assumption for three requests")
			require.Equal(t, []string{"ASIA1", "ASIA1", "ASIA1"}, transport.keys)
			require.Equal(t, testRole+" as changeover", transport.roleName)
		}
	})
}

func TestCredentialsAreRenewedBeforeTheyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newWithRole(t, "us-west-2")
		require.NoError(t, get(t, c))
		time.Sleep(54 * time.Minute)
		require.NoError(t, get(t, c))
		require.Equal(t, "ASIA1", transport.lastKey())
		time.Sleep(2 * time.Minute)
		require.NoError(t, get(t, c))
		require.Equal(t, "ASIA2", transport.lastKey())
	})
}

// STS fails, in any way, when credentials are due for renewal: they are used to their end, and the first answer of STS
// gives new ones.
func TestCredentialsOutliveAnOutageOfSTS(t *testing.T) {
	for name, outage := range map[string]roundTripper{
		"refusing": refusingTransport,
		"hanging":  hangingTransport,
		"failing":  answering(503, "", html503),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, transport := newWithRole(t, "us-west-2")
				require.NoError(t, get(t, c))
				transport.fail(outage)
				time.Sleep(55*time.Minute + time.Second)
				start := time.Now()
				requests := 0
				for time.Since(start) < 4*time.Minute {
					require.NoError(t, get(t, c), "%s into the outage", time.Since(start))
					require.Equal(t, "ASIA1", transport.lastKey())
					requests++
					time.Sleep(time.Second)
				}
				require.Greater(t, requests, 200, "few requests wait for STS")
				require.Less(t, len(transport.hosts), 12, "STS is not asked by every request")

				time.Sleep(time.Minute)
				err := get(t, c)
				require.Equal(t, Unavailable, KindOf(err), "%v", err)
				require.ErrorContains(t, err, "GetTrafficDistribution: unavailable: credentials: ")

				transport.fail(nil)
				time.Sleep(5 * time.Second)
				require.NoError(t, get(t, c))
				require.Equal(t, "ASIA2", transport.lastKey())
			})
		})
	}
}

func TestRoleThatMayNotBeAssumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newWithRole(t, "us-west-2")
		transport.fail(answering(403, "", `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: arn:aws:iam::1:user/x is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>`))
		err := get(t, c)
		require.Equal(t, Denied, KindOf(err), "%v", err)
		require.Equal(t, "GetTrafficDistribution: denied: credentials: STS AssumeRole: HTTP 403: AccessDenied: "+
			"User: arn:aws:iam::1:user/x is not authorized to perform: sts:AssumeRole", c.Health().LastError)
	})
}

// A credential process whose output cannot be read quotes that output, credentials included, in its error.
func TestNoCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	c := newClient(t, func(o *Options) { o.Transport = healthyTransport })
	err := get(t, c)
	require.Equal(t, Denied, KindOf(err), "%v", err)
	require.Contains(t, c.Health().LastError,
		"GetTrafficDistribution: denied: credentials: none in the environment, the AWS configuration files, or of this machine: ")

	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte("[default]\ncredential_process = echo "+testSecretKey+"\n"), 0o600))
	t.Setenv("AWS_CONFIG_FILE", file)
	c = newClient(t, func(o *Options) { o.Transport = healthyTransport })
	err = get(t, c)
	require.Equal(t, Denied, KindOf(err), "%v", err)
	require.Contains(t, errors.Unwrap(err).Error(), testSecretKey, "the attack is not played any more")
	requireNoSecret(t, err.Error())
	requireNoSecret(t, c.Health().LastError)
}

// failingProvider gives what it holds.
type failingProvider struct {
	credentials aws.Credentials
	err         error
}

func (p *failingProvider) Retrieve(context.Context) (aws.Credentials, error) {
	return p.credentials, p.err
}

func TestRenewingNeverUsesEndedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider := &failingProvider{credentials: aws.Credentials{
			AccessKeyID: "a", SecretAccessKey: "s", CanExpire: true, Expires: time.Now().Add(10 * time.Minute),
		}}
		chain := aws.NewCredentialsCache(provider, setExpiryWindow)
		cache := aws.NewCredentialsCache(&renewing{chain: chain, timeout: time.Second})
		_, err := cache.Retrieve(t.Context())
		require.NoError(t, err)
		provider.err = errors.New("no more")
		time.Sleep(10*time.Minute - time.Millisecond)
		_, err = cache.Retrieve(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
		_, err = cache.Retrieve(t.Context())
		require.ErrorContains(t, err, "no more")
	})
}
