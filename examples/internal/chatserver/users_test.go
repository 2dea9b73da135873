package chatserver

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
