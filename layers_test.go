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
	"handshake.go", "handshake_client.go", "client_redirect.go", "fields.go", "extension.go", "http_response.go", "refusal.go", "negotiate.go", "paths.go", "proxyproto.go",
	"tls_records.go",
	"routes.go", "request.go", "response.go",
	"history.go", "compression.go", "deflation.go", "traffic.go", "ledger.go",
}, engineCoreFiles)

// engineCoreFiles are those of the engine.
var engineCoreFiles = []string{"life.go", "outbox.go", "lanes.go", "clocks.go", "agenda.go", "idset.go"}

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

	"StandardDeflate": "the default of an option",

	"conn": "what agenda lists",
	"id":   "by which it sorts",
	"seat": "of which it is the owner",
}

// layers is the library as it is parsed, all systems' files of it.
type layers struct {
	fset  *token.FileSet
	files map[string]*ast.File
}

// coreNet is the one name of package net that a core file uses: values that do nothing.
var coreNet = map[string]string{"errors.go": "ErrClosed", "handshake.go": "Addr"}

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
				if path == "net" && coreNet[name] != "" {
					continue
				}
				assert.NotContains(t, []string{"net", "os", "io", "time", "sync", "sync/atomic", "syscall", "golang.org/x/sys/unix", "log", "log/slog", "runtime", "unsafe"}, path, name)
			}
			ast.Inspect(files[name], func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.SelectorExpr:
					if of, ok := node.X.(*ast.Ident); ok && of.Name == "net" {
						assert.Equal(t, coreNet[name], node.Sel.Name, name)
					}
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
					"%s imports %s, which is not there if a go.mod puts this folder in the place of another module", name, path)
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

	t.Run("every end says what kind it is", func(t *testing.T) {
		for name, f := range files {
			ast.Inspect(f, func(node ast.Node) bool {
				end, ok := node.(*ast.CompositeLit)
				if !ok || len(end.Elts) == 0 { // a handshake is refused
					return true
				}
				if of, ok := end.Type.(*ast.Ident); ok && of.Name == "endReason" {
					assert.Equal(t, "kind", end.Elts[0].(*ast.KeyValueExpr).Key.(*ast.Ident).Name, name)
				}
				return true
			})
		}
	})

	t.Run("package variables are errors, the descriptor table, and few others", func(t *testing.T) {
		allowed := []string{
			"descriptors", "tombstone", "serial", "unmanaged", // the descriptor table, and its locks for the sockets of others
			"clockStart", "goingAway", "departing", "emptyPing", "ownFields", "edges", "endedPartial", "bounds", // set once
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

// How large the rooms may be: lines of a function and of a file, and files beside each other.
const (
	houseFunction = 40
	houseFile     = 400
	houseRoot     = 147 // HTTP has three rooms, negotiation, paths and refusals three; Info, the PROXY protocol and addresses three; TLS four; compression eight, topics three, options and Shutdown two each, Stats four; the way of a Client to its server three, Reconnect and Call eight, its streams two; browsers a page
)

func TestHouseIsSmall(t *testing.T) {
	ls := parseLayers(t)
	line := func(pos token.Pos) int { return ls.fset.Position(pos).Line }
	for name, f := range ls.files {
		assert.LessOrEqual(t, line(f.FileEnd), houseFile+1, name)
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				assert.LessOrEqual(t, line(fn.End())-line(fn.Pos())+1, houseFunction, "%s: %s", name, fn.Name.Name)
			}
		}
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	files := 0
	for _, entry := range entries {
		if !entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
			files++
		}
	}
	assert.LessOrEqual(t, files, houseRoot, "files in the root")
}

// TestOnlyPlaces says of what is done in one place who does it.
func TestOnlyPlaces(t *testing.T) {
	ls := parseLayers(t)
	for _, row := range []struct {
		what, callee string
		callers      []string
	}{
		{"a write that failed ends a connection in endIfLostLocked", "endLostLocked", []string{"endIfLostLocked", "endStalledLocked"}},
		{"and a peer that takes nothing when a Send or a clock finds it", "endStalledLocked", []string{"tooSlowLocked", "clockLocked"}},
		{"only writeLocked and flushLocked write to a connection", "push", []string{"writeLocked"}},
		{"and pushes flush what is in front of them", "flush", []string{"flushLocked", "push"}},
		{"a phase changes in one step", "move", []string{"stepLocked"}},
		{"the ClientManager is left at the beginning of the end", "clients.remove", []string{"stepLocked"}},
		{"a number is held back when nobody knows the connection", "hold", []string{"releaseLocked"}},
		{"a connection is made in admit", "newConn", []string{"admit"}},
	} {
		t.Run(row.what, func(t *testing.T) {
			found := false
			for name, f := range ls.files {
				if strings.HasPrefix(name, "client_") { // it has a type with a method of the same name
					continue
				}
				houseCalls(f, func(caller, callee string) {
					if callee == row.callee {
						found = true
						assert.Contains(t, row.callers, caller, name)
					}
				})
			}
			assert.True(t, found, "nobody does, under that name")
		})
	}
}

// houseCalls tells the calls of a file by the names of functions, methods of fields also with the name of the field.
func houseCalls(f *ast.File, tell func(caller, callee string)) {
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(fn, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok {
				switch callee := call.Fun.(type) {
				case *ast.Ident:
					tell(fn.Name.Name, callee.Name)
				case *ast.SelectorExpr:
					tell(fn.Name.Name, callee.Sel.Name)
					if of, ok := callee.X.(*ast.SelectorExpr); ok {
						tell(fn.Name.Name, of.Sel.Name+"."+callee.Sel.Name)
					}
				}
			}
			return true
		})
	}
}

// lockOrder is the rank of each lock, by the type that has it: one that is held has a lower rank than one that is taken. It stands in
// words in conn.go and, for the client, in client_conn.go.
var lockOrder = map[string]int{
	"Server": 0, "conn": 1,
	"watching": 1,
	"mailbox":  2, "handshakes": 2, "clientShard": 2, "topicShard": 2, "ends": 2, "quarantine": 2, "reports": 2, "monitor": 2, "web": 2, "counts": 2, "addresses": 3, "descriptorTable": 3, "Watcher": 3,
	"streamPeer":    3,
	"unmanagedLock": 0, "unmanagedSockets": 1,
	"Client": 0, "clientConn": 1, "clientOutbox": 2, "clientSocket": 2, "calls": 2,
}

// lockEvents is what a function does with locks, in the order of its lines: it takes one, gives one back, or calls.
type lockEvent struct {
	takes, gives string
	calls        types.Object
	pos          token.Pos
}

type lockWalk struct {
	ls     *layers
	info   types.Info
	owners map[token.Pos]string // types with a lock, by the place of their field mu
	events map[types.Object][]lockEvent
}

func TestLockOrder(t *testing.T) {
	w := newLockWalk(t)
	taken := make(map[types.Object]map[string]bool) // by a function and whatever it calls
	for changed := true; changed; {
		changed = false
		for fn, events := range w.events {
			if taken[fn] == nil {
				taken[fn] = make(map[string]bool)
			}
			for _, ev := range events {
				more := taken[ev.calls]
				if ev.takes != "" {
					more = map[string]bool{ev.takes: true}
				}
				for lock := range more {
					changed = changed || !taken[fn][lock]
					taken[fn][lock] = true
				}
			}
		}
	}
	checked := 0
	for fn, events := range w.events {
		held := make(map[string]bool)
		for _, ev := range events {
			next := taken[ev.calls]
			if ev.takes != "" {
				next = map[string]bool{ev.takes: true}
			}
			for lock := range next {
				for other := range held {
					checked++
					assert.Less(t, lockOrder[other], lockOrder[lock], "%s: %s takes the lock of %s with that of %s",
						w.ls.fset.Position(ev.pos), fn.Name(), lock, other)
				}
			}
			if ev.takes != "" {
				held[ev.takes] = true
				assert.Contains(t, lockOrder, ev.takes, "the lock has no rank")
			}
			delete(held, ev.gives)
		}
	}
	assert.Greater(t, checked, 20, "it finds nothing any more")
}

// newLockWalk finds what all functions do with locks. What runs on another goroutine, or later, is left out.
func newLockWalk(t *testing.T) *lockWalk {
	w := &lockWalk{ls: parseLayers(t), owners: make(map[token.Pos]string), events: make(map[types.Object][]lockEvent)}
	target := build.Default
	target.GOOS = "linux"
	var files []*ast.File
	for name, f := range w.ls.files {
		ok, err := target.MatchFile(".", name)
		require.NoError(t, err)
		if ok {
			files = append(files, f)
		}
	}
	w.info = types.Info{Uses: make(map[*ast.Ident]types.Object), Defs: make(map[*ast.Ident]types.Object)}
	config := types.Config{Error: func(error) {}}
	config.Check("websocket", w.ls.fset, files, &w.info)
	for _, f := range files {
		ast.Inspect(f, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						if name.Name == "mu" {
							w.owners[name.Pos()] = spec.Name.Name
						}
					}
				}
			}
			return true
		})
	}
	for _, f := range files {
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
				w.walk(w.info.Defs[fn.Name], fn.Body)
			}
		}
	}
	return w
}

// walk adds the events of a function.
func (w *lockWalk) walk(fn types.Object, body ast.Node) {
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt, *ast.FuncLit:
			return false
		case *ast.DeferStmt:
			return false // an Unlock, mostly: the lock is held to the end
		case *ast.CallExpr:
			sel, ok := node.Fun.(*ast.SelectorExpr)
			if !ok {
				if ident, ok := node.Fun.(*ast.Ident); ok {
					w.add(fn, lockEvent{calls: w.info.Uses[ident], pos: node.Pos()})
				}
				return true
			}
			if mu, ok := sel.X.(*ast.SelectorExpr); ok && mu.Sel.Name == "mu" {
				if owner := w.owner(mu.Sel); owner != "" {
					switch sel.Sel.Name {
					case "Lock":
						w.add(fn, lockEvent{takes: owner, pos: node.Pos()})
					case "Unlock":
						w.add(fn, lockEvent{gives: owner, pos: node.Pos()})
					}
				}
				return true
			}
			w.add(fn, lockEvent{calls: w.info.Uses[sel.Sel], pos: node.Pos()})
		}
		return true
	})
}

func (w *lockWalk) add(fn types.Object, ev lockEvent) {
	if ev.calls == nil || ev.calls.Pkg() != nil {
		w.events[fn] = append(w.events[fn], ev)
	}
}

// owner returns the type whose lock it is, "" for a lock that is a variable.
func (w *lockWalk) owner(mu *ast.Ident) string {
	if field := w.info.Uses[mu]; field != nil {
		return w.owners[field.Pos()]
	}
	return ""
}
