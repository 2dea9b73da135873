package websocket

import (
	"fmt"
	"go/ast"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// TestPhaseStep has a row for each edge of a connection's life, and no other.
func TestPhaseStep(t *testing.T) {
	type row struct {
		name string
		from phase
		fact facts
		to   phase
		do   action
	}
	rows := []row{
		{"what is secured, or is plain, has a request to come", phaseSecuring, factSecured, phaseOpening, doNothing},
		{"a TLS handshake that fails, or whose client has gone, is given up", phaseSecuring, factEnded, phaseFlushing, doGiveUp},
		{"HTTP/2 leaves the loop at once", phaseSecuring, factForeign, phaseGone, doHandOver},
		{"a request that is there goes to HandleAuth", phaseOpening, factRequest, phaseAuth, doNothing},
		{"a request for somebody else leaves the loop, with its socket", phaseOpening, factForeign, phaseGone, doHandOver},
		{"without a HandleAuth it is accepted as it is", phaseOpening, factAccepted, phaseOpen, doWelcome},
		{"a refusal is written before the socket is closed", phaseOpening, factEnded, phaseFlushing, doNothing},
		{"HandleAuth accepts", phaseAuth, factAccepted, phaseOpen, doWelcome},
		{"HandleAuth refuses, or the client has gone meanwhile", phaseAuth, factEnded, phaseFlushing, doNothing},
		{"an open connection leaves the ClientManager first", phaseOpen, factEnded, phaseEnding, doDelist},
		{"the Close frame follows the handlers", phaseEnding, factHandlersDone, phaseFlushing, doSeal},
		{"the end of the stream follows what is queued", phaseFlushing, factWritten, phaseDraining, doHalfClose},
		{"the number is covered once the peer has ended its side", phaseDraining, factPeerDone, phaseClosed, doCover},
		{"and held back once nobody knows it", phaseClosed, factUnused, phaseGone, doRelease},
	}
	all := []facts{factRequest, factAccepted, factEnded, factHandlersDone, factWritten, factPeerDone, factUnused, factForeign, factSecured}
	for from := phaseSecuring; from <= phaseGone; from++ {
		for _, fact := range all {
			want := row{fmt.Sprintf("phase %d stays with fact %b", from, fact), from, fact, from, doNothing}
			for _, r := range rows {
				if r.from == from && r.fact == fact {
					want = r
				}
			}
			t.Run(want.name, func(t *testing.T) {
				to, do := from.step(fact)
				assert.Equal(t, want.to, to)
				assert.Equal(t, want.do, do)
			})
		}
	}

	t.Run("no facts at all move nothing, and any of them never move back", func(t *testing.T) {
		for from := phaseSecuring; from <= phaseGone; from++ {
			for f := range facts(1 << len(all)) {
				to, do := from.step(f)
				assert.GreaterOrEqual(t, to, from)
				if to == from {
					assert.Equal(t, doNothing, do)
				}
				if f == 0 {
					assert.Equal(t, from, to)
				}
			}
		}
	})
	t.Run("an end counts before anything else that is true", func(t *testing.T) {
		for _, from := range []phase{phaseSecuring, phaseOpening, phaseAuth} {
			to, _ := from.step(factSecured | factRequest | factAccepted | factEnded)
			assert.Equal(t, phaseFlushing, to)
		}
	})
}

func TestLife(t *testing.T) {
	for _, row := range []struct {
		phase                                               phase
		shaking, ended, known, sends, hasSocket, endsStream bool
		reads                                               reads
	}{
		{phaseSecuring, true, false, false, false, true, false, readRecords},
		{phaseOpening, true, false, false, false, true, false, readHandshake},
		{phaseAuth, true, false, false, false, true, false, readNothing},
		{phaseOpen, false, false, true, true, true, false, readMessages},
		{phaseEnding, false, true, true, true, true, false, readNothing},
		{phaseFlushing, false, true, true, false, true, true, readNothing},
		{phaseDraining, false, true, true, false, true, false, readRest},
		{phaseClosed, false, true, true, false, false, false, readNothing},
		{phaseGone, false, true, false, false, false, false, readNothing},
	} {
		t.Run(fmt.Sprint("phase ", row.phase), func(t *testing.T) {
			l := life{row.phase}
			assert.Equal(t, row.shaking, l.isShaking())
			assert.Equal(t, row.ended, l.hasEnded())
			assert.Equal(t, row.known, l.known())
			assert.Equal(t, row.sends, l.sends())
			assert.Equal(t, row.hasSocket, l.hasSocket())
			assert.Equal(t, row.endsStream, l.endsStream())
			assert.Equal(t, row.reads, l.reads())
		})
	}
}

// TestOnlyLifeMovesOn finds whoever would set a phase, or a life with one, without taking a step.
func TestOnlyLifeMovesOn(t *testing.T) {
	for name, f := range parseLayers(t).files {
		ast.Inspect(f, func(node ast.Node) bool {
			if lit, ok := node.(*ast.CompositeLit); ok {
				if of, ok := lit.Type.(*ast.Ident); ok && of.Name == "life" {
					assert.Equal(t, "descriptors.go", name, "only the tombstone begins with a phase")
				}
			}
			assign, ok := node.(*ast.AssignStmt)
			if !ok {
				return true
			}
			for _, left := range assign.Lhs {
				if to, ok := left.(*ast.SelectorExpr); ok && (to.Sel.Name == "phase" || to.Sel.Name == "life") {
					assert.Equal(t, "life.go", name, "a phase is assigned")
				}
			}
			return true
		})
	}
}

// TestSizeOfConn holds down what an idle connection costs: the allocator has a class of 192 bytes.
func TestSizeOfConn(t *testing.T) {
	if strconv.IntSize < 64 {
		t.Skip("pointers are shorter")
	}
	assert.LessOrEqual(t, unsafe.Sizeof(conn{}), uintptr(192))

	// What a connection keeps beside it that has something to tell, such as each with MaxConnectionsPerAddress.
	assert.LessOrEqual(t, unsafe.Sizeof(rare{}), uintptr(96))
	assert.LessOrEqual(t, unsafe.Sizeof(about{}), uintptr(64))
	assert.LessOrEqual(t, unsafe.Sizeof(tlsStream{}), uintptr(112), "beside what crypto/tls keeps")
	assert.LessOrEqual(t, unsafe.Sizeof(deflation{}), uintptr(80), "beside the histories")
}
