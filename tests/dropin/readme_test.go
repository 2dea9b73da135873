package dropin

import (
	"go/format"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme builds the program that the README starts with, in a new module.
func TestReadme(t *testing.T) {
	_, source, found := strings.Cut(readDocument(t, newImport.document), "\n```go\npackage main\n")
	require.True(t, found, "the README has no program")
	source, _, found = strings.Cut(source, "\n```\n")
	require.True(t, found, "the README's program has no end")
	source = "package main\n" + source + "\n"
	formatted, err := format.Source([]byte(source))
	require.NoError(t, err)
	require.Equal(t, string(formatted), source, "gofmt")
	p := emptyProgram(t)
	p.write(t, "main.go", source)
	p.run(t, "go", "mod", "init", "example.com/echo")
	p.runRecipe(t, newImport)
	p.run(t, "go", "vet", ".")
}
