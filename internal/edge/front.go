package edge

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"
)

// front is what every request passes before the handler.
type front struct {
	trusted proxies
	pages   []string // the Content-Security-Policy below /console/
	next    http.Handler
}

func newFront(o Options, trusted proxies) *front {
	ancestors := "'none'"
	if len(o.FrameAncestors) > 0 {
		ancestors = strings.Join(o.FrameAncestors, " ")
	}
	return &front{trusted: trusted, pages: []string{pagePolicy + ancestors}, next: withCORS(o.AllowedOrigins, o.Handler)}
}

// Values of headers. The slices are shared by all responses: they are replaced, never written into.
var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	sameOrigin = []string{"same-origin"}
	// dataPolicy is that of everything that is not a page: whatever a browser makes of it, nothing in it runs or is loaded.
	dataPolicy = []string{"default-src 'none'; frame-ancestors 'none'"}
	// hsts is for a year and for this host alone; others of its domain are not ours to decide.
	hsts = []string{"max-age=31536000"}
)

// pagePolicy lets the console's pages load their own files and call their own service; no script that stands in a page. The
// frame ancestors follow.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors "

const console = "/console/"

// ServeHTTP implements http.Handler. It changes r, which net/http made for it alone.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.used.Store(true)
	}
	secure := f.trusted.resolve(r)
	h := w.Header()
	h["X-Content-Type-Options"] = nosniff
	h["Referrer-Policy"] = noReferrer
	if strings.HasPrefix(r.URL.Path, console) {
		h["Content-Security-Policy"] = f.pages
	} else {
		h["Content-Security-Policy"] = dataPolicy
		h["Cross-Origin-Resource-Policy"] = sameOrigin // what is fetched with CORS is not affected
	}
	if secure && named(r.Host) {
		h["Strict-Transport-Security"] = hsts
	}
	f.next.ServeHTTP(w, r)
}

// named says whether a host is a name that other services do not share: browsers remember HSTS for a name and all its ports, so
// localhost would take a developer's other programs with it. For addresses it does not count at all (RFC 6797 §8.1.1).
func named(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil && host != "" && host != "localhost" && !strings.HasSuffix(host, ".localhost")
}

// preflightAge is how long a browser may remember what it may send; Chromium's own limit.
const preflightAge = 2 * time.Hour

// withCORS lets pages of the allowed origins call with their credentials and read the answers. A preflight is answered here
// and goes no further, whoever sends it.
func withCORS(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		// Exactly: the library by itself ignores case, and looks at the first of several Origin headers.
		AllowOriginVaryRequestFunc: func(r *http.Request, origin string) (allowed bool, vary []string) {
			return len(r.Header["Origin"]) == 1 && slices.Contains(origins, origin), nil
		},
		AllowCredentials: true,
		AllowedMethods:   []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete},
		AllowedHeaders:   []string{"Accept", "Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id"},
		ExposedHeaders:   []string{"Content-Disposition", "Location", "Retry-After", "X-Request-Id"},
		MaxAge:           int(preflightAge.Seconds()),
	}).Handler(next)
}
