package websocket

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// coreFiles turn bytes, values and moments into bytes and values: no I/O, clock, lock or log.
var coreFiles = slices.Concat([]string{
	"frame.go", "receiver.go", "assembly.go", "errors.go",
	"handshake.go", "handshake_client.go", "fields.go", "http_response.go",
	"routes.go", "request.go", "response.go",
}, engineCoreFiles)

// engineCoreFiles are those of the engine.
var engineCoreFiles = []string{"life.go", "outbox.go", "lanes.go", "clocks.go", "agenda.go"}

// outsideCore is all that core files use of other files, and why that leaves them what they are.
var outsideCore = map[string]string{
	"newBuffer":   "memory: who had it before cannot be told",
	"spareBuffer": "memory: who had it before cannot be told; without any, the caller makes its own",
	"PutBuffer":   "memory: it is gone",
	"newBacklog":  "memory: it is empty",
	"putBacklog":  "memory: it is gone",

	"never":         "a constant",
	"maxAnswerTime": "a constant, in time's unit",
	"maxDrainTime":  "a constant, in time's unit",
	"emptyPing":     "bytes that nobody changes",

	"conn": "what agenda lists",
	"id":   "by which it sorts",
	"seat": "of which it is the owner",
}

// layers is the library as it is parsed, all systems' files of it.
type layers struct {
	fset  *token.FileSet
	files map[string]*ast.File
}

func parseLayers(t *testing.T) *layers {
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	ls := &layers{fset: token.NewFileSet(), files: make(map[string]*ast.File)}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(ls.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		if f.Name.Name == "websocket" {
			ls.files[name] = f
		}
	}
	for _, name := range coreFiles {
		require.NotNil(t, ls.files[name], name)
	}
	return ls
}

// uses resolves the identifiers of the library as a system compiles it, to those that the library declares. What other packages
// declare stays unknown.
func (ls *layers) uses(t *testing.T, system string) map[*ast.Ident]types.Object {
	target := build.Default
	target.GOOS = system
	var files []*ast.File
	for name, f := range ls.files {
		ok, err := target.MatchFile(".", name)
		require.NoError(t, err)
		if ok {
			files = append(files, f)
		}
	}
	info := types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Error: func(error) {}} // of which there are many, for want of the imports
	pkg, _ := config.Check("websocket", ls.fset, files, &info)
	maps.DeleteFunc(info.Uses, func(_ *ast.Ident, of types.Object) bool { return of.Pkg() != pkg })
	return info.Uses
}

// fileOf returns the name of the file that a place is in.
func (ls *layers) fileOf(place interface{ Pos() token.Pos }) string {
	return ls.fset.Position(place.Pos()).Filename
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
	ls := parseLayers(t)
	files := ls.files

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
				case *ast.ChanType:
					assert.Equal(t, "outbox.go", name, "what its waiters wait for is the only channel of the core")
				case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt:
					assert.Fail(t, "goroutines and channels are no business of the core", name)
				}
				return true
			})
		}
	})

	t.Run("core files use nothing that other files declare, but memory", func(t *testing.T) {
		unused := maps.Clone(outsideCore)
		for ident, of := range ls.uses(t, "linux") {
			if !slices.Contains(coreFiles, ls.fileOf(ident)) || slices.Contains(coreFiles, ls.fileOf(of)) {
				continue
			}
			assert.NotEmpty(t, outsideCore[ident.Name], "%s uses %s, which %s declares", ls.fileOf(ident), of, ls.fileOf(of))
			delete(unused, ident.Name)
		}
		assert.Empty(t, unused, "allowed, and not used")
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
		unseen := maps.Clone(files)
		maps.DeleteFunc(unseen, func(_ string, f *ast.File) bool { return len(f.Decls) == 0 })
		for _, system := range []string{"linux", "freebsd", "windows"} {
			used := ls.uses(t, system)
			for ident := range used {
				delete(unseen, ls.fileOf(ident))
			}
			for name, f := range files {
				ast.Inspect(f, func(node ast.Node) bool {
					var targets []ast.Expr
					switch node := node.(type) {
					case *ast.AssignStmt:
						targets = node.Lhs
					case *ast.IncDecStmt:
						targets = []ast.Expr{node.X}
					}
					for _, target := range targets {
						if of := used[layerRoot(target)]; of != nil {
							assert.False(t, of.Parent() == of.Pkg().Scope(), "%s assigns to %s", name, of)
						}
					}
					return true
				})
			}
		}
		assert.Empty(t, slices.Collect(maps.Keys(unseen)), "files of other systems")
	})
}

// layerRoot returns the identifier whose variable, or a part of it, is what an expression stands for.
func layerRoot(expr ast.Expr) *ast.Ident {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr
	case *ast.SelectorExpr:
		return layerRoot(expr.X)
	case *ast.IndexExpr:
		return layerRoot(expr.X)
	case *ast.StarExpr:
		return layerRoot(expr.X)
	case *ast.ParenExpr:
		return layerRoot(expr.X)
	}
	return nil
}
