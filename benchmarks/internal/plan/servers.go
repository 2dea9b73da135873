package plan

import "crypto/tls"

// Ability is what a scenario needs of a server besides echoing.
type Ability uint16

const (
	Broadcasts Ability = 1 << iota
	Sleeps             // handlers that sleep hold up nothing else
	Routes             // has the JSON router
	Users              // knows the user of a connection
	Pings              // sends Pings by itself
	Pipelines          // answers several messages of one read, all of them and in order
	Encrypts           // speaks TLS itself
	Compresses         // has permessage-deflate switched on
	Pairs              // the same, or is what such a server is compared with: has it switched off
)

// Servers with a role of their own.
const (
	Floor    = "floor"  // what the costs of the others are divided by
	Subject  = "wsloop" // this repository's package
	Before   = "before" // the same from another tree, to compare the two; only if it is asked for
	Threaded = "gobwas" // has a goroutine for each connection; rates are divided by its own
	Common   = "gws"    // what costs over TLS are divided by
	Bun      = "bun"    // is no Go program

	SubjectDeflate   = Subject + "-deflate" // with context takeover
	SubjectNoContext = Subject + "-deflate-nocontext"
	CommonDeflate    = Common + "-deflate" // with context takeover; what costs with permessage-deflate are divided by
)

// Server is one of the echo servers.
type Server struct {
	Name   string
	Dir    string // below servers/
	Module string // whose version stands in the results; empty if there is none
	Args   []string
	Can    Ability
	Cipher string // that it chooses over TLS, if it is not that of the others
}

// Terms returns how the description of what it negotiates begins.
func (s *Server) Terms() string {
	cipher := s.Cipher
	if cipher == "" {
		cipher = tls.CipherSuiteName(tls.TLS_AES_128_GCM_SHA256)
	}
	return tls.VersionName(tls.VersionTLS13) + ", " + cipher
}

const deflates = Broadcasts | Compresses | Pairs

// Servers are all of them, in the order of the tables.
var Servers = []Server{
	{Name: Floor, Dir: "floor", Can: Broadcasts | Pipelines},
	{Name: Subject, Dir: "wsloop", Can: Broadcasts | Sleeps | Routes | Users | Pings | Pipelines | Encrypts | Pairs},
	{Name: Before, Dir: "before", Can: Broadcasts | Sleeps | Routes | Users | Pings | Pipelines | Encrypts | Pairs},
	{Name: "wsloop-dropin", Dir: "wsloop", Args: []string{"-dropin"}, Can: Broadcasts | Sleeps | Users | Pings | Pipelines},
	{Name: Bun, Dir: "bun", Can: Broadcasts | Sleeps | Pipelines | Encrypts},
	{Name: "gobwas-epoll", Dir: "gobwas", Module: "github.com/gobwas/ws", Args: []string{"-epoll"}, Can: Broadcasts | Pipelines},
	{Name: Threaded, Dir: "gobwas", Module: "github.com/gobwas/ws", Can: Broadcasts | Sleeps | Pipelines},
	{Name: Common, Dir: "gws", Module: "github.com/lxzan/gws", Can: Broadcasts | Sleeps | Pipelines | Encrypts},
	{Name: "gorilla", Dir: "gorilla", Module: "github.com/gorilla/websocket", Can: Broadcasts | Sleeps | Pipelines | Encrypts},
	{Name: "gorilla-readmessage", Dir: "gorilla", Module: "github.com/gorilla/websocket", Args: []string{"-readmessage"},
		Can: Broadcasts | Sleeps | Pipelines},
	{Name: "coder", Dir: "coder", Module: "github.com/coder/websocket", Can: Broadcasts | Sleeps | Pipelines | Encrypts},
	{Name: "coder-read", Dir: "coder", Module: "github.com/coder/websocket", Args: []string{"-read"},
		Can: Broadcasts | Sleeps | Pipelines},
	{Name: "nbio", Dir: "nbio", Module: "github.com/lesismal/nbio", Can: Broadcasts | Sleeps | Pipelines | Encrypts,
		Cipher: "TLS_CHACHA20_POLY1305_SHA256"}, // its TLS never finds the AES of the CPU, and so puts this one first
	{Name: SubjectDeflate, Dir: "wsloop", Args: []string{"-deflate", "context"}, Can: deflates},
	{Name: SubjectNoContext, Dir: "wsloop", Args: []string{"-deflate", "nocontext"}, Can: deflates},
	{Name: "wsloop-deflate-standard", Dir: "wsloop", Args: []string{"-deflate", "standard"}, Can: deflates},
	{Name: "bun-deflate", Dir: Bun, Args: []string{"-deflate", "context"}, Can: deflates},
	{Name: "bun-deflate-shared", Dir: Bun, Args: []string{"-deflate", "shared"}, Can: deflates},
	{Name: CommonDeflate, Dir: "gws", Module: "github.com/lxzan/gws", Args: []string{"-deflate", "context"}, Can: deflates},
	{Name: "gws-deflate-32k", Dir: "gws", Module: "github.com/lxzan/gws", Args: []string{"-deflate", "context32k"}, Can: deflates},
	{Name: "gorilla-deflate", Dir: "gorilla", Module: "github.com/gorilla/websocket", Args: []string{"-deflate", "nocontext"}, Can: deflates},
	{Name: "coder-deflate", Dir: "coder", Module: "github.com/coder/websocket", Args: []string{"-deflate", "context"}, Can: deflates},
	{Name: "nbio-deflate", Dir: "nbio", Module: "github.com/lesismal/nbio", Args: []string{"-deflate", "nocontext"}, Can: deflates},
	{Name: "original", Dir: "original", Module: "github.com/shuLhan/share", Can: Routes},
}
