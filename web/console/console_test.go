package console

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func get(t *testing.T, path string) *http.Response {
	w := httptest.NewRecorder()
	Handler(Settings{SignIn: "/console/auth/"}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(b)
}

// Assets may be kept for ever, for their names change with them; what names them may not.
func TestServing(t *testing.T) {
	for _, tt := range []struct{ path, cache, media string }{
		{"/console/", "no-cache", "text/html; charset=utf-8"},
		{"/console/settings.json", "no-cache", "application/json"},
	} {
		r := get(t, tt.path)
		require.Equal(t, http.StatusOK, r.StatusCode, tt.path)
		require.Equal(t, tt.cache, r.Header.Get("Cache-Control"), tt.path)
		require.Equal(t, tt.media, r.Header.Get("Content-Type"), tt.path)
	}
	page := body(t, get(t, "/console/"))
	assets := regexp.MustCompile(`"\./(assets/[^"]+)"`).FindAllStringSubmatch(page, -1)
	require.GreaterOrEqual(t, len(assets), 3, page)
	for _, a := range assets {
		r := get(t, "/console/"+a[1])
		require.Equal(t, http.StatusOK, r.StatusCode, a[1])
		require.Equal(t, "public, max-age=31536000, immutable", r.Header.Get("Cache-Control"), a[1])
	}
	require.JSONEq(t, `{"signIn": "/console/auth/"}`, body(t, get(t, "/console/settings.json")))

	for _, path := range []string{"/console/assets/", "/console/assets/gone.js", "/console/nothing", "/console/..%2fconsole.go"} {
		r := get(t, path)
		require.Equal(t, http.StatusNotFound, r.StatusCode, path)
		require.NotContains(t, r.Header.Get("Cache-Control"), "immutable", path)
	}
}

// The page's policy has no place for what stands in a page, and loads nothing from elsewhere.
func TestNothingStandsInThePage(t *testing.T) {
	require.NoError(t, fs.WalkDir(dist, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".html") {
			return err
		}
		page, err := fs.ReadFile(dist, path)
		require.NoError(t, err)
		require.NotRegexp(t, `<script(?:[^>]*)>[^<]+<`, string(page), path)
		require.NotRegexp(t, `<style|\son\w+=|\sstyle=|https?://`, string(page), path)
		return nil
	}))
}
