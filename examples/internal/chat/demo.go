package chat

// Login is what a user logs in with.
type Login struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// DemoUsers returns the users of a server that was given no others. Everybody knows their keys: a real server makes a long
// random key for each user, gives it to nobody else and stores only its hash.
func DemoUsers() []Login {
	return []Login{
		{"alice", "alice-demo-key"},
		{"bob", "bob-demo-key"},
		{"carol", "carol-demo-key"},
		{"dave", "dave-demo-key"},
	}
}

// DemoKey returns the key of a demo user.
func DemoKey(name string) (key string, ok bool) {
	for _, login := range DemoUsers() {
		if login.Name == name {
			return login.Key, true
		}
	}
	return "", false
}
