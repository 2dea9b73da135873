package websocket

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// coreFiles turn bytes into bytes and values: no I/O, clock, lock or log.
var coreFiles = []string{
	"frame.go", "frames.go", "receiver.go", "assembly.go", "handshake.go", "handshake_client.go", "uri.go", "fields.go", "http_response.go",
	"closecode.go", "errors.go", "routes.go", "request.go", "response.go", "silence.go",
}

// layerFiles parses the library, all systems' files of it.
func layerFiles(t *testing.T) (files map[string]*ast.File) {
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	files = make(map[string]*ast.File)
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		if f.Name.Name == "websocket" {
			files[name] = f
		}
	}
	for _, name := range coreFiles {
		require.Contains(t, files, name)
	}
	return files
}

// layerTestFiles parses the imports of the tests beside the library, all systems' files of them. The go command loads them for
// every program that imports the library.
func layerTestFiles(t *testing.T) (files map[string]*ast.File) {
	names, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	require.Contains(t, names, "layers_test.go")
	files = make(map[string]*ast.File)
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		files[name] = f
	}
	return files
}

// layerModulePath returns the module path of go.mod.
func layerModulePath(t *testing.T) string {
	content, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(content), "\n")
	path, ok := strings.CutPrefix(first, "module ")
	require.True(t, ok, first)
	return path
}

func layerImports(t *testing.T, f *ast.File) (paths []string) {
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		paths = append(paths, path)
	}
	return paths
}

func TestLayers(t *testing.T) {
	files := layerFiles(t)

	t.Run("core files import nothing of I/O, clocks, locks or logs", func(t *testing.T) {
		for _, name := range coreFiles {
			for _, path := range layerImports(t, files[name]) {
				if path == "net" && name == "errors.go" { // for net.ErrClosed
					continue
				}
				assert.NotContains(t, []string{"net", "os", "io", "time", "sync", "sync/atomic", "syscall", "golang.org/x/sys/unix", "log", "log/slog", "runtime", "unsafe"}, path, name)
			}
			ast.Inspect(files[name], func(node ast.Node) bool {
				switch node.(type) {
				case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
					assert.Fail(t, "goroutines and channels are no business of the core", name)
				}
				return true
			})
		}
	})

	t.Run("only the pollers and system calls import unix, and one file unsafe", func(t *testing.T) {
		for name, f := range files {
			for _, path := range layerImports(t, f) {
				switch path {
				case "golang.org/x/sys/unix":
					assert.True(t, strings.HasPrefix(name, "poll_") || strings.HasPrefix(name, "sys_"), name)
				case "unsafe":
					assert.Equal(t, "sys_linux.go", name)
				case "math/rand", "math/rand/v2":
					assert.Fail(t, "keys and masks come from crypto/rand", name)
				}
			}
		}
	})

	t.Run("the only module that the library needs is x/sys", func(t *testing.T) {
		for name, f := range files {
			for _, path := range layerImports(t, f) {
				first, _, _ := strings.Cut(path, "/")
				assert.True(t, !strings.Contains(first, ".") || strings.HasPrefix(path, "golang.org/x/sys/"), "%s imports %s", name, path)
			}
		}
	})

	t.Run("a program that has the library under another path finds what its tests import", func(t *testing.T) {
		own := layerModulePath(t)
		for name, f := range layerTestFiles(t) {
			for _, path := range layerImports(t, f) {
				assert.False(t, path == own || strings.HasPrefix(path, own+"/"),
					"%s imports %s, which is not there where a go.mod puts this folder in the place of another module", name, path)
				first, _, _ := strings.Cut(path, "/")
				assert.True(t, !strings.Contains(first, ".") || strings.HasPrefix(path, "golang.org/x/sys/") ||
					strings.HasPrefix(path, "github.com/stretchr/testify/"), "%s imports %s", name, path)
			}
		}
	})

	t.Run("no directive goes behind the compiler's or the race detector's back", func(t *testing.T) {
		for name, f := range files {
			for _, group := range f.Comments {
				for _, comment := range group.List {
					if directive, ok := strings.CutPrefix(comment.Text, "//go:"); ok {
						assert.True(t, strings.HasPrefix(directive, "build ") || directive == "noinline", "%s: %s", name, comment.Text)
					}
				}
			}
		}
	})

	t.Run("no work is done by init", func(t *testing.T) {
		for name, f := range files {
			for _, decl := range f.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
					assert.NotEqual(t, "init", fn.Name.Name, name)
				}
			}
		}
	})

	t.Run("package variables are errors, the descriptor table, and few others", func(t *testing.T) {
		allowed := []string{
			"descriptors", "tombstone", "serial", "unmanaged", // the descriptor table, and its locks for the sockets of others
			"clockStart", "goingAway", "emptyPing", "ownFields", "edges", "endedPartial", // set once
		}
		for name, f := range files {
			for _, decl := range f.Decls {
				gen, ok := decl.(*ast.GenDecl)
				if !ok || gen.Tok != token.VAR {
					continue
				}
				for _, spec := range gen.Specs {
					for _, ident := range spec.(*ast.ValueSpec).Names {
						isError := strings.HasPrefix(ident.Name, "err") || strings.HasPrefix(ident.Name, "Err")
						isPool := name == "pool.go"
						assert.True(t, isError || isPool || ident.Name == "_" || slices.Contains(allowed, ident.Name),
							"%s: package variable %s: is it state?", name, ident.Name)
					}
				}
			}
		}
	})

	t.Run("package variables are not assigned to", func(t *testing.T) {
		vars := make(map[string]bool)
		for _, f := range files {
			for _, decl := range f.Decls {
				if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR {
					for _, spec := range gen.Specs {
						for _, ident := range spec.(*ast.ValueSpec).Names {
							vars[ident.Name] = true
						}
					}
				}
			}
		}
		for name, f := range files {
			ast.Inspect(f, func(node ast.Node) bool {
				if assign, ok := node.(*ast.AssignStmt); ok && assign.Tok == token.ASSIGN {
					for _, left := range assign.Lhs {
						if ident, ok := left.(*ast.Ident); ok {
							assert.False(t, vars[ident.Name], "%s assigns to %s", name, ident.Name)
						}
					}
				}
				return true
			})
		}
	})
}
