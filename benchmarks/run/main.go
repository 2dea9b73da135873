// Command run starts the servers one at a time, in random order and several rounds, has the load generator measure each, and
// writes what came out as JSON and as Markdown.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/results"
)

type options struct {
	bin, bun          string
	out               string
	rounds            int
	window, warmup    time.Duration
	all               bool
	scenarios, server string
	cpus              string
	profiles          string
	namespace         bool
	clients           bool
	before            string
	dir               string // of the files that one run needs
	certificate       certificate
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory of the programs")
	flag.StringVar(&o.bun, "bun", "servers/bun", "directory of the Bun server, with its node_modules")
	flag.StringVar(&o.out, "out", "results", "writes this name with .json and .md")
	flag.IntVar(&o.rounds, "rounds", 4, "how often everything is measured")
	flag.DurationVar(&o.window, "window", 400*time.Millisecond, "time that is measured")
	flag.DurationVar(&o.warmup, "warmup", 250*time.Millisecond, "time before that")
	flag.BoolVar(&o.all, "all", false, "all scenarios instead of the short ones")
	flag.StringVar(&o.scenarios, "scenarios", "", "only these, by name, with commas between them; wss-* stands for all of those over TLS, deflate-* for those with permessage-deflate")
	flag.StringVar(&o.server, "servers", "", "only these, by name, with commas between them; \"before\" is there after make before")
	flag.StringVar(&o.cpus, "cpus", "own", "own: a CPU for the server, another one for the generator; shared: one for both; any: as the system likes")
	flag.StringVar(&o.profiles, "profiles", "", "directory for CPU profiles of the servers")
	flag.BoolVar(&o.namespace, "namespace", true, "use a network namespace with Reno if that is permitted")
	flag.BoolVar(&o.clients, "clients", false, "clients instead of servers, all with the same server")
	flag.StringVar(&o.before, "before", "", "program clients of another tree, to be measured beside this one's")
	render := flag.String("render", "", "measure nothing; write the Markdown of this JSON file to standard output")
	flag.Parse()
	err := error(nil)
	switch {
	case *render != "":
		err = renderFile(*render)
	case o.namespace && enterNamespace():
		return
	case o.clients:
		err = runClients(&o)
	default:
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func renderFile(name string) error {
	r, err := results.Load(name)
	if err != nil {
		return err
	}
	return writeMarkdown(os.Stdout, r)
}

func run(o *options) error {
	cpus, err := chooseCPUs(o.cpus)
	if err != nil {
		return err
	}
	scenarios, servers, err := o.choose()
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "benchmarks"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	if err = o.prepare(); err != nil {
		return err
	}
	r := &results.Run{Environment: environment(o), Versions: o.versions(servers)}
	var failed []error
	for round := range o.rounds {
		for i := range scenarios {
			s := &scenarios[i]
			if s.MaxRounds > 0 && round >= s.MaxRounds {
				continue
			}
			for _, n := range rand.Perm(len(servers)) {
				if !s.TakesPart(&servers[n]) {
					continue
				}
				sample := results.Sample{Scenario: s.Name, Server: servers[n].Name, Round: round}
				if sample.Measure, err = o.measure(s, &servers[n], round, cpus); err != nil {
					sample.Error = err.Error()
					failed = append(failed, fmt.Errorf("%s, %s: %w", s.Name, servers[n].Name, err))
				}
				r.Samples = append(r.Samples, sample)
				fmt.Fprintf(os.Stderr, "%d/%d %-23s %-24s %s\n", round+1, o.rounds, s.Name, servers[n].Name, describe(&sample))
			}
		}
		if err = o.save(r); err != nil {
			return err
		}
	}
	if err = writeMarkdown(os.Stdout, r); err != nil {
		return err
	}
	return errors.Join(failed...)
}

// prepare makes the files that servers and generator need.
func (o *options) prepare() (err error) {
	for _, set := range plan.Sets {
		if err = os.WriteFile(o.messages(set), bytes.Join(set.Messages(), []byte{'\n'}), 0o600); err != nil {
			return err
		}
	}
	o.certificate, err = newCertificate(o.dir)
	return err
}

func (o *options) messages(set plan.Set) string { return filepath.Join(o.dir, string(set)) }

// choose applies the flags to the two tables.
func (o *options) choose() (scenarios []plan.Scenario, servers []plan.Server, err error) {
	scenarios, err = o.chooseScenarios()
	if err != nil {
		return nil, nil, err
	}
	wanted := split(o.server)
	for _, server := range plan.Servers {
		if !slices.Contains(wanted, server.Name) && (len(wanted) > 0 || server.Name == plan.Before) {
			continue
		}
		if !slices.ContainsFunc(scenarios, func(s plan.Scenario) bool { return s.TakesPart(&server) }) {
			continue
		}
		if server.Dir == plan.Bun && !o.hasBun() {
			fmt.Fprintf(os.Stderr, "run: left out %s: \"make bun\" installs it\n", server.Name)
			continue
		}
		servers = append(servers, server)
	}
	if len(wanted) > 0 && len(servers) == 0 {
		err = fmt.Errorf("nothing to measure of %q", o.server)
	}
	return scenarios, servers, err
}

func (o *options) chooseScenarios() (scenarios []plan.Scenario, err error) {
	patterns := split(o.scenarios)
	found := make(map[string]bool)
	for _, s := range plan.Scenarios {
		wanted := len(patterns) == 0 && (s.Short || o.all && s.Group() == plan.Plain)
		for _, pattern := range patterns {
			if match, _ := path.Match(pattern, s.Name); match {
				found[pattern], wanted = true, true
			}
		}
		if wanted {
			scenarios = append(scenarios, s)
		}
	}
	if len(found) != len(patterns) {
		return nil, fmt.Errorf("unknown name among %q", o.scenarios)
	}
	return scenarios, nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func describe(s *results.Sample) string {
	if s.Error != "" {
		return s.Error
	}
	text := fmt.Sprintf("%.4g", s.Value)
	if s.LoadLimited {
		text += " (the generator was the limit)"
	}
	return text
}

func (o *options) save(r *results.Run) error {
	if err := r.Save(o.out + ".json"); err != nil {
		return err
	}
	f, err := os.Create(o.out + ".md")
	if err != nil {
		return err
	}
	return errors.Join(writeMarkdown(io.Writer(f), r), f.Close())
}

func (o *options) hasBun() bool {
	_, err := os.Stat(filepath.Join(o.bun, bunProgram))
	return err == nil
}
