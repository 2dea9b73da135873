package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/benchmarks/internal/results"
)

func TestAChartIsWellFormedAndNamesItsServers(t *testing.T) {
	dir := t.TempDir()
	run := &results.Run{Samples: []results.Sample{
		{Scenario: "echo-128", Server: "floor", Measure: results.Measure{Value: 5}},
		{Scenario: "echo-128", Server: "wsloop", Measure: results.Measure{Value: 5.5}},
		{Scenario: "memory", Server: "wsloop", Measure: results.Measure{Value: 260}},
	}}
	require.NoError(t, run.Save(filepath.Join(dir, "r.json")))
	require.NoError(t, draw(filepath.Join(dir, "r.json"), dir))

	svg, err := os.ReadFile(filepath.Join(dir, "echo-128.svg"))
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(svg, new(struct{ XMLName xml.Name })))
	for _, text := range []string{">floor<", ">wsloop<", ">1.10<", "echo 128 B, 100 connections"} {
		assert.True(t, strings.Contains(string(svg), text), text)
	}
	assert.NoFileExists(t, filepath.Join(dir, "memory.svg"), "one bar is no comparison")
}
