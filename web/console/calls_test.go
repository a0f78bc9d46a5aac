package console_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"changeover/api"
)

// Everything that the console asks for is a call of the document, and what changes something is in the table of docs/operations.md, each with one
// call.
func TestEveryActionIsOneDocumentedCall(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(api.Document)
	require.NoError(t, err)
	calls := map[string]bool{}
	typed := regexp.MustCompile(`api\.(GET|POST|PUT|PATCH|DELETE)\("([^"]+)"`)
	other := regexp.MustCompile("[\"`](/v1/[^\"`?]*)")
	expression := regexp.MustCompile(`\$\{[^}]*\}`)
	require.NoError(t, filepath.WalkDir("src", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, ".ts") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, call := range typed.FindAllStringSubmatch(string(source), -1) {
			calls[call[1]+" "+call[2]] = true
		}
		for _, call := range other.FindAllStringSubmatch(string(source), -1) { // links and streams
			found := false
			for documented := range doc.Paths.Map() {
				pattern := regexp.MustCompile(`\\\{[^}]*\\\}`).ReplaceAllString(regexp.QuoteMeta(documented), `(\{[^/]*\}|[^/]+)`)
				found = found || regexp.MustCompile("^"+pattern+"$").MatchString(expression.ReplaceAllString(call[1], "x"))
			}
			require.True(t, found, "%s: %s is no path of api/openapi.yaml", path, call[1])
		}
		return err
	}))
	require.Greater(t, len(calls), 10)
	table, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	for call := range calls {
		method, path, _ := strings.Cut(call, " ")
		item := doc.Paths.Find(path)
		require.NotNil(t, item, "%s is no path of api/openapi.yaml", path)
		require.NotNil(t, item.GetOperation(method), "%s is no operation of api/openapi.yaml", call)
		if method != "GET" {
			require.Contains(t, string(table), "`"+call+"`", "the console can do %s, and docs/operations.md does not say so", call)
		}
	}
}
