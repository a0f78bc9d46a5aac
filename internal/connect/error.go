package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Kind is what a failure means to the caller. Kinds are words for people and label values of the metrics, too.
type Kind string

// The kinds of failure; the empty Kind is none.
const (
	// Throttled: the account's quota for the operation is used up, at Amazon or by our own limiter's count. It says nothing about
	// the Region's health.
	Throttled Kind = "throttled"
	// Unavailable: no answer. Timeouts, broken or refused connections, every 5xx, and an open breaker (see [ErrCircuitOpen]).
	Unavailable Kind = "unavailable"
	// Denied: the credentials are missing, wrong, or not allowed to do this.
	Denied Kind = "denied"
	// NotFound: what was asked for does not exist, or not in this Region.
	NotFound Kind = "not_found"
	// Invalid: Amazon Connect refuses the request as it is, also because of the resource's state (a traffic
	// distribution group whose status is not ACTIVE).
	Invalid Kind = "invalid"
	// Malformed: something answered, but not what Amazon Connect answers: truncated JSON, a missing list, a page of HTML.
	Malformed Kind = "malformed"
)

// ErrCircuitOpen is the cause of an Unavailable error for a request that was not sent because the operation's last
// requests failed. It is no new evidence about the Region.
var ErrCircuitOpen = errors.New("not asked: the last requests failed")

// Error is the failure of one operation in one Region.
type Error struct {
	Kind      Kind // empty: cancelled by the caller
	Region    string
	Operation string
	Err       error // the cause. Its own text is not for logs: it can quote parts of the signed request
}

// Error names Region, operation, kind and what is known of the cause, and never a part of the credentials.
func (e *Error) Error() string {
	return fmt.Sprintf("amazon connect in %s: %s", e.Region, e.text())
}

// text is the error without its Region, as [Health] shows it.
func (e *Error) text() string {
	if e.Kind == "" {
		return e.Operation + ": cancelled"
	}
	return fmt.Sprintf("%s: %s: %s", e.Operation, e.Kind, describe(e.Err))
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of an error of this package, however it is wrapped. It is empty for nil and for what the
// caller cancelled, so it does not tell success: check the error first. Errors from elsewhere are Unavailable.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return ""
	}
	return Unavailable
}

// malformedError says what an answer lacks.
type malformedError string

func (e malformedError) Error() string { return string(e) }

// invalidError is a request that is not sent because it cannot be right.
type invalidError string

func (e invalidError) Error() string { return string(e) }

// quotaError is a wait for our own limiter that outlasted the caller's deadline.
type quotaError struct{ err error }

func (e *quotaError) Error() string { return "waiting for the request rate: " + e.err.Error() }
func (e *quotaError) Unwrap() error { return e.err }

// deniedCodes are the error codes that refuse who is asking. They come with 400 as well as with 401 and 403.
var deniedCodes = []string{
	"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnrecognizedClientException",
	"InvalidClientTokenId", "InvalidAccessKeyId", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
	"IncompleteSignature", "IncompleteSignatureException", "InvalidSignatureException", "SignatureDoesNotMatch",
	"ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed", "NotAuthorized", "OptInRequired",
}

// tellingCodes are the error codes whose messages are passed on: they tell what to repair, and unlike those about
// signatures (which quote the canonical request with its session token) they hold nothing secret.
var tellingCodes = []string{
	"AccessDenied", "AccessDeniedException", "ThrottlingException", "TooManyRequestsException", "InternalServiceException",
	"InvalidRequestException", "InvalidParameterException", "ResourceNotFoundException", "ResourceConflictException",
}

// classify maps everything that the SDK returns to a kind.
func classify(err error) Kind {
	var (
		malformed  malformedError
		invalid    invalidError
		quota      *quotaError
		credential *credentialsError
		api        smithy.APIError
		decoding   *smithy.DeserializationError
	)
	switch {
	case errors.As(err, &malformed):
		return Malformed
	case errors.As(err, &invalid):
		return Invalid
	case errors.As(err, &quota):
		return Throttled
	case errors.Is(err, ErrCircuitOpen):
		return Unavailable
	case errors.As(err, &credential):
		return classifyCredentials(credential.err)
	}

	status := statusOf(err)
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	_, throttle := retry.DefaultThrottleErrorCodes[code]
	switch {
	case status == http.StatusTooManyRequests || throttle: // also without an error type, which the SDK does not know as throttling
		return Throttled
	case status >= 500 || status == http.StatusRequestTimeout:
		return Unavailable
	case isNetwork(err): // also in the middle of a body
		return Unavailable
	case code != "" && (slices.Contains(deniedCodes, code) || status == http.StatusUnauthorized || status == http.StatusForbidden):
		return Denied
	case code != "" && (code == "ResourceNotFoundException" || status == http.StatusNotFound):
		return NotFound
	case code != "" && status >= 400:
		return Invalid
	case errors.As(err, &decoding), status != 0: // what answered is not Amazon Connect: a proxy's page, half a document
		return Malformed
	}
	var sending *smithyhttp.RequestSendError
	if errors.As(err, &sending) {
		return Unavailable
	}
	return Invalid
}

// classifyCredentials is classify for the credentials that a request needs: STS that does not answer is a part of the
// Region that does not answer; everything else is ours to repair.
func classifyCredentials(err error) Kind {
	if errors.Is(err, context.DeadlineExceeded) {
		return Unavailable
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) && operation.Service() == "STS" {
		if kind := classify(operation.Err); kind == Unavailable || kind == Throttled {
			return kind
		}
	}
	return Denied
}

// statusOf is the status of the answer that came with an error, or 0.
func statusOf(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil && response.Response.Response != nil {
		return response.HTTPStatusCode()
	}
	return 0
}

// isNetwork says whether the connection failed or time ran out.
func isNetwork(err error) bool {
	var network net.Error
	var operation *net.OpError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &operation) || errors.As(err, &network)
}

// describe tells the cause in a form that is safe to log and to show.
func describe(err error) string {
	var (
		credential *credentialsError
		api        smithy.APIError
		decoding   *smithy.DeserializationError
		timeout    *timeoutError
		sending    *url.Error
		network    *net.OpError
	)
	if errors.As(err, &credential) {
		return "credentials: " + describeCredentials(credential.err)
	}
	var parts []string
	if status := statusOf(err); status != 0 {
		parts = append(parts, fmt.Sprintf("HTTP %d", status))
	}
	switch {
	case errors.As(err, &timeout):
		parts = append(parts, timeout.Error())
	case errors.As(err, &api):
		parts = append(parts, api.ErrorCode())
		if slices.Contains(tellingCodes, api.ErrorCode()) && api.ErrorMessage() != "" {
			parts = append(parts, oneLine(api.ErrorMessage()))
		}
	case errors.As(err, &network):
		parts = append(parts, network.Error())
	case errors.As(err, &decoding):
		parts = append(parts, "the answer is not the JSON that it should be")
	case errors.As(err, &sending): // without its URL and method
		parts = append(parts, oneLine(sending.Err.Error()))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		parts = append(parts, "the connection was closed")
	default:
		parts = append(parts, oneLine(err.Error()))
	}
	return strings.Join(parts, ": ")
}

// describeCredentials names only causes of known form: that of a credential process can quote what it printed.
func describeCredentials(err error) string {
	var (
		operation *smithy.OperationError
		path      *fs.PathError
	)
	switch {
	case errors.As(err, &operation) && operation.Service() == "ec2imds": // the end of the default chain
		return "none in the environment, the AWS configuration files, or of this machine: " + describe(operation.Err)
	case errors.As(err, &operation):
		return fmt.Sprintf("%s %s: %s", operation.Service(), operation.Operation(), describe(operation.Err))
	case errors.As(err, &path):
		return path.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "not had in time"
	}
	return "the default chain of the AWS SDK has none that can be used"
}

// oneLine makes a text of elsewhere fit for a log line and a table.
func oneLine(s string) string {
	const limit = 400
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
