// Package prom gives the figures of a websocket.Server to a registry of Prometheus, beside those of the rest of a program:
//
//	prometheus.MustRegister(prom.Collector(serv, nil))
//
// They are those of Server.Metrics, which needs no module besides. dashboard.json, beside this file, is a dashboard of Grafana for them.
package prom

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/wsloop/websocket"
)

// Collector returns a collector of the figures of a server. The labels, which may be nil, are added to all of them: a program with
// several servers tells them apart by these, since no figure can be registered twice. It may be used from any goroutine, whether the
// server runs or not. Which figures there are depends on what has happened, so that the collector is what Prometheus calls unchecked.
func Collector(serv *websocket.Server, labels prometheus.Labels) prometheus.Collector {
	return collector{serv, labels}
}

type collector struct {
	serv   *websocket.Server
	labels prometheus.Labels
}

// Describe is of prometheus.Collector. It sends nothing.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect is of prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	stats := c.serv.Stats()
	for m := range stats.All() {
		metrics <- c.metric(&m)
	}
}

// metric returns a figure as Prometheus has it.
func (c collector) metric(m *websocket.Metric) prometheus.Metric {
	var names, values []string
	for i := 0; i < len(m.Labels); i += 2 {
		names, values = append(names, m.Labels[i]), append(values, m.Labels[i+1])
	}
	desc := prometheus.NewDesc(m.Name, m.Help, names, c.labels)
	switch h := m.Histogram; {
	case h != nil:
		buckets, sum := make(map[float64]uint64, len(h.Bounds)), uint64(0)
		for i, bound := range h.Bounds {
			sum += h.Counts[i]
			buckets[bound.Seconds()] = sum
		}
		return prometheus.MustNewConstHistogram(desc, h.Count, h.Sum.Seconds(), buckets, values...)
	case m.Type == "counter":
		return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, m.Value, values...)
	}
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, m.Value, values...)
}
