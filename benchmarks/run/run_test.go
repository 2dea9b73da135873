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
var tested = []string{"echo-128", "echo-1m", "text-128", "router", "in-flight", "broadcast", "churn", "sleep", "block",
	"wss-echo-128", "wss-echo-16k", "wss-handshake", "wss-flood",
	"deflate-send-orders", "deflate-send-chat", "deflate-send-plain", "deflate-echo", "deflate-echo-plain",
	"deflate-broadcast", "deflate-broadcast-plain"}

func TestServersAnswerTheScenarios(t *testing.T) {
	o := &options{bin: t.TempDir(), bun: "../servers/bun", dir: t.TempDir(), window: 20 * time.Millisecond, warmup: 100 * time.Millisecond}
	out, err := exec.Command("go", "build", "-o", o.bin, "../load", "../servers/...").CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, o.prepare())
	where, err := chooseCPUs("any")
	require.NoError(t, err)
	for _, name := range tested {
		s, ok := plan.Find(name)
		require.True(t, ok, name)
		for i := range plan.Servers {
			server := &plan.Servers[i]
			if !s.TakesPart(server) || server.Name == plan.Before || server.Dir == plan.Bun && !o.hasBun() {
				continue
			}
			t.Run(name+" with "+server.Name, func(t *testing.T) {
				m, err := o.measure(s, server, 0, where)
				require.NoError(t, err)
				assert.Positive(t, m.Messages)
				assert.Positive(t, m.ServerCPU)
				assert.Equal(t, s.Kind == plan.Flood, m.Replays > 0)
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

func TestScenariosAreChosenByName(t *testing.T) {
	for _, test := range []struct {
		name      string
		scenarios string
		all       bool
		has, not  string
	}{
		{name: "the short ones", has: "echo-128", not: "echo-16"},
		{name: "all but those over TLS", all: true, has: "echo-16", not: "wss-echo-128"},
		{name: "those of a pattern", scenarios: "wss-*,echo-16", has: "wss-memory", not: "echo-128"},
	} {
		t.Run(test.name, func(t *testing.T) {
			scenarios, _, err := (&options{scenarios: test.scenarios, all: test.all}).choose()
			require.NoError(t, err)
			var names []string
			for _, s := range scenarios {
				names = append(names, s.Name)
			}
			assert.Contains(t, names, test.has)
			assert.NotContains(t, names, test.not)
		})
	}
	for _, unknown := range []string{"echo", "wsss-*", "echo-16,none"} {
		_, _, err := (&options{scenarios: unknown}).choose()
		assert.Error(t, err, unknown)
	}
}

func TestServersWithoutAScenarioAreLeftOut(t *testing.T) {
	_, servers, err := (&options{scenarios: "wss-*"}).choose()
	require.NoError(t, err)
	for _, server := range servers {
		assert.NotZero(t, server.Can&plan.Encrypts, server.Name)
	}
	assert.NotEmpty(t, servers)
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

func TestFiguresOverTLSHaveTablesOfTheirOwn(t *testing.T) {
	const terms = "TLS 1.3, some cipher"
	var b strings.Builder
	require.NoError(t, writeMarkdown(&b, &results.Run{Samples: []results.Sample{
		{Scenario: "echo-128", Server: plan.Floor, Measure: results.Measure{Value: 5}},
		{Scenario: "echo-128", Server: plan.Subject, Measure: results.Measure{Value: 10}},
		{Scenario: "wss-echo-128", Server: plan.Subject, Measure: results.Measure{Value: 12, TLS: terms}},
		{Scenario: "wss-echo-128", Server: plan.Common, Measure: results.Measure{Value: 16, TLS: terms}},
		{Scenario: "wss-flood", Server: plan.Subject, Measure: results.Measure{Value: 8000, P99: 1500, Replays: 900, TLS: terms}},
		{Scenario: "wss-flood", Server: plan.Common, Measure: results.Measure{Value: 400, P99: 200000, Replays: 950, TLS: terms}},
	}}))
	text := b.String()
	assert.Contains(t, text, "wsloop over TLS: TLS 1.3, some cipher  \n")
	assert.Contains(t, text, "| echo 128 B, 100 connections | 5.00 | 1.00 | 2.00 | – |")
	assert.Contains(t, text, "| over TLS: µs of server CPU per message ÷ gws | gws, µs of server CPU per message | floor | wsloop | gws |\n"+
		"|---|--:|--:|--:|--:|\n| echo 128 B, 100 connections | 16.00 | – | 0.75 | 1.00 |\n")
	assert.Contains(t, text, "| 99th percentile of an echo, ms | – | 1.50 | 200 |")
	assert.Contains(t, text, "| ClientHellos answered per second | – | 900 | 950 |")
	assert.Contains(t, text, "| over TLS: wsloop ÷ the other | of what | floor | gws |")
	assert.Contains(t, text, "| echo 128 B, 100 connections | µs of server CPU per message | – | 0.75 |")
}

func TestFiguresWithPermessageDeflateHaveTablesOfTheirOwn(t *testing.T) {
	var b strings.Builder
	require.NoError(t, writeMarkdown(&b, &results.Run{Samples: []results.Sample{
		{Scenario: "deflate-echo", Server: plan.SubjectDeflate, Measure: results.Measure{Value: 12, Deflate: "permessage-deflate"}},
		{Scenario: "deflate-echo", Server: plan.CommonDeflate, Measure: results.Measure{Value: 16}},
		{Scenario: "deflate-send-chat", Server: plan.SubjectDeflate, Measure: results.Measure{Value: 12, Wire: 0.125}},
		{Scenario: "deflate-send-chat", Server: plan.CommonDeflate, Measure: results.Measure{Value: 16, Wire: 0.5}},
		{Scenario: "deflate-echo-plain", Server: plan.Subject, Measure: results.Measure{Value: 4, Wire: 1}},
		{Scenario: "deflate-echo-plain", Server: plan.SubjectDeflate, Measure: results.Measure{Value: 5, Wire: 1}},
	}}))
	text := b.String()
	assert.Contains(t, text, "wsloop-deflate: permessage-deflate  \n")
	assert.Contains(t, text, "| echo of orders, 100 connections | 16.00 | – | 0.75 | 1.00 |")
	assert.Contains(t, text, "| 100 chat messages sent for each request, 20 connections | – | 12.50 | 50.00 |")
	assert.Contains(t, text, "| echo of orders, compressed ÷ plain | – | 2.40 | – |")
	assert.Contains(t, text, "| echo of orders, clients that do not offer it | µs of server CPU per message | 1.25 |")
}

func TestServersThatCompressAreThereForThatAlone(t *testing.T) {
	for i := range plan.Scenarios {
		s := &plan.Scenarios[i]
		for j := range plan.Servers {
			server := &plan.Servers[j]
			if s.TakesPart(server) && s.Group() != plan.Compressed {
				assert.Zero(t, server.Can&plan.Compresses, "%s, %s", s.Name, server.Name)
			}
			if s.TakesPart(server) && s.Offers {
				assert.NotZero(t, server.Can&plan.Compresses, "%s, %s", s.Name, server.Name)
			}
		}
	}
}
