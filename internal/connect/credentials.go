package connect

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

const (
	// expiryWindow is how long before their end credentials are renewed, so that a shorter outage of STS does no harm.
	expiryWindow = 5 * time.Minute
	// renewalRetry is how long credentials that have not ended, but could not be renewed, are used before the next attempt.
	renewalRetry = 30 * time.Second
	// sessionName is what CloudTrail shows of an assumed role.
	sessionName = "changeover"
)

// credentialsError says that a request was not sent for want of credentials.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "get credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// loadConfig makes the Region's own AWS configuration. The default chain builds STS from it, and so does the role: the
// STS is the one of the Region, and the end of one Region takes no credentials of the other with it. Nothing is sent yet.
func loadConfig(ctx context.Context, o Options) (aws.Config, *http.Client, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(o.Region),
		config.WithHTTPClient(buildableClient(o)),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithCredentialsCacheOptions(setExpiryWindow),
		config.WithLogger(logging.Nop{}), // what matters comes back as an error
	)
	if err != nil {
		return aws.Config{}, nil, fmt.Errorf("load the AWS configuration for %s: %w", o.Region, err)
	}
	client, err := httpClient(o, cfg.HTTPClient)
	if err != nil {
		return aws.Config{}, nil, err
	}
	cfg.HTTPClient = client
	chain := cfg.Credentials
	if o.RoleARN != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), o.RoleARN, func(a *stscreds.AssumeRoleOptions) {
			a.RoleSessionName = sessionName
		})
		chain = aws.NewCredentialsCache(role, setExpiryWindow)
	}
	cfg.Credentials = aws.NewCredentialsCache(&renewing{chain: chain, timeout: o.RequestTimeout / 2})
	return cfg, client, nil
}

func setExpiryWindow(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow }

// renewing makes the expiry window of the cache that it wraps worth having: when renewal fails inside the window, the
// SDK would fail the request although its credentials are good for minutes. Here they go on being used. Renewal gets
// a part of the request's time only, so that even a hanging STS leaves enough for the request itself.
//
// The cache around it calls one method at a time.
type renewing struct {
	chain   aws.CredentialsProvider
	timeout time.Duration
	ends    time.Time // when the credentials at hand really end
}

// Retrieve implements [aws.CredentialsProvider].
func (r *renewing) Retrieve(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	had, err := r.chain.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	r.ends = had.Expires.Add(expiryWindow) // the wrapped cache tells them to end one window earlier
	return had, nil
}

// HandleFailToRefresh implements [aws.HandleFailRefreshCredentialsCacheStrategy].
func (r *renewing) HandleFailToRefresh(_ context.Context, previous aws.Credentials, err error) (aws.Credentials, error) {
	now := time.Now()
	if !previous.HasKeys() || !now.Before(r.ends) {
		return aws.Credentials{}, err
	}
	previous.Expires = now.Add(renewalRetry)
	if r.ends.Before(previous.Expires) {
		previous.Expires = r.ends
	}
	return previous, nil
}
