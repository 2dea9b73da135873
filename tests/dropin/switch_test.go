package dropin

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// verbs are the go commands that a switched program is put through, in this order: "list -m all" is not for programs with a
// vendor folder. But for "get", which may change go.mod and go.sum, they fail if these would have to be changed.
var verbs = []string{
	"mod tidy -diff",
	"build ./...",
	"vet ./...",
	"test ./...",
	"get ./...",
	"list -m all",
	"mod verify",
	"mod why -m all",
	"mod vendor",
	"build -mod=vendor ./...",
	"mod tidy -diff",
}

// TestSwitch does to a program what MIGRATING.md says, and then what is done with any program.
func TestSwitch(t *testing.T) {
	for _, way := range []struct {
		name    string
		recipe  recipe
		imports string
	}{
		{"a program whose import is changed", changedImport, ownPath},
		{"a program whose source is left untouched", untouchedSource, replacedPath},
	} {
		for _, start := range []struct {
			name string
			old  bool
		}{
			{"and that required nothing", false},
			{"and that required the replaced package", true},
		} {
			t.Run(way.name+" "+start.name, func(t *testing.T) {
				t.Parallel()
				p := newProgram(t, start.old)
				p.runRecipe(t, way.recipe)
				goMod := p.read(t, "go.mod")
				assert.NotContains(t, goMod, "github.com/shuLhan/share v0.41.3", "the old requirement")
				for _, name := range []string{"main.go", "main_test.go"} {
					assert.Contains(t, p.read(t, name), `"`+way.imports+`"`)
				}
				for _, verb := range verbs {
					if out := p.run(t, "go", strings.Fields(verb)...); verb == "list -m all" {
						assert.Contains(t, out, way.imports+" v0")
					}
				}
				assert.Equal(t, goMod, p.read(t, "go.mod"), "a command after the switch had to change go.mod")
			})
		}
	}
	t.Run("a new program does what the first way does once the import is changed", func(t *testing.T) {
		_, afterwards, _ := strings.Cut(changedImport.commands(t), "-delete\n")
		assert.Equal(t, newImport.commands(t), afterwards)
	})
}
