package chatserver

import (
	"encoding/json"
	"net/http"
	"time"
)

// status answers GET /status, which is for people and load balancers; GET /metrics is for Prometheus. Both are open to whoever may
// connect: there is nothing in them but numbers.
func (s *server) status() (contentType string, data []byte) {
	figures := s.ws.Stats()
	ctx, cancel := brief()
	defer cancel()
	rooms, _ := s.spread.Rooms(ctx)
	data, _ = json.MarshalIndent(struct {
		Uptime      string `json:"uptime"`
		Users       int    `json:"users"`
		Connections int    `json:"connections"`
		Rooms       int    `json:"rooms"`
		Received    uint64 `json:"messagesReceived"`
		Sent        uint64 `json:"messagesSent"`
		Slow        uint64 `json:"sendsRefused"`
	}{
		time.Since(s.started).Round(time.Second).String(), figures.Users, figures.Connections.Open, len(rooms),
		figures.Received.Text.Messages, figures.Sent.Text.Messages, figures.SendsRefused,
	}, "", "  ") // never fails for such values
	return "application/json", append(data, '\n')
}

// metrics answers GET /metrics.
func (s *server) metrics(w http.ResponseWriter, _ *http.Request) {
	contentType, data := s.ws.Metrics()
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Write(data) // an error means that who asked has gone
}
