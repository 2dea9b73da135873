package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestExternalBroker does with a NATS server in another process what TestThree and TestHistory do with embedded ones.
func TestExternalBroker(t *testing.T) {
	t.Parallel()
	broker := settings{Port: port(t), Dir: t.TempDir()}
	start(t, roleBroker, broker)
	opts := Options{URL: fmt.Sprintf("nats://127.0.0.1:%d", broker.Port), History: History{Messages: 10, Topics: []string{"topic", "other", "new"}}}
	sites := gather(t, 3, opts)
	a, b, c := sites[0], sites[1], sites[2]
	awaitHistory(t, sites...)
	t.Run("history is that of the broker", func(t *testing.T) { keepsHistory(t, sites) })

	onA, onB, onC := visit(t, a, 21), visit(t, b, 22), visit(t, c, 22)
	for _, g := range []*guest{onA, onB, onC} {
		g.subscribe(t, "plain")
	}
	settle(t, sites)
	t.Run("a user is reached on every node", func(t *testing.T) {
		for _, from := range sites {
			reached, err := from.SendUser(within(t), 22, broadcast("user"))
			require.NoError(t, err)
			assert.Positive(t, reached) // both, unless one takes long
		}
		onB.hears(t, "user", "user", "user")
		onC.hears(t, "user", "user", "user")
	})
	t.Run("nobody is nobody", func(t *testing.T) {
		reached, err := a.SendUser(within(t), 99, broadcast("user"))
		require.NoError(t, err)
		assert.Zero(t, reached)
		online, err := a.Online(within(t), 99)
		require.NoError(t, err)
		assert.False(t, online)
		online, err = a.Online(within(t), 22)
		require.NoError(t, err)
		assert.True(t, online)
	})
	t.Run("topics and all", func(t *testing.T) {
		_, err := a.Publish(within(t), "plain", broadcast("plain"))
		require.NoError(t, err)
		require.NoError(t, a.SendAll(within(t), broadcast("all")))
		onA.hears(t, "plain", "all")
		onB.hears(t, "user", "user", "user", "plain", "all")
	})
	t.Run("presence is that of all nodes", func(t *testing.T) {
		members, err := b.Presence(within(t), "plain")
		require.NoError(t, err)
		assert.ElementsMatch(t, []Member{{21, 1, a.Name()}, {22, 1, b.Name()}, {22, 1, c.Name()}}, members)
	})
	t.Run("connections are closed from elsewhere", func(t *testing.T) {
		closed, err := a.Kick(within(t), 22, 4000, "out")
		require.NoError(t, err)
		assert.Positive(t, closed)
		onB.ends(t)
		onC.ends(t)
		assert.ErrorIs(t, a.CloseConn(within(t), "nowhere", 1, 4000, ""), ErrNoNode)
	})
	t.Run("what is too large for the broker is refused", func(t *testing.T) {
		assert.ErrorIs(t, a.SendAll(within(t), make([]byte, a.conn.MaxPayload())), ErrTooLarge)
	})
}

// TestExternalCluster shows that the NATS servers may be several, of which one fails.
func TestExternalCluster(t *testing.T) {
	t.Parallel()
	servers := natsServers(t, 3)
	var sites []*site
	for _, s := range servers {
		site := join(t, Options{URL: s.ClientURL(), History: History{Messages: 10, Replicas: 3, Topics: []string{"topic", "other", "new"}}})
		site.account = s.GlobalAccount()
		sites = append(sites, site)
	}
	a, b, c := sites[0], sites[1], sites[2]
	together(t, sites...)
	awaitHistory(t, sites...)
	t.Run("history is that of the servers", func(t *testing.T) { keepsHistory(t, sites) })

	onA, onC := visit(t, a, 21), visit(t, c, 23)
	for _, g := range []*guest{onA, onC} {
		g.subscribe(t, "plain")
		g.subscribe(t, "topic")
	}
	settle(t, sites)
	t.Run("users, topics and presence are those of all servers", func(t *testing.T) {
		reached, err := a.SendUser(within(t), 23, broadcast("user"))
		require.NoError(t, err)
		assert.Equal(t, 1, reached)
		_, err = b.Publish(within(t), "plain", broadcast("plain"))
		require.NoError(t, err)
		onA.hears(t, "plain")
		onC.has(t, "user")
		onC.has(t, "plain")
		members, err := b.Presence(within(t), "plain")
		require.NoError(t, err)
		assert.Equal(t, []Member{{21, 1, a.Name()}, {23, 1, c.Name()}}, members)
	})
	t.Run("a server that fails is not missed", func(t *testing.T) {
		servers[2].Shutdown()
		servers[2].WaitForShutdown()
		eventually(t, "its node has found another one", func() bool {
			reached, err := a.SendUser(within(t), 23, broadcast("again"))
			return err == nil && reached == 1
		})
		onC.has(t, "again")
		eventually(t, "history has a leader, which reaches the node", func() bool {
			_, err := a.Publish(within(t), "topic", broadcast("after"))
			return err == nil && onC.lastBody() == "after"
		})
		messages, _ := c.behind(t, "topic", 0, 0)
		assert.Equal(t, broadcast("after"), messages[len(messages)-1].Packet)
	})
}

// natsServers are servers that are a cluster, as there may be one already.
func natsServers(t *testing.T, count int) (servers []*server.Server) {
	var routes []*url.URL
	for range count {
		routes = append(routes, &url.URL{Scheme: "nats", Host: freeAddress(t)})
	}
	for i, route := range routes {
		_, text, err := net.SplitHostPort(route.Host)
		require.NoError(t, err)
		port, err := strconv.Atoi(text)
		require.NoError(t, err)
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("server-", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), Cluster: server.ClusterOpts{Name: "servers", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		require.NoError(t, err)
		go s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		servers = append(servers, s)
	}
	for _, s := range servers {
		require.True(t, s.ReadyForConnections(patience))
	}
	return servers
}

// TestTLS shows that nodes with certificates find each other, and that one without is kept out.
func TestTLS(t *testing.T) {
	t.Parallel()
	config := certified(t)
	sites := gather(t, 2, Options{Secret: "secret", TLSConfig: config})
	visit(t, sites[1], 2)
	settle(t, sites)
	reached, err := sites[0].SendUser(within(t), 2, broadcast("x"))
	require.NoError(t, err)
	assert.Equal(t, 1, reached)

	plain := join(t, Options{Listen: "127.0.0.1:0", Secret: "secret", Peers: []string{sites[0].Addr()}})
	stranger := join(t, Options{Listen: "127.0.0.1:0", Secret: "secret", Peers: []string{sites[0].Addr()}, TLSConfig: certified(t)})
	friend := join(t, Options{Listen: "127.0.0.1:0", Secret: "secret", Peers: []string{sites[0].Addr()}, TLSConfig: config})
	together(t, append(sites, friend)...)
	assert.Zero(t, plain.nodes())
	assert.Zero(t, stranger.nodes())
}

// certified is a configuration with a certificate of its own, which both sides have to show.
func certified(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}
