package prom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// serve runs a server of which every figure is there: one client is connected, one was refused, and one has left.
func serve(t *testing.T) *websocket.Server {
	t.Helper()
	left := make(chan struct{})
	serv := websocket.NewServer(&websocket.ServerOptions{
		Address: "127.0.0.1:0",
		Logger:  slog.New(slog.DiscardHandler),
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			if req.URL.RawQuery == "refused" {
				return nil, errors.New("no")
			}
			return context.Background(), nil
		},
		HandleText: func(conn int, payload []byte) { websocket.SendText(conn, payload) },
		OnClose:    func(websocket.ConnInfo, websocket.CloseCause) { close(left) },
	})
	served := make(chan error, 1)
	go func() { served <- serv.Start() }()
	t.Cleanup(func() { serv.Stop(); require.NoError(t, <-served) })
	require.Eventually(t, func() bool { return serv.Addr() != nil }, 10*time.Second, time.Millisecond)
	answered := make(chan struct{}, 1)
	connect := func(query string) (*websocket.Client, error) {
		cl := &websocket.Client{
			Endpoint:   fmt.Sprintf("ws://%s/%s", serv.Addr(), query),
			HandleText: func(*websocket.Client, *websocket.Frame) error { answered <- struct{}{}; return nil },
		}
		err := cl.Connect()
		if err == nil {
			t.Cleanup(cl.Quit)
		}
		return cl, err
	}
	_, err := connect("?refused")
	require.Error(t, err)
	gone, err := connect("")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	<-left
	cl, err := connect("")
	require.NoError(t, err)
	for range 20 { // one in 16 is measured
		require.NoError(t, cl.SendText([]byte("hello")))
		<-answered
	}
	require.Eventually(t, func() bool {
		s := serv.Stats()
		return s.Received.Text.Messages == 20 && s.Connections == websocket.Phases{Open: 1} && len(s.Ended)*len(s.Refused) == 1
	}, 10*time.Second, time.Millisecond)
	return serv
}

// parse reads the text format as Prometheus does.
func parse(t *testing.T, contentType string, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	assert.Equal(t, contentType, string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err)
	return families
}

func TestMetrics(t *testing.T) {
	serv := serve(t)
	contentType, text := serv.Metrics()
	families := parse(t, contentType, text)
	require.Greater(t, len(families), 20)

	t.Run("every figure has a help and a type, and is written once", func(t *testing.T) {
		for name, family := range families {
			assert.NotEmpty(t, family.GetHelp(), name)
			assert.NotEqual(t, dto.MetricType_UNTYPED, family.GetType(), name)
			assert.Equal(t, 1, strings.Count(string(text), "# TYPE "+name+" "), name)
			labels := make(map[string]bool)
			for _, m := range family.GetMetric() {
				assert.False(t, labels[fmt.Sprint(m.GetLabel())], "%s is there twice: %v", name, m.GetLabel())
				labels[fmt.Sprint(m.GetLabel())] = true
			}
		}
	})
	t.Run("names are as Prometheus wants them", func(t *testing.T) {
		problems, err := testutil.CollectAndLint(Collector(serv, nil))
		require.NoError(t, err)
		assert.Empty(t, problems)
		for name, family := range families {
			assert.True(t, strings.HasPrefix(name, "websocket_"), name)
			assert.Equal(t, family.GetType() == dto.MetricType_COUNTER, strings.HasSuffix(name, "_total"), name)
		}
	})
	t.Run("the values are those of Stats", func(t *testing.T) {
		value := func(name string, labels ...string) float64 {
			for _, m := range families[name].GetMetric() {
				var got []string
				for _, label := range m.GetLabel() {
					got = append(got, label.GetName(), label.GetValue())
				}
				if assert.ObjectsAreEqual(labels, got) {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
			return math.NaN()
		}
		assert.EqualValues(t, 1, value("websocket_connections", "phase", "open"))
		assert.EqualValues(t, 3, value("websocket_accepted_total"))
		assert.EqualValues(t, 100, value("websocket_received_bytes_total", "type", "text"))
		assert.EqualValues(t, 100, value("websocket_sent_bytes_total", "type", "text"))
		assert.EqualValues(t, 1, value("websocket_refused_total", "reason", "HandleAuth", "status", "400"))
		assert.EqualValues(t, 1, value("websocket_ended_total", "code", "1000", "kind", "peer"))
		handlers := families["websocket_handler_seconds"].GetMetric()[0].GetHistogram()
		stats := serv.Stats()
		assert.Equal(t, stats.HandlerTime.Count, handlers.GetSampleCount())
		assert.InDelta(t, stats.HandlerTime.Sum.Seconds(), handlers.GetSampleSum(), 1e-9)
		buckets := handlers.GetBucket()
		assert.True(t, math.IsInf(buckets[len(buckets)-1].GetUpperBound(), 1))
		assert.Equal(t, handlers.GetSampleCount(), buckets[len(buckets)-1].GetCumulativeCount())
	})
}

func TestCollector(t *testing.T) {
	serv := serve(t)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(Collector(serv, nil)))
	gathered, err := registry.Gather()
	require.NoError(t, err)

	t.Run("it has the figures of Metrics", func(t *testing.T) {
		contentType, text := serv.Metrics()
		families := parse(t, contentType, text)
		assert.Len(t, gathered, len(families))
		for _, family := range gathered {
			want := families[family.GetName()]
			require.NotNil(t, want, family.GetName())
			assert.Equal(t, want.GetHelp(), family.GetHelp())
			assert.Equal(t, want.GetType(), family.GetType())
			assert.Len(t, family.GetMetric(), len(want.GetMetric()), family.GetName())
		}
	})
	t.Run("its text is that of Metrics", func(t *testing.T) {
		_, text := serv.Metrics()
		want := strings.NewReader(string(text))
		assert.NoError(t, testutil.CollectAndCompare(Collector(serv, nil), want, "websocket_connections", "websocket_accepted_total",
			"websocket_received_bytes_total", "websocket_refused_total", "websocket_handler_seconds"))
	})
	t.Run("two servers have labels of their own", func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		require.NoError(t, registry.Register(Collector(serv, prometheus.Labels{"server": "one"})))
		require.NoError(t, registry.Register(Collector(websocket.NewServer(nil), prometheus.Labels{"server": "two"})))
		_, err := registry.Gather()
		assert.NoError(t, err)
	})
}

// queries finds the expressions of a dashboard, wherever they are.
func queries(node any, tell func(expr string)) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			if expr, ok := value.(string); ok && (key == "expr" || key == "query") {
				tell(expr)
			}
			queries(value, tell)
		}
	case []any:
		for _, value := range node {
			queries(value, tell)
		}
	}
}

func TestDashboard(t *testing.T) {
	content, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var dashboard map[string]any
	require.NoError(t, json.Unmarshal(content, &dashboard))
	contentType, text := serve(t).Metrics()
	families := parse(t, contentType, text)
	word := regexp.MustCompile(`websocket_\w+`)
	label := regexp.MustCompile(`\{(\w+)=~?"|by \(([\w, ]+)\)`)
	used, exprs := make(map[string]bool), 0
	queries(dashboard, func(expr string) {
		exprs++
		known := map[string]bool{"le": true, "instance": true, "job": true}
		for _, name := range word.FindAllString(expr, -1) {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if family := families[strings.TrimSuffix(name, suffix)]; family.GetType() == dto.MetricType_HISTOGRAM {
					base = strings.TrimSuffix(name, suffix)
				}
			}
			family := families[base]
			if !assert.NotNil(t, family, "%s in %s", name, expr) {
				continue
			}
			used[base] = true
			for _, l := range family.GetMetric()[0].GetLabel() {
				known[l.GetName()] = true
			}
		}
		for _, match := range label.FindAllStringSubmatch(expr, -1) {
			for name := range strings.SplitSeq(match[1]+match[2], ",") {
				assert.True(t, known[strings.TrimSpace(name)], "label %s in %s", name, expr)
			}
		}
	})
	assert.Greater(t, exprs, 10)
	for name := range families {
		assert.True(t, used[name], "no panel shows %s", name)
	}
}
