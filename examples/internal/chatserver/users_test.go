package chatserver

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

func writeUsers(t *testing.T, content string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

func TestUsersFile(t *testing.T) {
	addr := start(t, "-users", writeUsers(t, "# who may log in\n\n erin:key:with:colons \r\nfrank:frank-has-a-key\n"))
	d := newDevice(t, addr, "", http.Header{"Authorization": {"Bearer key:with:colons"}})
	require.NoError(t, d.client.Connect())
	assert.Equal(t, "erin", d.welcomed().Name)

	demo := newDevice(t, addr, "?key="+keyOf(t, "alice"), nil)
	assert.ErrorContains(t, demo.client.Connect(), "unknown key")
}

func TestWhoIsTakenOutOfTheUsersFileIsDisconnected(t *testing.T) {
	file := writeUsers(t, "alice:alice-demo-key\nbob:bob-demo-key\ncarol:carol-demo-key\n")
	addr := start(t, "-users", file)
	alice, _ := join(t, addr, "alice")
	gone := map[string]chan struct{}{}
	for _, name := range []string{"bob", "carol"} {
		gone[name] = make(chan struct{})
		d := newDevice(t, addr, "?key="+keyOf(t, name), nil)
		d.client.HandleQuit = func() {
			var closed *websocket.CloseError
			if assert.ErrorAs(t, d.client.Err(), &closed) {
				assert.EqualValues(t, websocket.StatusForbidden, closed.Code)
			}
			close(gone[name])
		}
		require.NoError(t, d.client.Connect())
		d.welcomed()
		expect[chat.User](alice, chat.NoticeJoin)
	}
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)

	// A file that cannot be used changes nothing, and the next one does.
	require.NoError(t, os.WriteFile(file, []byte("nonsense"), 0o600))
	require.NoError(t, self.Signal(syscall.SIGHUP))
	require.NoError(t, os.WriteFile(file, []byte("erin:erin-has-a-key\ncarol:another-demo-key\nalice:alice-demo-key\n"), 0o600))
	require.NoError(t, self.Signal(syscall.SIGHUP))
	receive(t, gone["bob"])
	receive(t, gone["carol"])
	alice.say("still here")
	for key, refused := range map[string]bool{"bob-demo-key": true, "carol-demo-key": true, "another-demo-key": false, "erin-has-a-key": false} {
		d := newDevice(t, addr, "?key="+key, nil)
		err := d.client.Connect()
		if assert.Equal(t, refused, err != nil, key); !refused {
			d.welcomed()
		}
	}
	assert.Equal(t, []string{"alice", "carol", "erin"}, get[[]string](alice, http.StatusOK, http.MethodGet, "/users", ""))
}

func TestUsersFileRefusesMistakes(t *testing.T) {
	for name, test := range map[string]struct{ content, says string }{
		"nobody":             {"# nobody\n", "no users"},
		"a line without key": {"# first\nerin\n", "line 2"},
		"an empty name":      {":key-of-nobody", "a name has"},
		"a name with slash":  {"er/in:erin-has-a-key", "a name has"},
		"a short key":        {"erin:short", "a key has"},
		"a key with a space": {"erin:erin has a key", "a key has"},
		"a key beyond ASCII": {"erin:schlüssel", "a key has"},
		"a user twice":       {"erin:erin-has-a-key\nerin:erin-has-another", "twice"},
		"a key twice":        {"erin:erin-has-a-key\nfrank:erin-has-a-key", "key of another"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadUsers(writeUsers(t, test.content))
			assert.ErrorContains(t, err, test.says)
		})
	}
}
