// Package deflatecases is what every DeflateCodec is tested and measured with (RFC 7692).
package deflatecases

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Orders returns n JSON messages of about 180 bytes, as servers send them that report one thing over and over: the same fields in the
// same order, of which some have other numbers.
func Orders(n int) (messages [][]byte) {
	random := rand.New(rand.NewPCG(7, 692))
	price := 6_421_050
	for i := range n {
		price += random.IntN(201) - 100
		messages = append(messages, fmt.Appendf(nil,
			`{"type":"order","id":%d,"symbol":"%s","side":"%s","price":%d.%02d,"quantity":%d,"status":"%s","venue":"XNAS","account":"main","time":"2026-03-01T12:%02d:%02dZ"}`,
			10_000_000+i, []string{"BTC-USD", "ETH-USD"}[random.IntN(2)], []string{"buy", "sell"}[random.IntN(2)], price/100, price%100,
			10*(1+random.IntN(50)), []string{"new", "filled", "canceled"}[random.IntN(3)], i/240%60, i/4%60))
	}
	return messages
}

// Chat returns n JSON messages of about 180 bytes, most of which is text that somebody has written.
func Chat(n int) (messages [][]byte) {
	random := rand.New(rand.NewPCG(18, 13))
	names := []string{"amira", "bojan", "chen", "dolores", "emeka", "freya", "goran", "hanako"}
	words := strings.Fields(chatWords)
	for i := range n {
		var text strings.Builder
		for text.Len() < 80+random.IntN(80) {
			// As in speech, the first words of the list are the most frequent ones.
			word := words[int(float64(len(words))*random.Float64()*random.Float64())]
			text.WriteString(word)
			text.WriteByte(" .,"[max(random.IntN(14)-11, 0)])
		}
		messages = append(messages, fmt.Appendf(nil, `{"room":"room-%d","from":"%s","at":%d,"text":"%s"}`,
			random.IntN(20), names[random.IntN(len(names))], int64(1_772_366_400_000)+int64(i*1371+random.IntN(1000)), text.String()))
	}
	return messages
}

// chatWords are words of a conversation, the frequent ones first.
const chatWords = `the to and I you a it that of is in for on we was this have with be not are but do at they my so what if can just me will
one there all your about no like get from or out up when would know time go now how good think see some them he been could really then
more her need say well want make back tomorrow right going people where after does work here only today over because should yes too any
thanks than day also still something meeting never let thing maybe sure always before another ready great build again release question
look server around someone problem already wait check please coffee issue minute anyone morning message office train review window
branch weekend answer deploy version project laptop dinner nothing forgot lunch broken ticket actually customer almost evening
different remember garden beautiful concert whether kitchen mountain bicycle yesterday afternoon photograph umbrella newspaper`
