package websocket

import (
	"iter"
	"slices"
	"strconv"
)

// Metric is one figure of Stats, as monitoring systems have them: what there is to tell of it, and its value with one set of labels.
type Metric struct {
	// Name is what Prometheus would call it, such as "websocket_received_bytes_total", with the unit in it.
	Name string

	// Help says what it is.
	Help string

	// Type is "counter", "gauge" or "histogram".
	Type string

	// Labels are names and values, in turn, in the order of the names.
	Labels []string

	// Value is the value, of a counter or a gauge.
	Value float64

	// Histogram is the value of a histogram, else nil. It is in seconds there.
	Histogram *Histogram
}

// metricsType is the media type of the text format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// Metrics returns the figures of the server in the text format of Prometheus, which most systems of monitoring can read. It is a
// HandlerStatusFn:
//
//	opts.HandleStatus = serv.Metrics
//
// What answers StatusPath is open to whoever may connect. It may be called at any time, from any goroutine.
func (serv *Server) Metrics() (contentType string, data []byte) {
	s := serv.Stats()
	last := ""
	for m := range s.All() {
		if m.Name != last {
			last = m.Name
			data = append(append(append(append(data, "# HELP "...), m.Name...), ' '), m.Help...)
			data = append(append(append(append(data, "\n# TYPE "...), m.Name...), ' '), m.Type...)
			data = append(data, '\n')
		}
		data = m.append(data)
	}
	return metricsType, data
}

// All returns all figures, those of one name behind each other: for monitoring systems of any kind.
func (s *Stats) All() iter.Seq[Metric] {
	return func(yield func(Metric) bool) {
		for _, group := range [...]func(*metrics){s.connections, s.handshakes, s.ends, s.traffic, s.times} {
			ms := metrics{}
			if group(&ms); !slices.ContainsFunc(ms.all, func(m Metric) bool { return !yield(m) }) {
				continue
			}
			return
		}
	}
}

// metrics collects figures.
type metrics struct{ all []Metric }

func (ms *metrics) counter(name, help string, value uint64, labels ...string) {
	ms.all = append(ms.all, Metric{Name: name, Help: help, Type: "counter", Labels: labels, Value: float64(value)})
}

func (ms *metrics) gauge(name, help string, value int, labels ...string) {
	ms.all = append(ms.all, Metric{Name: name, Help: help, Type: "gauge", Labels: labels, Value: float64(value)})
}

func (ms *metrics) histogram(name, help string, h *Histogram) {
	ms.all = append(ms.all, Metric{Name: name, Help: help, Type: "histogram", Histogram: h})
}

func (s *Stats) connections(ms *metrics) {
	c := &s.Connections
	for _, at := range []struct {
		phase string
		n     int
	}{
		{"securing", c.Securing}, {"opening", c.Opening}, {"auth", c.Auth}, {"open", c.Open}, {"ending", c.Ending}, {"flushing", c.Flushing},
		{"draining", c.Draining}, {"closed", c.Closed}, {"http", c.HTTP},
	} {
		ms.gauge("websocket_connections", "Connections that there are, by how far they have come.", at.n, "phase", at.phase)
	}
	ms.gauge("websocket_users", "Users that have an open connection.", s.Users)
	ms.gauge("websocket_topics", "Topics that have a subscriber.", s.Topics)
	ms.gauge("websocket_subscriptions", "Subscriptions of all topics.", s.Subscriptions)
	ms.gauge("websocket_numbers_held_back", "Numbers of closed connections that are held back from being used again.", s.HeldBack)
	ms.gauge("websocket_send_queue_bytes", "Bytes that wait in send queues because sockets are full.", int(s.Queued))
}

func (s *Stats) handshakes(ms *metrics) {
	ms.counter("websocket_accepted_total", "Sockets that came by the server's own listener.", s.Accepted)
	ms.counter("websocket_adopted_total", "Connections that came by ServeHTTP.", s.Adopted)
	ms.counter("websocket_accept_pauses_total", "Rests of accepting since descriptors or memory had run out.", s.AcceptPauses)
	ms.counter("websocket_tls_handshakes_total", "TLS handshakes that have ended, by result.", s.TLS.Done, "result", "done")
	ms.counter("websocket_tls_handshakes_total", "TLS handshakes that have ended, by result.", s.TLS.Failed, "result", "failed")
	ms.gauge("websocket_tls_handshakes_under_way", "TLS handshakes under way.", s.TLS.UnderWay)
	ms.counter("websocket_opened_total", "Opening handshakes that were accepted.", s.Opened)
	for _, r := range s.Refused {
		ms.counter("websocket_refused_total", "Opening handshakes that were refused, or given up (status 0), by status and reason.", r.Count,
			"reason", r.Reason, "status", strconv.Itoa(r.Status))
	}
}

func (s *Stats) ends(ms *metrics) {
	for _, e := range s.Ended {
		ms.counter("websocket_ended_total", "Connections that were open and have ended, by kind and close code (0: none).", e.Count,
			"code", strconv.Itoa(int(e.Code)), "kind", e.Kind.String())
	}
}

func (s *Stats) traffic(ms *metrics) {
	for _, way := range []struct {
		of          *Traffic
		name, words string
	}{
		{&s.Received, "websocket_received_", "that came"},
		{&s.Sent, "websocket_sent_", "that were given to connections for sending"},
	} {
		volumes := []struct {
			kind string
			Volume
		}{{"text", way.of.Text}, {"binary", way.of.Binary}, {"control", way.of.Control}}
		for _, v := range volumes {
			ms.counter(way.name+"messages_total", "Messages and control frames "+way.words+", by type.", v.Messages, "type", v.kind)
		}
		for _, v := range volumes {
			ms.counter(way.name+"bytes_total", "Payload on the wire of messages and control frames "+way.words+", by type.", v.Bytes, "type", v.kind)
		}
		const help = "Payload of compressed messages "
		ms.counter(way.name+"compressed_plain_bytes_total", help+way.words+", without compression.", way.of.Compressed.Plain)
		ms.counter(way.name+"compressed_wire_bytes_total", help+way.words+", on the wire.", way.of.Compressed.Wire)
	}
	ms.counter("websocket_sends_refused_total", "Sends that found the send queue full.", s.SendsRefused)
}

func (s *Stats) times(ms *metrics) {
	ms.histogram("websocket_handler_seconds", "How long the handlers of messages took, measured for one in 16 that were fast.", &s.HandlerTime)
	ms.histogram("websocket_auth_seconds", "How long HandleAuth took.", &s.AuthTime)
	ms.histogram("websocket_loop_lag_seconds", "How long the rounds of the loops took: for up to as long a ready connection waits.", &s.LoopLag)
	ms.counter("websocket_takeovers_total", "Handlers that held up a loop, which was taken from them.", s.Takeovers)
}

// append appends the lines of one metric.
func (m *Metric) append(dst []byte) []byte {
	h := m.Histogram
	if h == nil {
		return m.appendLine(dst, "", m.Labels, m.Value)
	}
	sum := uint64(0)
	for i, n := range h.Counts {
		sum += n
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = formatFloat(h.Bounds[i].Seconds())
		}
		dst = m.appendLine(dst, "_bucket", append(slices.Clone(m.Labels), "le", bound), float64(sum))
	}
	dst = m.appendLine(dst, "_sum", m.Labels, h.Sum.Seconds())
	return m.appendLine(dst, "_count", m.Labels, float64(h.Count))
}

// appendLine appends a line. The values of all labels are such that Go and Prometheus quote them in the same way.
func (m *Metric) appendLine(dst []byte, suffix string, labels []string, value float64) []byte {
	dst = append(append(dst, m.Name...), suffix...)
	for i := 0; i < len(labels); i += 2 {
		dst = append(dst, "{,"[min(i, 1)])
		dst = append(append(dst, labels[i]...), '=')
		dst = strconv.AppendQuote(dst, labels[i+1])
	}
	if len(labels) > 0 {
		dst = append(dst, '}')
	}
	return append(append(append(dst, ' '), formatFloat(value)...), '\n')
}

func formatFloat(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }
