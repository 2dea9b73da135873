package results

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSpread(t *testing.T) {
	assert.Equal(t, Spread{}, SpreadOf(nil))
	assert.Equal(t, Spread{Median: 2, Min: 1, Max: 9, N: 3}, SpreadOf([]float64{9, 1, 2}))
	assert.Equal(t, Spread{Median: 2.5, Min: 1, Max: 9, N: 4}, SpreadOf([]float64{9, 1, 3, 2}))
	assert.Equal(t, "2.50 (1.00–9.00)", SpreadOf([]float64{9, 1, 3, 2}).String())
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	run := &Run{Samples: []Sample{
		{Scenario: "a", Server: "floor", Round: 0, Measure: Measure{Value: 2}},
		{Scenario: "a", Server: "floor", Round: 1, Measure: Measure{Value: 10}},
		{Scenario: "a", Server: "floor", Round: 2, Measure: Measure{Value: 1}},
		{Scenario: "a", Server: "gws", Round: 0, Measure: Measure{Value: 3}},
		{Scenario: "a", Server: "gws", Round: 1, Measure: Measure{Value: 20}},
		{Scenario: "a", Server: "gws", Round: 2, Error: "failed"},
		{Scenario: "a", Server: "gws", Round: 3, Measure: Measure{Value: 20}},
	}}
	assert.Equal(t, Spread{Median: 1.75, Min: 1.5, Max: 2, N: 2}, run.Ratios("a", "gws", "a", "floor"))
	assert.Equal(t, []string{"floor", "gws"}, run.Servers())
}

func TestFiguresOfASampleHaveTheirSpread(t *testing.T) {
	run := &Run{Samples: []Sample{
		{Scenario: "a", Server: "gws", Round: 0, Measure: Measure{P99: 3, TLS: "TLS 1.3"}},
		{Scenario: "a", Server: "gws", Round: 1, Measure: Measure{P99: 5}},
		{Scenario: "a", Server: "gws", Round: 2, Error: "failed"},
		{Scenario: "a", Server: "coder", Round: 1, Measure: Measure{P99: 7}},
	}}
	assert.Equal(t, Spread{Median: 4, Min: 3, Max: 5, N: 2}, run.Spread("a", "gws", func(s *Sample) float64 { return s.P99 }))
	assert.Equal(t, "TLS 1.3", run.TLS("gws"))
	assert.Empty(t, run.TLS("coder"))
}

func TestARunComesBackFromItsFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "run.json")
	run := &Run{
		Environment: map[string]string{"go": "go1.x"},
		Versions:    map[string]string{"gws": "v1"},
		Samples:     []Sample{{Scenario: "a", Server: "gws", Round: 4, Measure: Measure{Value: 3, LoadLimited: true}}},
	}
	require.NoError(t, run.Save(name))
	got, err := Load(name)
	require.NoError(t, err)
	assert.Equal(t, run, got)
}
