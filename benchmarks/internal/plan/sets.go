package plan

import "github.com/wsloop/websocket/internal/deflatecases"

const (
	// SetSize is how many messages a set has.
	SetSize = 1000

	// Burst is how many of them a request of Feed asks for. It divides SetSize.
	Burst = 100
)

// Set names JSON messages of about 180 bytes, the same ones in each run.
type Set string

const (
	Orders Set = "orders" // reports of one thing over and over, of which a few numbers differ
	Chat   Set = "chat"   // mostly what somebody has written
)

// Sets are all of them.
var Sets = []Set{Orders, Chat}

// Messages makes the messages of the set, none of which has a line break.
func (s Set) Messages() [][]byte {
	if s == Chat {
		return deflatecases.Chat(SetSize)
	}
	return deflatecases.Orders(SetSize)
}
