package ctl_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"changeover/internal/ctl"
)

// Whoever copies a command from the documentation, at three in the morning, gets what it says: every `server ctl` line of every page is one
// that is understood.
func TestCommandsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	pages = append(pages, "../../README.md")
	line := regexp.MustCompile("server ctl ([^`#|>\n]*)")
	word := regexp.MustCompile(`"[^"]*"|\S+`)
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			found++
			args := word.FindAllString(m[1], -1)
			for i := range args {
				args[i] = strings.Trim(args[i], `"`)
			}
			parser, err := kong.New(&ctl.Command{}, kong.Name("ctl"), kong.Exit(func(int) {}))
			require.NoError(t, err)
			_, err = parser.Parse(args)
			require.NoError(t, err, "%s: server ctl %s", filepath.Base(page), m[1])
		}
	}
	require.Greater(t, found, 30, "the commands were not found")
}
