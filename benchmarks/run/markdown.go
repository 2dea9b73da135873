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
	for _, metric := range []plan.Metric{plan.CPU, plan.Rate, plan.Bytes, plan.Percent, plan.Times} {
		writeMetric(&b, r, metric, servers)
	}
	writeComparisons(&b, r, servers)
	writeTrees(&b, r)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeMetric writes the table of all scenarios with that metric.
func writeMetric(b *strings.Builder, r *results.Run, metric plan.Metric, servers []string) {
	var rows strings.Builder
	limited := false
	for _, s := range plan.Scenarios {
		if s.Metric != metric || !r.Has(s.Name) {
			continue
		}
		fmt.Fprintf(&rows, "| %s |", s.Title)
		if metric.Base() != "" {
			fmt.Fprintf(&rows, " %s |", r.Values(s.Name, metric.Base()))
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
	head := []string{title}
	if base := metric.Base(); base != "" {
		title += " ÷ " + base
		head = []string{title, base + ", " + metric.Unit()}
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
	if base := s.Metric.Base(); base != "" {
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

// writeTrees compares this tree with the one before, if that was measured too.
func writeTrees(b *strings.Builder, r *results.Run) {
	var rows strings.Builder
	for _, s := range plan.Scenarios {
		if spread := r.Ratios(s.Name, plan.Subject, s.Name, plan.Before); spread.N > 0 {
			fmt.Fprintf(&rows, "| %s | %s | %s |\n", s.Title, s.Metric.Unit(), spread)
		}
	}
	if rows.Len() > 0 {
		writeHead(b, []string{"this tree ÷ the one before", "of what", "median of all rounds"})
		b.WriteString(rows.String())
	}
}
