package auth

import (
	"fmt"
	"net/http"
)

// Origins tells the web pages that may use a caller's cookie from those that may not.
type Origins struct{ protection http.CrossOriginProtection }

// NewOrigins trusts pages of the service's own origin and those of cors.allowedOrigins.
func NewOrigins(allowed []string) (*Origins, error) {
	o := &Origins{}
	for _, origin := range allowed {
		if err := o.protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("cors.allowedOrigins: %w", err)
		}
	}
	return o, nil
}

// Check refuses a request with a cookie that a page of a foreign origin made: ErrForeignOrigin. The browser says where a
// request comes from, in Sec-Fetch-Site or Origin, and pages cannot change that. A mutation whose origin nobody vouches for is
// refused as well; only an old browser or a program sends one, and a program has a header for its token.
//
// Reading is left to CORS, which keeps the answer from a foreign page. Where the request itself names a foreign origin, that
// page would get nothing and still take one of the agent's streams: it is refused too.
func (o *Origins) Check(r *http.Request) error {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	origins := r.Header.Values("Origin")
	if len(origins) > 1 || len(r.Header.Values("Sec-Fetch-Site")) > 1 {
		return fmt.Errorf("%w: it names several", ErrForeignOrigin)
	}
	if len(origins) == 0 {
		if safe {
			return nil
		}
		if r.Header.Get("Sec-Fetch-Site") == "" {
			return fmt.Errorf("%w: it names none", ErrForeignOrigin)
		}
	}
	mutation := *r
	mutation.Method = http.MethodPost // Check lets every other method pass
	if err := o.protection.Check(&mutation); err != nil {
		return ErrForeignOrigin
	}
	return nil
}
