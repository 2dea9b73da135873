package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/results"
)

// Scenarios with thousands of connections differ from these by their number only.
var tested = []string{"echo-128", "echo-1m", "text-128", "router", "in-flight", "broadcast", "churn", "sleep", "block"}

func TestServersAnswerTheScenarios(t *testing.T) {
	o := &options{bin: t.TempDir(), bun: "../servers/bun", window: 20 * time.Millisecond, warmup: 100 * time.Millisecond}
	out, err := exec.Command("go", "build", "-o", o.bin, "../load", "../servers/...").CombinedOutput()
	require.NoError(t, err, string(out))
	where, err := chooseCPUs("any")
	require.NoError(t, err)
	for _, name := range tested {
		s, ok := plan.Find(name)
		require.True(t, ok, name)
		for i := range plan.Servers {
			server := &plan.Servers[i]
			if !takesPart(s, server) || server.Name == plan.Before || server.Name == plan.Bun && !o.hasBun() {
				continue
			}
			t.Run(name+" with "+server.Name, func(t *testing.T) {
				m, err := o.measure(s, server, 0, where)
				require.NoError(t, err)
				assert.Positive(t, m.Messages)
				assert.Positive(t, m.ServerCPU)
			})
		}
	}
}

func TestTheTreeBeforeIsMeasuredOnRequestOnly(t *testing.T) {
	_, servers, err := (&options{}).choose()
	require.NoError(t, err)
	for _, server := range servers {
		assert.NotEqual(t, plan.Before, server.Name)
	}
	_, servers, err = (&options{server: "wsloop,before"}).choose()
	require.NoError(t, err)
	assert.Len(t, servers, 2)
}

func TestTwoTreesAreComparedWithinARound(t *testing.T) {
	var b strings.Builder
	require.NoError(t, writeMarkdown(&b, &results.Run{Samples: []results.Sample{
		{Scenario: "echo-128", Server: plan.Before, Round: 0, Measure: results.Measure{Value: 4}},
		{Scenario: "echo-128", Server: plan.Subject, Round: 0, Measure: results.Measure{Value: 5}},
		{Scenario: "memory", Server: plan.Before, Round: 0, Measure: results.Measure{Value: 200}},
		{Scenario: "memory", Server: plan.Subject, Round: 0, Measure: results.Measure{Value: 100}},
	}}))
	assert.Contains(t, b.String(), "| echo 128 B, 100 connections | µs of server CPU per message | 1.25 |")
	assert.Contains(t, b.String(), "| idle connection after one echo | bytes per connection | 0.50 |")
}
