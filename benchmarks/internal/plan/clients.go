package plan

// ClientMeasure is what a client process says of itself.
type ClientMeasure struct {
	Messages    int64   `json:"messages,omitempty"`
	Seconds     float64 `json:"seconds,omitempty"`
	CPU         float64 `json:"cpu_seconds,omitempty"`     // user and system, of the whole process
	Allocations float64 `json:"allocations,omitempty"`     // a message
	Allocated   float64 `json:"allocated_bytes,omitempty"` // a message
	Resident    float64 `json:"resident_bytes,omitempty"`  // an idle connection
	Goroutines  float64 `json:"goroutines,omitempty"`      // an idle connection
}

// ClientScenario is a row of the table of clients.
type ClientScenario struct {
	Name     string
	Title    string
	Size     int
	InFlight int
	Idle     int // connections that are idle; 0: one that echoes
}

// ClientScenarios are all of them.
var ClientScenarios = []ClientScenario{
	{Name: "echo-128", Title: "echo of 128 B, one in flight", Size: 128, InFlight: 1},
	{Name: "echo-16k", Title: "echo of 16 KiB, one in flight", Size: 16 << 10, InFlight: 1},
	{Name: "echo-1m", Title: "echo of 1 MiB, one in flight", Size: 1 << 20, InFlight: 1},
	{Name: "in-flight", Title: "echo of 128 B, 64 in flight", Size: 128, InFlight: 64},
	{Name: "idle", Title: "idle connection", Size: 128, Idle: 2000},
}

// Clients are the libraries, in the order of the tables. Before is there if a program of another tree is given.
var Clients = []struct{ Name, Module string }{
	{Subject, ""},
	{Subject + "-kept", ""}, // leaves payloads to the garbage collector
	{Before, ""},
	{Common, "github.com/lxzan/gws"},
	{"gorilla", "github.com/gorilla/websocket"},
	{"coder", "github.com/coder/websocket"},
}
