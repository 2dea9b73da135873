package dropin

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDropIn runs a program that was written for the replaced package and gets this one by its go.mod alone, and checks that
// the program leaves out nothing of the documented API.
func TestDropIn(t *testing.T) {
	p := newProgram(t, false)
	p.runRecipe(t, untouchedSource)
	t.Run("the program runs with this package in the place of the original", func(t *testing.T) {
		assert.Equal(t, "ok\n", p.run(t, "go", "run", "."))
	})
	t.Run("the program uses every declaration of the documented API", func(t *testing.T) {
		documented, err := os.ReadFile(filepath.Join("testdata", "api.txt"))
		require.NoError(t, err)
		exports := p.run(t, "go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", ".")
		pkg, used := usedNames(t, p.path("main.go"), exports)
		exported := make(map[string]bool)
		for _, name := range memberNames(pkg) {
			exported[name] = true
		}
		for name := range strings.FieldsSeq(string(documented)) {
			assert.True(t, exported[name], "%s is not exported", name)
			assert.True(t, used[name], "%s is not used", name)
		}
	})
}

// usedNames returns the package that a program imports by replacedPath, and what the program uses of it: "Name" for
// declarations, "Type.Name" for fields and methods. exports has the file of each dependency's export data, by import path.
func usedNames(t *testing.T, program, exports string) (pkg *types.Package, used map[string]bool) {
	t.Helper()
	files := make(map[string]string)
	for line := range strings.Lines(exports) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path] = file
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, program, nil, 0)
	require.NoError(t, err)
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})}
	main, err := config.Check("main", fset, []*ast.File{file}, info)
	require.NoError(t, err)
	for _, imported := range main.Imports() {
		if imported.Path() == replacedPath {
			pkg = imported
		}
	}
	require.NotNil(t, pkg)
	names, used := memberNames(pkg), make(map[string]bool)
	for _, object := range info.Uses {
		if name, ok := names[object]; ok {
			used[name] = true
		}
	}
	return pkg, used
}

// memberNames names the exported declarations of a package, with the fields and methods of its types.
func memberNames(pkg *types.Package) map[types.Object]string {
	names := make(map[types.Object]string)
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		names[object] = name
		named, ok := object.Type().(*types.Named)
		if _, isType := object.(*types.TypeName); !ok || !isType {
			continue
		}
		for method := range named.Methods() {
			if method.Exported() {
				names[method] = name + "." + method.Name()
			}
		}
		if fields, ok := named.Underlying().(*types.Struct); ok {
			for field := range fields.Fields() {
				if field.Exported() {
					names[field] = name + "." + field.Name()
				}
			}
		}
	}
	return names
}
