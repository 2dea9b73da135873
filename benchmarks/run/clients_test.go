package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/benchmarks/internal/plan"
)

func TestClientsAnswerTheScenarios(t *testing.T) {
	o := &options{bin: t.TempDir(), window: 50 * time.Millisecond, warmup: 100 * time.Millisecond}
	out, err := exec.Command("go", "build", "-o", o.bin, "../clients", "../servers/gorilla").CombinedOutput()
	require.NoError(t, err, string(out))
	where, err := chooseCPUs("any")
	require.NoError(t, err)
	r := new(clientRun)
	for _, s := range plan.ClientScenarios {
		s.Idle = min(s.Idle, 20)
		for _, client := range plan.Clients {
			if client.Name == plan.Before {
				continue
			}
			t.Run(s.Name+" with "+client.Name, func(t *testing.T) {
				m, err := o.measureClient(&s, client.Name, 0, where)
				require.NoError(t, err)
				if s.Idle > 0 {
					assert.GreaterOrEqual(t, m.Goroutines, 1.0)
					return
				}
				assert.Positive(t, m.Messages)
				assert.Positive(t, m.CPU)
				r.Samples = append(r.Samples, clientSample{Scenario: s.Name, Client: client.Name, ClientMeasure: m})
			})
		}
	}
	var b strings.Builder
	r.write(&b)
	assert.Contains(t, b.String(), "| µs of CPU of the client process per echo | wsloop | wsloop-kept | gws | gorilla | coder |")
}
