package main

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/benchmarks/internal/plan"
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
			if !takesPart(s, server) || server.Name == plan.Bun && !o.hasBun() {
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
