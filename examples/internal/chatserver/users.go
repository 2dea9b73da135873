package chatserver

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// validKey holds keys to characters that a header can carry.
var validKey = regexp.MustCompile(`^[!-~]{8,200}$`)

// validName holds names to characters that mean nothing in a path, so that they need no escaping in
// /users/:name/messages: the parameters of a route are given as they were sent.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// user is somebody who may log in.
type user struct {
	name string
	id   uint64 // above zero: what is stored under websocket.CtxKeyUID
}

// directory holds the users. It does not change once it is made.
type directory struct {
	byKey  map[[sha256.Size]byte]*user // by hash: how long a look-up takes tells nothing about a key
	byName map[string]*user
	byID   map[uint64]*user
}

func newDirectory(logins []chat.Login) (*directory, error) {
	d := &directory{
		byKey:  make(map[[sha256.Size]byte]*user),
		byName: make(map[string]*user),
		byID:   make(map[uint64]*user),
	}
	for i, login := range logins {
		hash := sha256.Sum256([]byte(login.Key))
		switch {
		case !validName.MatchString(login.Name):
			return nil, fmt.Errorf("user %q: a name has 1 to 32 letters, digits, - and _", login.Name)
		case !validKey.MatchString(login.Key):
			return nil, fmt.Errorf("user %s: a key has 8 to 200 ASCII characters and no space", login.Name)
		case d.byName[login.Name] != nil:
			return nil, fmt.Errorf("user %s is there twice", login.Name)
		case d.byKey[hash] != nil:
			return nil, fmt.Errorf("user %s has the key of another one", login.Name)
		}
		u := &user{name: login.Name, id: uint64(i + 1)}
		d.byKey[hash], d.byName[u.name], d.byID[u.id] = u, u, u
	}
	if len(logins) == 0 {
		return nil, errors.New("there are no users")
	}
	return d, nil
}

// login returns the user with a key, or nil if there is none.
func (d *directory) login(key string) *user { return d.byKey[sha256.Sum256([]byte(key))] }

// loadUsers reads the file of the flag -users. Without one it returns the users of the demonstration.
func loadUsers(file string) (*directory, error) {
	if file == "" {
		return newDirectory(chat.DemoUsers())
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	logins, err := readLogins(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d, err := newDirectory(logins)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// readLogins reads lines of the form name:key. Empty lines and lines that start with # are skipped.
func readLogins(r io.Reader) (logins []chat.Login, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, key, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d is not name:key", n)
		}
		logins = append(logins, chat.Login{Name: name, Key: key})
	}
	return logins, lines.Err()
}
