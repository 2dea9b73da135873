package deflatecases

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// zlibScript does what each line of its input says with Python's zlib, and answers with a line.
const zlibScript = `
import base64, json, sys, zlib
tail = b"\x00\x00\xff\xff"
for line in sys.stdin:
    job = json.loads(line)
    data, zdict = base64.b64decode(job["Data"] or ""), base64.b64decode(job["Dict"] or "")
    if job["Inflate"]:
        inflater = zlib.decompressobj(-15, zdict=zdict)
        data = inflater.decompress(data + tail) + inflater.flush()
    else:
        deflater = zlib.compressobj(6, zlib.DEFLATED, -job["Bits"], 8, zlib.Z_DEFAULT_STRATEGY, zdict)
        data = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
        assert data.endswith(tail)
        data = data[:-4]
    print(json.dumps(base64.b64encode(data).decode()))
`

type zlibJob struct {
	Inflate    bool
	Bits       int
	Data, Dict []byte
}

// Zlib has zlib inflate what a codec compresses, and the codec inflate what zlib compresses, for each payload and history. Without
// Python it is skipped.
func Zlib(t *testing.T, codec websocket.DeflateCodec) {
	var jobs []zlibJob
	var payloads []Sample
	eachMessage(codec, func(payload, history Sample, dict []byte) {
		compressed, err := codec.Deflate(nil, payload.Bytes, dict)
		require.NoError(t, err)
		jobs = append(jobs, zlibJob{Inflate: true, Data: compressed, Dict: history.Bytes})
		for _, bits := range []int{9, 15} {
			jobs = append(jobs, zlibJob{Bits: bits, Data: payload.Bytes, Dict: history.Bytes})
		}
		payloads = append(payloads, payload)
	})
	for i, answer := range runZlib(t, jobs) {
		job, payload := jobs[i], payloads[i/3]
		if !job.Inflate {
			var err error
			answer, err = codec.Inflate(nil, answer, job.Dict, len(payload.Bytes))
			require.NoError(t, err, payload.Name)
		}
		require.True(t, bytes.Equal(payload.Bytes, answer), payload.Name)
	}
}

func runZlib(t *testing.T, jobs []zlibJob) (answers [][]byte) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	var in bytes.Buffer
	for _, job := range jobs {
		require.NoError(t, json.NewEncoder(&in).Encode(job))
	}
	command := exec.CommandContext(t.Context(), python, "-c", zlibScript)
	command.Stdin = &in
	out, err := command.Output()
	require.NoError(t, err)
	answers = make([][]byte, len(jobs))
	lines := json.NewDecoder(bytes.NewReader(out))
	for i := range answers {
		require.NoError(t, lines.Decode(&answers[i]))
	}
	return answers
}
