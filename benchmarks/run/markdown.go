package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/results"
)

// writeMarkdown writes the tables of a run.
func writeMarkdown(w io.Writer, r *results.Run) error {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.Environment)) {
		fmt.Fprintf(&b, "%s: %s  \n", key, r.Environment[key])
	}
	for _, server := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "%s: %s  \n", server, r.Versions[server])
	}
	servers := r.Servers()
	for _, server := range servers {
		if terms := r.TLS(server); terms != "" {
			fmt.Fprintf(&b, "%s over TLS: %s  \n", server, terms)
		}
		if terms := r.Deflate(server); terms != "" {
			fmt.Fprintf(&b, "%s: %s  \n", server, terms)
		}
	}
	for _, group := range []plan.Group{plan.Plain, plan.Encrypted, plan.Compressed} {
		for _, metric := range []plan.Metric{plan.CPU, plan.Handshakes, plan.Rate, plan.Bytes, plan.Percent, plan.Times} {
			writeMetric(&b, r, metric, group, servers)
		}
	}
	writeFloods(&b, r, servers)
	writeWire(&b, r, servers)
	writeComparisons(&b, r, servers)
	writeRivals(&b, r, servers)
	writePair(&b, r, "this tree ÷ the one before", plan.Subject, plan.Before)
	writePair(&b, r, "permessage-deflate switched on, not offered ÷ switched off", plan.SubjectDeflate, plan.Subject)
	writePair(&b, r, "permessage-deflate switched on, not offered ÷ the tree before", plan.SubjectDeflate, plan.Before)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeMetric writes the table of all scenarios of a group with that metric.
func writeMetric(b *strings.Builder, r *results.Run, metric plan.Metric, group plan.Group, servers []string) {
	var rows strings.Builder
	limited, base := false, ""
	for _, s := range plan.Scenarios {
		if s.Metric != metric || s.Group() != group || !r.Has(s.Name) {
			continue
		}
		fmt.Fprintf(&rows, "| %s |", s.Title)
		if base = s.Base(); base != "" {
			fmt.Fprintf(&rows, " %s |", r.Values(s.Name, base))
		}
		for _, server := range servers {
			text := cell(r, &s, server)
			if r.LoadLimited(s.Name, server) > 0 {
				text, limited = text+" *", true
			}
			fmt.Fprintf(&rows, " %s |", text)
		}
		rows.WriteByte('\n')
	}
	if rows.Len() == 0 {
		return
	}
	title := metric.Unit()
	if group != plan.Plain {
		title = string(group) + ": " + title
	}
	head := []string{title}
	if base != "" {
		head = []string{title + " ÷ " + base, base + ", " + metric.Unit()}
	}
	writeHead(b, append(head, servers...))
	b.WriteString(rows.String())
	if limited {
		b.WriteString("\n\\* the generator was the limit in at least one round: the server had time left\n")
	}
}

func writeHead(b *strings.Builder, head []string) {
	fmt.Fprintf(b, "\n| %s |\n|---|%s\n", strings.Join(head, " | "), strings.Repeat("--:|", len(head)-1))
}

// cell shows ratios within rounds if there is a base, else the values.
func cell(r *results.Run, s *plan.Scenario, server string) string {
	if base := s.Base(); base != "" {
		return r.Ratios(s.Name, server, s.Name, base).String()
	}
	return r.Values(s.Name, server).String()
}

func writeComparisons(b *strings.Builder, r *results.Run, servers []string) {
	var rows strings.Builder
	for _, c := range plan.Comparisons {
		if !r.Has(c.Over) || !r.Has(c.Under) {
			continue
		}
		fmt.Fprintf(&rows, "| %s |", c.Title)
		for _, server := range servers {
			fmt.Fprintf(&rows, " %s |", r.Ratios(c.Over, server, c.Under, server))
		}
		rows.WriteByte('\n')
	}
	if rows.Len() > 0 {
		writeHead(b, append([]string{"server CPU of the one ÷ of the other"}, servers...))
		b.WriteString(rows.String())
	}
}

// writeFloods says how long answers took beside a flood, and how much of a flood it was: a server that answers fewer ClientHellos
// has fewer of them sent.
func writeFloods(b *strings.Builder, r *results.Run, servers []string) {
	for _, s := range plan.Scenarios {
		if s.Kind != plan.Flood || !r.Has(s.Name) {
			continue
		}
		writeHead(b, append([]string{s.Title}, servers...))
		row := func(title string, of func(*results.Sample) float64) {
			fmt.Fprintf(b, "| %s |", title)
			for _, server := range servers {
				fmt.Fprintf(b, " %s |", r.Spread(s.Name, server, of))
			}
			b.WriteByte('\n')
		}
		row("99th percentile of an echo, ms", func(s *results.Sample) float64 { return s.P99 / 1e3 })
		row("ClientHellos answered per second", func(s *results.Sample) float64 { return s.Replays })
	}
}

// writeWire says what remains of the messages where a connection gets many: the first ones have little history.
func writeWire(b *strings.Builder, r *results.Run, servers []string) {
	var rows strings.Builder
	for _, s := range plan.Scenarios {
		if !s.Offers || s.Kind != plan.Feed && s.Kind != plan.Broadcast || !r.Has(s.Name) {
			continue
		}
		fmt.Fprintf(&rows, "| %s |", s.Title)
		for _, server := range servers {
			fmt.Fprintf(&rows, " %s |", r.Spread(s.Name, server, func(m *results.Sample) float64 { return 100 * m.Wire }))
		}
		rows.WriteByte('\n')
	}
	if rows.Len() > 0 {
		writeHead(b, append([]string{string(plan.Compressed) + ": bytes sent, % of those without"}, servers...))
		b.WriteString(rows.String())
	}
}

// writeRivals divides what this package costs over TLS by what each of the others does.
func writeRivals(b *strings.Builder, r *results.Run, servers []string) {
	rivals := slices.DeleteFunc(slices.Clone(servers), func(name string) bool { return name == plan.Subject })
	var rows strings.Builder
	for _, s := range plan.Scenarios {
		if !s.Encrypted() || r.Values(s.Name, plan.Subject).N == 0 {
			continue
		}
		fmt.Fprintf(&rows, "| %s | %s |", s.Title, s.Metric.Unit())
		for _, rival := range rivals {
			fmt.Fprintf(&rows, " %s |", r.Ratios(s.Name, plan.Subject, s.Name, rival))
		}
		rows.WriteByte('\n')
	}
	if rows.Len() > 0 && len(rivals) > 0 {
		writeHead(b, append([]string{"over TLS: " + plan.Subject + " ÷ the other", "of what"}, rivals...))
		b.WriteString(rows.String())
	}
}

// writePair divides one server by another one in all scenarios that both were measured in.
func writePair(b *strings.Builder, r *results.Run, title, over, under string) {
	var rows strings.Builder
	for _, s := range plan.Scenarios {
		if spread := r.Ratios(s.Name, over, s.Name, under); spread.N > 0 {
			fmt.Fprintf(&rows, "| %s | %s | %s |\n", s.Title, s.Metric.Unit(), spread)
		}
	}
	if rows.Len() > 0 {
		writeHead(b, []string{title, "of what", "median of all rounds"})
		b.WriteString(rows.String())
	}
}
