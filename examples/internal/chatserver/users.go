package chatserver

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// validKey holds keys to characters that a header can carry.
var validKey = regexp.MustCompile(`^[!-~]{8,200}$`)

// validName holds names to characters that mean nothing in a path, so that they need no escaping in
// /users/:name/messages: the parameters of a route are given as they were sent.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// user is somebody who may log in.
type user struct {
	name   string
	id     uint64            // what is stored under websocket.CtxKeyUID
	key    [sha256.Size]byte // its hash: how long a look-up takes tells nothing about a key
	sender *sender
}

// idOf returns the id of a user: above zero, and the same after each start and on each server, whoever else there is.
func idOf(name string) uint64 {
	hash := fnv.New64a()
	hash.Write([]byte(name))
	return max(1, hash.Sum64())
}

// directory holds the users. It does not change once it is made.
type directory struct {
	byKey  map[[sha256.Size]byte]*user
	byName map[string]*user
	byID   map[uint64]*user
}

func newDirectory(logins []chat.Login) (*directory, error) {
	d := &directory{
		byKey:  make(map[[sha256.Size]byte]*user),
		byName: make(map[string]*user),
		byID:   make(map[uint64]*user),
	}
	for _, login := range logins {
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
		u := &user{name: login.Name, id: idOf(login.Name), key: hash, sender: new(sender)}
		if other := d.byID[u.id]; other != nil {
			return nil, fmt.Errorf("users %s and %s have the same id: one needs another name", u.name, other.name)
		}
		d.byKey[hash], d.byName[u.name], d.byID[u.id] = u, u, u
	}
	if len(logins) == 0 {
		return nil, errors.New("there are no users")
	}
	return d, nil
}

// login returns the user with a key, or nil if there is none.
func (d *directory) login(key string) *user { return d.byKey[sha256.Sum256([]byte(key))] }

// admits reports whether a user may still log in with the same key.
func (d *directory) admits(u *user) bool {
	same := d.byKey[u.key]
	return same != nil && same.id == u.id
}

// reloadUsers reads the file of -users again. Whoever is no longer in it, or has another key, is disconnected. While the file cannot be
// used the users stay as they are.
func (s *server) reloadUsers(file string) {
	next, err := loadUsers(file)
	if err != nil {
		s.log.Warn("the users stay as they are", "error", err)
		return
	}
	before := s.users.Load()
	for name, u := range next.byName {
		if old := before.byName[name]; old != nil {
			u.sender = old.sender
		}
	}
	s.users.Store(next)
	for _, conn := range s.ws.Clients.All() {
		if ctx, ok := s.ws.Clients.Context(conn); ok {
			s.checkUser(visitOf(ctx), conn)
		}
	}
	s.log.Info("the users were read again", "users", len(next.byID))
}

// checkUser ends a connection whose user may no longer log in.
func (s *server) checkUser(v *visit, conn int) {
	if v != nil && !s.users.Load().admits(v.user) {
		s.ws.Clients.Close(conn, websocket.StatusForbidden, errUnknownKey.Error())
	}
}

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
