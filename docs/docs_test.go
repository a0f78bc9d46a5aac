// Package docs holds the documentation; its tests keep it true.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
)

// TestLinks follows every relative link of every page: the file is there, and so is the heading that it names.
func TestLinks(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	pages := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || (strings.HasPrefix(d.Name(), ".") && path != root)) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		pages++
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := code.ReplaceAllString(fence.ReplaceAllString(string(page), ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			checkLink(t, root, path, m[1])
		}
		return nil
	}))
	require.Greater(t, pages, 5, "the pages were not found")
}

// TestRulesAndScenarios: each rule is explained once, and links to the scenario that plays it; no scenario of a rule is left out.
func TestRulesAndScenarios(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("rules.md")
	require.NoError(t, err)
	for n := 1; n <= 20; n++ {
		section := regexp.MustCompile(fmt.Sprintf(`(?s)\n### R%d [^\n]+\n\n<sup>Scenario: \[(r%02d_\w+\.txt)\]`, n, n))
		require.Len(t, section.FindAllSubmatch(page, -1), 1, "R%d", n)
	}
	scenarios, err := filepath.Glob("../internal/failover/testdata/r[0-9][0-9]_*.txt")
	require.NoError(t, err)
	require.Len(t, scenarios, 20)
	for _, file := range scenarios {
		require.Contains(t, string(page), "("+filepath.ToSlash(file)+")")
	}
}

func checkLink(t *testing.T, root, page, target string) {
	t.Helper()
	name, _ := filepath.Rel(root, page)
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return
	}
	file, anchor, _ := strings.Cut(target, "#")
	to := page
	if file != "" {
		to = filepath.Join(filepath.Dir(page), file)
	}
	info, err := os.Stat(to)
	if err != nil {
		t.Errorf("%s: the link to %s leads nowhere", name, target)
		return
	}
	if anchor == "" || info.IsDir() || filepath.Ext(to) != ".md" {
		return
	}
	linked, err := os.ReadFile(to)
	require.NoError(t, err)
	if !anchors(string(linked))[anchor] {
		t.Errorf("%s: %s has no heading #%s", name, file, anchor)
	}
}

// anchors are the headings of a page as GitHub names them, and its explicit <a id="…">.
func anchors(page string) map[string]bool {
	ids := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		ids[slug(m[1])] = true
	}
	for _, m := range regexp.MustCompile(`<a id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		ids[m[1]] = true
	}
	return ids
}

func slug(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.ReplaceAll(heading, "`", "")) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '_', r == '-':
			b.WriteRune(r)
		case r == ' ':
			b.WriteRune('-')
		}
	}
	return b.String()
}
