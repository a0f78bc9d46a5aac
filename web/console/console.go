// Package console serves the operators' console: pages that use the public REST and event API and nothing else. What is served is dist/,
// which scripts/generate builds from src/ and which is committed, so that the service needs no Node.
package console

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed dist
var dist embed.FS

// Path is below which the console is served.
const Path = "/console/"

// Settings are what the pages have to know that the API does not tell.
type Settings struct {
	// SignIn is the path below which people sign in and out, with a slash at the end; empty: they cannot with a browser.
	SignIn string `json:"signIn"`
}

// Handler serves the console below [Path]. Pages are told apart by the fragment of the address alone, so there is one file to serve for all.
// The Content-Security-Policy is set by what stands before (internal/edge).
func Handler(s Settings) http.Handler {
	settings, err := json.Marshal(s)
	if err != nil { // strings alone
		panic(err)
	}
	files, err := fs.Sub(dist, "dist")
	if err != nil { // the folder's name is right
		panic(err)
	}
	serve := http.StripPrefix(Path, http.FileServerFS(files))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, Path)
		switch {
		case name != "" && strings.HasSuffix(name, "/"): // no listings of folders
			http.NotFound(w, r)
			return
		case strings.HasPrefix(name, "assets/"): // the name holds a hash of the content
			if _, err := fs.Stat(files, name); err == nil {
				w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			}
		default: // a new version is seen at the next load
			w.Header().Set("Cache-Control", "no-cache")
		}
		serve.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET "+Path+"settings.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(settings) // a browser that went away is its own affair
	})
	return mux
}
