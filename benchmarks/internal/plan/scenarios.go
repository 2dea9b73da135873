// Package plan holds the two tables of the benchmarks: servers and scenarios.
package plan

import "time"

// Kind is what the load generator does.
type Kind uint8

const (
	Echo      Kind = iota // each active connection sends InFlight messages, and again once all are answered
	TextEcho              // Echo with text messages
	Sleep                 // TextEcho with handlers that sleep 10 ms
	Router                // TextEcho with JSON requests, whose answers are JSON too
	Broadcast             // one connection sends a message, which all get; and again
	Churn                 // connect, upgrade, one echo, close; Connections at a time
	Block                 // Echo without and with one more connection whose handler sleeps nearly all the time
	Memory                // connections after one echo, Active and then Connections of them
	Idle                  // connections that send nothing but Pongs
)

// Metric is what is compared.
type Metric uint8

const (
	CPU     Metric = iota // server CPU time per message, in µs
	Rate                  // messages per second
	Bytes                 // resident bytes per connection
	Percent               // server CPU time per time, in %
	Times                 // 99th percentile of latency with ÷ without
)

// Unit returns the unit of the metric's values.
func (m Metric) Unit() string {
	return [...]string{"µs of server CPU per message", "messages per second", "bytes per connection", "% of one core", "times"}[m]
}

// Base returns the server that others are divided by, or none.
func (m Metric) Base() string { return [...]string{Floor, Threaded, "", "", ""}[m] }

// Scenario is one row of the results.
type Scenario struct {
	Name        string
	Title       string
	Kind        Kind
	Metric      Metric
	Size        int // of the payload, in bytes
	Connections int
	Active      int // connections that send; 0 stands for all
	InFlight    int // 0 stands for 1
	Needs       Ability
	Args        []string      // for the server
	Only        string        // the one server it is for
	Window      time.Duration // 0 stands for the flag
	MaxRounds   int           // 0 stands for the flag
	Short       bool          // belongs to "make bench"
}

// Scenarios are all of them, in the order of the tables.
var Scenarios = []Scenario{
	{Name: "echo-16", Title: "echo 16 B, 100 connections", Size: 16, Connections: 100},
	{Name: "echo-128", Title: "echo 128 B, 100 connections", Size: 128, Connections: 100, Short: true},
	{Name: "echo-128-1k", Title: "echo 128 B, 1,000 connections", Size: 128, Connections: 1000, Short: true},
	{Name: "echo-128-10k", Title: "echo 128 B, 10,000 connections", Size: 128, Connections: 10000},
	{Name: "uneven", Title: "echo 128 B, 10 busy among 10,000 connections", Size: 128, Connections: 10000, Active: 10},
	{Name: "echo-1k", Title: "echo 1 KiB, 100 connections", Size: 1 << 10, Connections: 100},
	{Name: "echo-16k", Title: "echo 16 KiB, 100 connections", Size: 16 << 10, Connections: 100, Short: true},
	{Name: "echo-64k", Title: "echo 64 KiB, 100 connections", Size: 64 << 10, Connections: 100},
	{Name: "echo-1m", Title: "echo 1 MiB, 10 connections", Size: 1 << 20, Connections: 10, Short: true},
	{Name: "text-128", Title: "echo 128 B of text, 100 connections", Kind: TextEcho, Size: 128, Connections: 100},
	{Name: "router", Title: "JSON request of 128 B, 100 connections", Kind: Router, Size: 128, Connections: 100, Needs: Routes,
		Args: []string{"-router"}},
	{Name: "in-flight", Title: "64 messages of 128 B in flight, 100 connections", Size: 128, Connections: 100, InFlight: 64,
		Needs: Pipelines, Short: true},
	{Name: "broadcast", Title: "broadcast 128 B to 1,000 connections", Kind: Broadcast, Size: 128, Connections: 1000,
		Needs: Broadcasts, Args: []string{"-broadcast"}, Short: true},
	{Name: "churn", Title: "connect, upgrade, one echo, close", Kind: Churn, Size: 128, Connections: 64, Short: true},
	{Name: "sleep", Title: "handlers that sleep 10 ms, 1,000 connections", Kind: Sleep, Metric: Rate, Size: 128, Connections: 1000,
		Needs: Sleeps, Window: time.Second},
	{Name: "block", Title: "99th percentile beside 1 of 100 connections with a blocking handler", Kind: Block, Metric: Times,
		Size: 128, Connections: 100, Needs: Sleeps},
	{Name: "memory", Title: "idle connection after one echo", Kind: Memory, Metric: Bytes, Size: 128, Connections: 19000,
		Active: 2000, MaxRounds: 2, Short: true},
	{Name: "memory-users", Title: "idle connection with context, user and manager entry", Kind: Memory, Metric: Bytes, Size: 128,
		Connections: 19000, Active: 2000, Needs: Users, Args: []string{"-users"}, MaxRounds: 2, Short: true},
	{Name: "idle", Title: "10,000 idle connections with default Pings, for a minute", Kind: Idle, Metric: Percent, Size: 128,
		Connections: 10000, Only: Subject, Window: time.Minute, MaxRounds: 2},
}

// Comparison divides one scenario's cost by another's, of the same server and round.
type Comparison struct {
	Title string
	Over  string
	Under string
}

// Comparisons are all of them.
var Comparisons = []Comparison{
	{Title: "JSON request ÷ echo of a text of that size", Over: "router", Under: "text-128"},
	{Title: "echo at 10,000 connections ÷ at 100", Over: "echo-128-10k", Under: "echo-128"},
}

// Find returns the scenario of that name.
func Find(name string) (s *Scenario, ok bool) {
	for i := range Scenarios {
		if Scenarios[i].Name == name {
			return &Scenarios[i], true
		}
	}
	return nil, false
}
