package logtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A secret is found however it was written, and by a part of it.
func TestSearch(t *testing.T) {
	secrets := map[string]bool{`pass"word with=signs`: true, "c2lnbmF0dXJl-of-a-token": true}
	for name, write := range map[string]func(*slog.Logger){
		"a message": func(l *slog.Logger) { l.Info(`said pass"word with=signs aloud`) },
		"a value":   func(l *slog.Logger) { l.Info("x", "url", "postgres://u:c2lnbmF0dXJl-of-a-token@h/d") },
		"in a URL":  func(l *slog.Logger) { l.Info("x", "url", "/?password=pass%22word+with%3Dsigns") },
		"in an error": func(l *slog.Logger) {
			l.Debug("x", "error", &fs.PathError{Op: "open", Path: `pass"word with=signs`, Err: fs.ErrNotExist})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			write(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			require.NotEmpty(t, search(append([]byte("{}\n"), log.Bytes()...), secrets))
			log.Reset()
			write(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			require.NotEmpty(t, search(log.Bytes(), secrets))
		})
	}
	require.Empty(t, search([]byte("nothing of interest\n"), secrets))
}

// What the tests log reaches the search, and fails the binary.
func TestVerify(t *testing.T) {
	var info bytes.Buffer
	New(&info).Info("hello")
	New(&info).Debug("more")
	require.Contains(t, info.String(), "hello")
	require.NotContains(t, info.String(), "more")
	require.Equal(t, 0, Verify(0))
	require.Equal(t, 2, Verify(2))

	Secret("head.the-claims-of-it.the-signature")
	New(nil).Debug("refused", "error", "the-signature is wrong")
	require.Equal(t, 1, Verify(0))
	_, _ = Output().Write([]byte("the-claims-of-it"))
	require.Equal(t, 1, Verify(0))
	_, _ = Output().Write([]byte("head"))
	require.Equal(t, 0, Verify(0))
	require.Panics(t, func() { Secret("short") })
}

// The search is of the whole suite's log: no test makes a logger of its own. Those that may are here, with the reason.
func TestNoLogIsKeptFromTheSearch(t *testing.T) {
	exceptions := map[string]string{
		"internal/config/secret_test.go": "tests how slog prints a secret, with secrets of its own",
	}
	root := filepath.Join("..", "..")
	logs := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "node_modules" || name == filepath.Join("internal", "logtest")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, "_test.go") || exceptions[filepath.ToSlash(name)] != "" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch p, _ := s.X.(*ast.Ident); {
			case p == nil:
			case p.Name == "slog" && (strings.HasSuffix(s.Sel.Name, "Handler") || s.Sel.Name == "Default" || s.Sel.Name == "SetDefault"):
				t.Errorf("%s uses slog.%s: take loggers from package logtest, so that they are searched for secrets", name, s.Sel.Name)
			case p.Name == "logtest" && s.Sel.Name == "New":
				logs++
			}
			return true
		})
		return nil
	}))
	require.Greater(t, logs, 20)
}
