// Package dropin tests the package from outside: a program of its own, in a folder of its own, that was written for
// github.com/shuLhan/share/lib/websocket v0.41.3 and is switched as MIGRATING.md says, and the one that the README starts with.
package dropin

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	replacedPath = "github.com/shuLhan/share/lib/websocket" // the import path of the replaced package
	ownPath      = "github.com/wsloop/websocket"
)

// recipe is where a document of this repository shows shell commands.
type recipe struct{ document, heading string }

// The ways to switch, and what a new program does.
var (
	changedImport   = recipe{"MIGRATING.md", "## 1. Change the import"}
	untouchedSource = recipe{"MIGRATING.md", "## 2. Leave the source untouched"}
	newImport       = recipe{"README.md", "## Use"}
)

// program is in a temporary folder: a copy of testdata/program, or the README's.
type program struct {
	dir string
}

// newProgram copies the program, with the go.mod and go.sum that it had with the replaced package if old is set, else with a new
// go.mod.
func newProgram(t *testing.T, old bool) program {
	t.Helper()
	p := emptyProgram(t)
	names := []string{"main.go", "main_test.go"}
	if old {
		names = append(names, "go.mod", "go.sum")
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join("testdata", "program", name))
		require.NoError(t, err)
		p.write(t, name, string(content))
	}
	if !old {
		p.run(t, "go", "mod", "init", "example.com/program")
	} else if out, err := p.command("go", "mod", "download").CombinedOutput(); err != nil {
		t.Skipf("the modules that the program had before are not to be had: %s", out)
	}
	return p
}

// emptyProgram makes a folder for a program, and skips the test if a command that it takes is missing.
func emptyProgram(t *testing.T) program {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the program runs a server, and the commands are those of a Unix shell")
	}
	for _, command := range []string{"go", "sh", "find", "sed"} {
		if _, err := exec.LookPath(command); err != nil {
			t.Skipf("there is no %s", command)
		}
	}
	return program{dir: t.TempDir()}
}

func (p program) path(name string) string { return filepath.Join(p.dir, name) }

func (p program) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(p.path(name))
	require.NoError(t, err)
	return string(content)
}

func (p program) write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(p.path(name), []byte(content), 0o600))
}

// command is a command in the program's folder. It sees the module cache and the proxy of the tests, and nothing else that
// could make the go command more lenient, or that surrounds the folder.
func (p program) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(),
		"GOFLAGS=-buildvcs=false", // were it empty, the file of `go env -w` would speak
		"GOWORK=off",
		"GO111MODULE=on",
		"GOSUMDB=off", // what this repository needs was checked against its go.sum
	)
	return cmd
}

// run runs a command in the program's folder and returns what it prints.
func (p program) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := p.command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s\n%s%s", name, strings.Join(args, " "), out, stderr.String())
	return string(out)
}

// runRecipe runs the commands of a recipe, with the folder of this repository in the place of "/path/to/checkout".
func (p program) runRecipe(t *testing.T, r recipe) {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	quoted := "'" + strings.ReplaceAll(root, "'", `'\''`) + "'"
	_, err = os.ReadDir(root) // or `go test` would not see that the result depends on the files there, and show an old one
	require.NoError(t, err)
	p.run(t, "sh", "-eu", "-c", strings.ReplaceAll(r.commands(t), "/path/to/checkout", quoted))
}

// commands returns the one block of shell commands between the recipe's heading and the next one.
func (r recipe) commands(t *testing.T) string {
	t.Helper()
	_, section, found := strings.Cut(readDocument(t, r.document), "\n"+r.heading+"\n")
	require.True(t, found, "%s has no heading %q", r.document, r.heading)
	section, _, _ = strings.Cut(section, "\n#")
	_, block, found := strings.Cut(section, "\n```sh\n")
	require.True(t, found, "there are no commands under %q", r.heading)
	block, rest, found := strings.Cut(block, "\n```\n")
	require.True(t, found, "the commands under %q have no end", r.heading)
	require.NotContains(t, rest, "```sh", "under %q", r.heading)
	require.Contains(t, block, "/path/to/checkout", "under %q", r.heading)
	return block
}

func readDocument(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", name))
	require.NoError(t, err)
	return string(content)
}
