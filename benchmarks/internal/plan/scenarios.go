// Package plan holds the two tables of the benchmarks: servers and scenarios.
package plan

import (
	"slices"
	"time"
)

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
	Handshake             // Churn without the echo
	Flood                 // Echo beside Flooders, each of which sends a recorded ClientHello, reads what answers it, and again
	Feed                  // TextEcho, where each message asks for the next hundred of the set
	Claim                 // connections after one echo, then each sends the header of a TLS record of 16 KiB, and no more
)

// Text tells whether the messages are text, not binary.
func (k Kind) Text() bool {
	return k == TextEcho || k == Sleep || k == Router || k == Broadcast || k == Feed
}

// Group is a part of the scenarios that has tables of its own.
type Group string

const (
	Plain      Group = ""
	Encrypted  Group = "over TLS"
	Compressed Group = "permessage-deflate"
)

// Metric is what is compared.
type Metric uint8

const (
	CPU        Metric = iota // server CPU time per message, in µs
	Rate                     // messages per second
	Bytes                    // resident bytes per connection
	Percent                  // server CPU time per time, in %
	Times                    // 99th percentile of latency with ÷ without
	Handshakes               // server CPU time per connection, in µs
)

// Unit returns the unit of the metric's values.
func (m Metric) Unit() string {
	return [...]string{"µs of server CPU per message", "messages per second", "bytes per connection", "% of one core", "times",
		"µs of server CPU per handshake"}[m]
}

// Scenario is one row of the results.
type Scenario struct {
	Name        string
	Title       string
	Kind        Kind
	Metric      Metric
	Size        int  // of the payload, in bytes
	Set         Set  // that the payloads are from; empty: they are random
	Offers      bool // the clients offer permessage-deflate, and insist on it
	Connections int
	Active      int // connections that send; 0 stands for all
	InFlight    int // 0 stands for 1
	Echoes      int // of each connection before Memory; 0 stands for 1
	Flooders    int
	Needs       Ability
	Args        []string      // for the server
	Only        []string      // the servers it is for; none stands for all
	Window      time.Duration // 0 stands for the flag
	MaxRounds   int           // 0 stands for the flag
	Short       bool          // belongs to "make bench"
}

// Group returns the scenario's group.
func (s *Scenario) Group() Group {
	switch {
	case s.Needs&Encrypts != 0:
		return Encrypted
	case s.Needs&Pairs != 0:
		return Compressed
	}
	return Plain
}

// Encrypted tells whether the scenario is one of those over TLS.
func (s *Scenario) Encrypted() bool { return s.Group() == Encrypted }

// TakesPart tells whether a server does. Those that have permessage-deflate switched on are there for that alone.
func (s *Scenario) TakesPart(server *Server) bool {
	return s.Needs&^server.Can == 0 && (len(s.Only) == 0 || slices.Contains(s.Only, server.Name)) &&
		(server.Can&Compresses == 0 || s.Group() == Compressed)
}

// Base returns the server that others are divided by, or none.
func (s *Scenario) Base() string {
	switch {
	case s.Encrypted() && s.Metric == CPU:
		return Common
	case s.Group() == Compressed && s.Metric == CPU:
		return CommonDeflate
	case s.Group() != Plain:
		return ""
	case s.Metric == CPU:
		return Floor
	case s.Metric == Rate:
		return Threaded
	}
	return ""
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
		Connections: 10000, Only: []string{Subject}, Window: time.Minute, MaxRounds: 2},
	{Name: "wss-echo-128", Title: "echo 128 B, 100 connections", Size: 128, Connections: 100, Needs: Encrypts},
	{Name: "wss-echo-128-1k", Title: "echo 128 B, 1,000 connections", Size: 128, Connections: 1000, Needs: Encrypts},
	{Name: "wss-echo-16k", Title: "echo 16 KiB, 100 connections", Size: 16 << 10, Connections: 100, Needs: Encrypts},
	{Name: "wss-handshake", Title: "connect, full TLS handshake, upgrade, close", Kind: Handshake, Metric: Handshakes, Size: 128,
		Connections: 64, Needs: Encrypts},
	{Name: "wss-flood", Title: "20 echoing connections beside 200 clients that replay a ClientHello", Kind: Flood, Metric: Rate,
		Size: 128, Connections: 20, Flooders: 200, Needs: Encrypts, Window: time.Second, MaxRounds: 5},
	{Name: "wss-memory", Title: "idle connection after one echo of 128 B", Kind: Memory, Metric: Bytes, Size: 128,
		Connections: 2000, Active: 300, Needs: Encrypts, MaxRounds: 2},
	{Name: "wss-memory-16k", Title: "idle connection after one echo of 16 KiB", Kind: Memory, Metric: Bytes, Size: 16 << 10,
		Connections: 2000, Active: 300, Needs: Encrypts, MaxRounds: 2},
	{Name: "wss-claim", Title: "added by the header of a record of 16 KiB, and silence", Kind: Claim, Metric: Bytes, Size: 128,
		Connections: 1000, Needs: Encrypts, MaxRounds: 2},
	{Name: "deflate-send-orders", Title: "100 orders sent for each request, 20 connections", Kind: Feed, Set: Orders,
		Connections: 20, Needs: Pairs | Compresses, Offers: true},
	{Name: "deflate-send-chat", Title: "100 chat messages sent for each request, 20 connections", Kind: Feed, Set: Chat,
		Connections: 20, Needs: Pairs | Compresses, Offers: true},
	{Name: "deflate-send-plain", Title: "100 orders, clients that do not offer it", Kind: Feed, Set: Orders,
		Connections: 20, Needs: Pairs},
	{Name: "deflate-echo", Title: "echo of orders, 100 connections", Kind: TextEcho, Set: Orders, Connections: 100,
		Needs: Pairs | Compresses, Offers: true},
	{Name: "deflate-echo-plain", Title: "echo of orders, clients that do not offer it", Kind: TextEcho, Set: Orders,
		Connections: 100, Needs: Pairs},
	{Name: "deflate-broadcast", Title: "broadcast of orders to 1,000 connections", Kind: Broadcast, Set: Orders,
		Connections: 1000, Needs: Pairs | Compresses | Broadcasts, Args: []string{"-broadcast"}, Offers: true},
	{Name: "deflate-broadcast-plain", Title: "broadcast of orders, clients that do not offer it", Kind: Broadcast, Set: Orders,
		Connections: 1000, Needs: Pairs | Broadcasts, Args: []string{"-broadcast"}},
	{Name: "deflate-memory", Title: "idle connection after 100 echoes of orders", Kind: Memory, Metric: Bytes, Set: Orders,
		Connections: 2000, Active: 300, Echoes: 100, Needs: Pairs | Compresses, Offers: true, MaxRounds: 2},
	{Name: "deflate-memory-plain", Title: "idle connection after 100 echoes, clients that do not offer it", Kind: Memory, Metric: Bytes,
		Set: Orders, Connections: 10000, Active: 1000, Echoes: 100, Needs: Pairs, MaxRounds: 2,
		Only: []string{Subject, Before, SubjectDeflate, SubjectNoContext}},
	{Name: "deflate-memory-many", Title: "idle connection after 100 echoes of orders, 10,000 connections", Kind: Memory, Metric: Bytes,
		Set: Orders, Connections: 10000, Active: 1000, Echoes: 100, Needs: Pairs | Compresses, Offers: true, MaxRounds: 1,
		Only: []string{SubjectDeflate, SubjectNoContext}},
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
	{Title: "100 orders sent, compressed ÷ plain", Over: "deflate-send-orders", Under: "deflate-send-plain"},
	{Title: "echo of orders, compressed ÷ plain", Over: "deflate-echo", Under: "deflate-echo-plain"},
	{Title: "broadcast of orders, compressed ÷ plain", Over: "deflate-broadcast", Under: "deflate-broadcast-plain"},
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
