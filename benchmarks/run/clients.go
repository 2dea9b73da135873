package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/results"
)

const (
	clientProgram = "clients"
	clientServer  = "gorilla" // what all clients talk to
)

// clientSample is what one client did in one scenario of one round.
type clientSample struct {
	Scenario string `json:"scenario"`
	Client   string `json:"client"`
	Round    int    `json:"round"`
	Error    string `json:"error,omitempty"`
	plan.ClientMeasure
}

// clientRun is all that was measured, and where.
type clientRun struct {
	Environment map[string]string `json:"environment"`
	Versions    map[string]string `json:"versions"`
	Samples     []clientSample    `json:"samples"`
}

// runClients measures each client in each scenario and round, in an order that is drawn anew, each with a new server.
func runClients(o *options) error {
	where, err := chooseCPUs(o.cpus)
	if err != nil {
		return err
	}
	r := &clientRun{Environment: environment(o), Versions: o.clientVersions()}
	var failed []error
	for round := range o.rounds {
		for _, s := range plan.ClientScenarios {
			if !wants(o.scenarios, s.Name) {
				continue
			}
			for _, n := range rand.Perm(len(plan.Clients)) {
				client := plan.Clients[n].Name
				if !wants(o.server, client) || client == plan.Before && o.before == "" {
					continue
				}
				sample := clientSample{Scenario: s.Name, Client: client, Round: round}
				if sample.ClientMeasure, err = o.measureClient(&s, client, round, where); err != nil {
					sample.Error = err.Error()
					failed = append(failed, fmt.Errorf("%s, %s: %w", s.Name, client, err))
				}
				r.Samples = append(r.Samples, sample)
				fmt.Fprintf(os.Stderr, "%d/%d %-10s %-8s %s\n", round+1, o.rounds, s.Name, client, sample.describe())
			}
		}
		if err = r.save(o.out); err != nil {
			return err
		}
	}
	r.write(os.Stdout)
	return errors.Join(failed...)
}

func wants(list, name string) bool { return list == "" || slices.Contains(split(list), name) }

// measureClient starts the server, has the client measure itself, and stops the server.
func (o *options) measureClient(s *plan.ClientScenario, client string, round int, where cpus) (m plan.ClientMeasure, err error) {
	addr, err := freeAddress()
	if err != nil {
		return m, err
	}
	server := exec.Command(filepath.Join(o.bin, clientServer), "-addr", addr)
	if err = start(server, &where.server); err != nil {
		return m, err
	}
	defer stop(server)
	if err = awaitServer(addr); err != nil {
		return m, err
	}
	program, library := filepath.Join(o.bin, clientProgram), client
	if client == plan.Before {
		program, library = o.before, plan.Subject
	}
	args := []string{"-url", "ws://" + addr + "/", "-library", library, "-size", fmt.Sprint(s.Size), "-in-flight", fmt.Sprint(s.InFlight),
		"-idle", fmt.Sprint(s.Idle), "-warmup", o.warmup.String(), "-window", o.window.String()}
	if o.profiles != "" && s.Idle == 0 {
		args = append(args, "-cpuprofile", filepath.Join(o.profiles, fmt.Sprintf("client-%s-%s-%d.pprof", client, s.Name, round)))
	}
	err = runLoad(exec.Command(program, args...), where, &m)
	return m, err
}

func (o *options) clientVersions() map[string]string {
	versions := make(map[string]string)
	info, err := buildinfo.ReadFile(filepath.Join(o.bin, clientProgram))
	if err != nil {
		return versions
	}
	for _, client := range plan.Clients {
		for _, dep := range info.Deps {
			if client.Module != "" && dep.Path == client.Module {
				versions[client.Name] = dep.Path + " " + dep.Version
			}
		}
	}
	return versions
}

// microseconds is the CPU time of a message.
func (s *clientSample) microseconds() float64 { return s.CPU / float64(s.Messages) * 1e6 }

func (s *clientSample) describe() string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Messages == 0:
		return fmt.Sprintf("%.0f bytes, %.1f goroutines", s.Resident, s.Goroutines)
	}
	return fmt.Sprintf("%.1f µs, %.1f allocations, %.0f echoes/s", s.microseconds(), s.Allocations, float64(s.Messages)/s.Seconds)
}

func (r *clientRun) save(name string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err == nil {
		err = os.WriteFile(name+".json", append(b, '\n'), 0o644)
	}
	if err != nil {
		return err
	}
	f, err := os.Create(name + ".md")
	if err != nil {
		return err
	}
	r.write(f)
	return f.Close()
}

// clientTables are the tables, each with a figure of a sample.
var clientTables = []struct {
	title string
	isOf  func(s *plan.ClientScenario) bool
	value func(s *clientSample) float64
}{
	{"µs of CPU of the client process per echo", isEcho, (*clientSample).microseconds},
	{"allocations per echo", isEcho, func(s *clientSample) float64 { return s.Allocations }},
	{"bytes allocated per echo", isEcho, func(s *clientSample) float64 { return s.Allocated }},
	{"resident bytes of a connection", isIdle, func(s *clientSample) float64 { return s.Resident }},
	{"goroutines of a connection", isIdle, func(s *clientSample) float64 { return s.Goroutines }},
}

func isEcho(s *plan.ClientScenario) bool { return s.Idle == 0 }
func isIdle(s *plan.ClientScenario) bool { return s.Idle != 0 }

func (r *clientRun) write(w io.Writer) {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.Environment)) {
		fmt.Fprintf(&b, "%s: %s  \n", key, r.Environment[key])
	}
	for _, client := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "%s: %s  \n", client, r.Versions[client])
	}
	var clients []string
	for _, client := range plan.Clients {
		if slices.ContainsFunc(r.Samples, func(s clientSample) bool { return s.Client == client.Name }) {
			clients = append(clients, client.Name)
		}
	}
	for _, table := range clientTables {
		writeHead(&b, append([]string{table.title}, clients...))
		for _, s := range plan.ClientScenarios {
			if !table.isOf(&s) {
				continue
			}
			fmt.Fprintf(&b, "| %s |", s.Title)
			for _, client := range clients {
				fmt.Fprintf(&b, " %s |", results.SpreadOf(slices.Collect(maps.Values(r.values(s.Name, client, table.value)))))
			}
			b.WriteByte('\n')
		}
	}
	r.writeRatios(&b, clients)
	io.WriteString(w, b.String())
}

// writeRatios divides the CPU time of this package by that of the others in the same round.
func (r *clientRun) writeRatios(b *strings.Builder, clients []string) {
	writeHead(b, append([]string{plan.Subject + " ÷ the others, CPU"}, clients...))
	for _, s := range plan.ClientScenarios {
		if !isEcho(&s) {
			continue
		}
		fmt.Fprintf(b, "| %s |", s.Title)
		ours := r.values(s.Name, plan.Subject, (*clientSample).microseconds)
		for _, client := range clients {
			var ratios []float64
			for round, theirs := range r.values(s.Name, client, (*clientSample).microseconds) {
				if value, ok := ours[round]; ok {
					ratios = append(ratios, value/theirs)
				}
			}
			fmt.Fprintf(b, " %s |", results.SpreadOf(ratios))
		}
		b.WriteByte('\n')
	}
}

// values returns a figure of a client in a scenario, by the round.
func (r *clientRun) values(scenario, client string, of func(*clientSample) float64) map[int]float64 {
	values := make(map[int]float64)
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Scenario == scenario && s.Client == client && s.Error == "" {
			values[s.Round] = of(s)
		}
	}
	return values
}
