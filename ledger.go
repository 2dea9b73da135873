package websocket

const (
	// ledgerLook is how many messages a ledger takes up between two looks at what was acknowledged.
	ledgerLook = 32

	// maxLedger is how many entries a ledger has at most: 64 KiB of them.
	maxLedger = 4096
)

// ledger is where the messages end that were given to a socket and may not have been acknowledged, in bytes from its beginning. Its size
// is limited: of more messages than it has entries several share one.
type ledger struct {
	entries []ledgerEntry // in order
	limit   int           // of entries, at which they are looked at
	share   int           // how many messages the next entry is for; 0: one
}

// ledgerEntry stands for messages of which the last one ends there.
type ledgerEntry struct {
	end      uint64
	messages int
}

// add adds a message. acked returns how many bytes have been acknowledged; it is asked now and then.
func (l *ledger) add(end uint64, acked func() uint64) {
	if last := len(l.entries) - 1; last >= 0 && l.entries[last].messages < l.share {
		l.entries[last] = ledgerEntry{end, l.entries[last].messages + 1}
		return
	}
	l.limit = max(l.limit, ledgerLook)
	if len(l.entries) >= l.limit {
		l.trim(acked())
		switch {
		case len(l.entries) <= l.limit/2:
			l.limit, l.share = max(l.limit/2, ledgerLook), 1
		case l.limit < maxLedger:
			l.limit *= 2
		default:
			l.merge()
		}
	}
	l.entries = append(l.entries, ledgerEntry{end, 1})
}

// trim drops what has been acknowledged.
func (l *ledger) trim(acked uint64) {
	n := 0
	for n < len(l.entries) && l.entries[n].end <= acked {
		n++
	}
	l.entries = append(l.entries[:0], l.entries[n:]...)
}

// merge makes one entry of every two, and of those to come.
func (l *ledger) merge() {
	l.share = 2 * max(l.share, 1)
	merged := l.entries[:0]
	for i := 0; i+1 < len(l.entries); i += 2 {
		first, second := l.entries[i], l.entries[i+1]
		merged = append(merged, ledgerEntry{second.end, first.messages + second.messages})
	}
	l.entries = merged
}

// count returns how many messages have surely not left, of which so many bytes have, and how many others were not acknowledged. Of
// messages that share an entry with one that has left nobody knows; they count as such.
func (l *ledger) count(acked, left uint64) (unsent, inDoubt int) {
	before := uint64(0) // where the messages before an entry end
	for _, e := range l.entries {
		switch {
		case before >= left || e.end > left && e.messages == 1:
			unsent += e.messages
		case e.end > acked:
			inDoubt += e.messages
		}
		before = e.end
	}
	return unsent, inDoubt
}
