// Package desktop serves the demo desktop: a page with the Contact Control Panels of two Regions, amazon-connect-streams and
// changeover-client. What is served is dist/, which scripts/web builds from src/ and which is committed, so that nobody needs Node to look at it.
package desktop

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
)

//go:embed dist
var dist embed.FS

// Settings are what the page has to know. It gets the agent from its own address, ?agent= with the Connect user id.
type Settings struct {
	Endpoints []string `json:"endpoints"` // base addresses of the service, best first
	Heartbeat int64    `json:"heartbeat"` // the service's stream.heartbeat in milliseconds
	CCPs      []CCP    `json:"ccps"`      // exactly two, the source Region first
	LoginURL  string   `json:"loginUrl"`  // the global sign-in
}

// CCP is the Contact Control Panel of a Region.
type CCP struct {
	Region string `json:"region"`
	URL    string `json:"url"`
}

// Handler serves the page. The error says which address is none.
func Handler(s Settings) (http.Handler, error) {
	if len(s.CCPs) != 2 {
		return nil, fmt.Errorf("%d contact control panels: expected two", len(s.CCPs))
	}
	settings, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, err
	}
	endpoints, err := origins(s.Endpoints...)
	if err != nil {
		return nil, err
	}
	panels, err := origins(s.CCPs[0].URL, s.CCPs[1].URL)
	if err != nil {
		return nil, err
	}
	// No script and no style that stands in a page; what is called and framed is named.
	policy := "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' " + endpoints +
		"; frame-src " + panels + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /settings.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(settings) // a page that went away is its own affair
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-cache")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	}), nil
}

// origins of addresses, as a policy lists them.
func origins(addresses ...string) (string, error) {
	var out []string
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return "", fmt.Errorf("address %q: expected one such as https://a.example/", address)
		}
		out = append(out, u.Scheme+"://"+u.Host)
	}
	return strings.Join(out, " "), nil
}
