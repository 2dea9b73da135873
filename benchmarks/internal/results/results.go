// Package results holds what a run of the benchmarks measured.
package results

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
)

// Measure is what the load generator says about one scenario with one server.
type Measure struct {
	Value       float64 `json:"value"` // in the unit of the scenario's metric
	Messages    int64   `json:"messages"`
	Seconds     float64 `json:"seconds"`
	ServerCPU   float64 `json:"server_cpu_seconds"`
	LoadCPU     float64 `json:"load_cpu_seconds"`
	P50         float64 `json:"p50_us,omitempty"`
	P99         float64 `json:"p99_us,omitempty"`
	P99Without  float64 `json:"p99_without_us,omitempty"`
	Replays     float64 `json:"replays_per_second,omitempty"` // ClientHellos that were answered
	TLS         string  `json:"tls,omitempty"`                // what was negotiated
	Deflate     string  `json:"deflate,omitempty"`            // what was negotiated
	Wire        float64 `json:"wire,omitempty"`               // bytes of the answers ÷ bytes of the same messages without compression
	Resident    int64   `json:"resident_bytes,omitempty"`
	LoadLimited bool    `json:"load_limited,omitempty"` // the generator's CPU was the limit, the server's was not
}

// Sample is one measure in its place.
type Sample struct {
	Scenario string `json:"scenario"`
	Server   string `json:"server"`
	Round    int    `json:"round"`
	Error    string `json:"error,omitempty"`
	Measure
}

// Run is all that was measured, and where.
type Run struct {
	Environment map[string]string `json:"environment"`
	Versions    map[string]string `json:"versions"` // by server
	Samples     []Sample          `json:"samples"`
}

// Load reads a run from a file.
func Load(name string) (run *Run, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	run = new(Run)
	return run, json.Unmarshal(b, run)
}

// Save writes a run to a file.
func (run *Run) Save(name string) error {
	b, err := json.MarshalIndent(run, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// Spread is the median of several values with their range.
type Spread struct {
	Median, Min, Max float64
	N                int
}

// SpreadOf returns the spread of values, whose order it changes.
func SpreadOf(values []float64) (s Spread) {
	if len(values) == 0 {
		return s
	}
	slices.Sort(values)
	n := len(values)
	return Spread{Median: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1], N: n}
}

// String shows the median with the range.
func (s Spread) String() string {
	digits := 2
	if s.Median >= 100 {
		digits = 0
	}
	switch {
	case s.N == 0:
		return "–"
	case s.N == 1 || s.Min == s.Max:
		return fmt.Sprintf("%.*f", digits, s.Median)
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
}

// Values returns what a server reached in a scenario.
func (run *Run) Values(scenario, server string) Spread {
	return run.Spread(scenario, server, func(s *Sample) float64 { return s.Value })
}

// Spread returns the spread of one figure of a server's samples in a scenario.
func (run *Run) Spread(scenario, server string, of func(*Sample) float64) Spread {
	var values []float64
	for i := range run.Samples {
		if s := &run.Samples[i]; s.Scenario == scenario && s.Server == server && s.Error == "" {
			values = append(values, of(s))
		}
	}
	return SpreadOf(values)
}

// TLS returns what a server negotiated, or nothing if it was measured without TLS only.
func (run *Run) TLS(server string) string {
	for _, s := range run.Samples {
		if s.Server == server && s.TLS != "" {
			return s.TLS
		}
	}
	return ""
}

// Deflate returns what a server negotiated for permessage-deflate, or nothing if it was not offered any.
func (run *Run) Deflate(server string) string {
	for _, s := range run.Samples {
		if s.Server == server && s.Measure.Deflate != "" {
			return s.Measure.Deflate
		}
	}
	return ""
}

// Ratios divides the values of one scenario and server by those of another in the same round.
func (run *Run) Ratios(over, overServer, under, underServer string) Spread {
	bases := make(map[int]float64)
	for _, s := range run.Samples {
		if s.Scenario == under && s.Server == underServer && s.Error == "" && s.Value > 0 {
			bases[s.Round] = s.Value
		}
	}
	var values []float64
	for _, s := range run.Samples {
		if base := bases[s.Round]; s.Scenario == over && s.Server == overServer && s.Error == "" && base > 0 {
			values = append(values, s.Value/base)
		}
	}
	return SpreadOf(values)
}

// LoadLimited returns in how many samples of a scenario and server the generator was the limit.
func (run *Run) LoadLimited(scenario, server string) (n int) {
	for _, s := range run.Samples {
		if s.Scenario == scenario && s.Server == server && s.LoadLimited {
			n++
		}
	}
	return n
}

// Has reports whether a scenario was measured.
func (run *Run) Has(scenario string) bool {
	return slices.ContainsFunc(run.Samples, func(s Sample) bool { return s.Scenario == scenario })
}

// Servers returns the servers that were measured, in the order of the plan.
func (run *Run) Servers() (names []string) {
	for _, server := range plan.Servers {
		if slices.ContainsFunc(run.Samples, func(s Sample) bool { return s.Server == server.Name }) {
			names = append(names, server.Name)
		}
	}
	return names
}
