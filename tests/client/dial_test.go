package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

type dialContext = func(ctx context.Context, network, address string) (net.Conn, error)

// overPipe returns what dials one end of a pipe in memory, and where the other ends come.
func overPipe() (dial dialContext, others <-chan net.Conn) {
	ends := make(chan net.Conn, 1)
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		ends <- theirs
		return ours, nil
	}, ends
}

// pipeListener is a listener for the other ends.
type pipeListener struct {
	net.Listener
	ends <-chan net.Conn
}

func (l pipeListener) Accept() (net.Conn, error) { return <-l.ends, nil }

// wrapped is a connection that is not the system's own, with whatever that has of methods.
type wrapped struct{ *net.TCPConn }

func (c wrapped) Write(b []byte) (n int, err error) { return c.TCPConn.Write(b) }

// converse has a client and a server talk to each other over a connection, up to the end of that.
func converse(t *testing.T, s *peer.Listener, cl *websocket.Client) {
	texts, quit := make(chan string, 1), make(chan bool, 1)
	cl.HandleText = func(_ *websocket.Client, f *websocket.Frame) error {
		texts <- string(f.Payload())
		return nil
	}
	cl.HandleQuit = func() { quit <- true }
	c := s.Open(cl, websocket.NewFrameText(false, []byte("welcome"))...)
	assert.Equal(t, "welcome", peer.Receive(t, texts))
	sent, big := make(chan error, 1), peer.Pattern(1<<20, 0)
	go func() { sent <- cl.SendBin(big) }()
	var got []byte
	for len(got) < len(big) {
		f, err := peer.ReadFrame(c.In)
		require.NoError(t, err)
		got = append(got, f.Payload...)
	}
	assert.True(t, string(big) == string(got))
	require.NoError(t, peer.Receive(t, sent))
	c.Send(websocket.NewFramePing(false, []byte("x")))
	assert.Equal(t, websocket.OpcodePong, c.Read().Opcode)
	closed := make(chan error, 1)
	go func() { closed <- cl.Close() }()
	code, _ := c.ReadClose()
	assert.Equal(t, websocket.StatusNormal, code)
	c.Send(websocket.NewFrameClose(false, code, nil))
	c.Conn.Close()
	assert.NoError(t, peer.Receive(t, closed))
	peer.Receive(t, quit)
	assert.NoError(t, cl.Err())
}

func TestClient_dialContext(t *testing.T) {
	for _, secure := range []bool{false, true} {
		scheme := "ws"
		if secure {
			scheme = "wss"
		}
		for name, dial := range map[string]func(t *testing.T) (s *peer.Listener, dial dialContext){
			"TCP": func(t *testing.T) (*peer.Listener, dialContext) {
				s := peer.Listen(t)
				address := s.Socket.Addr().String()
				return s, func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, address)
				}
			},
			"a Unix socket": func(t *testing.T) (*peer.Listener, dialContext) {
				path := filepath.Join(t.TempDir(), "s")
				ln, err := net.Listen("unix", path)
				if err != nil {
					t.Skip(err)
				}
				t.Cleanup(func() { ln.Close() })
				return &peer.Listener{T: t, Socket: ln}, func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "unix", path)
				}
			},
			"a pipe in memory": func(t *testing.T) (*peer.Listener, dialContext) {
				dial, ends := overPipe()
				return &peer.Listener{T: t, Socket: pipeListener{nil, ends}}, dial
			},
			"a connection that is wrapped": func(t *testing.T) (*peer.Listener, dialContext) {
				s := peer.Listen(t)
				address := s.Socket.Addr().String()
				return s, func(ctx context.Context, network, _ string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					if err != nil {
						return nil, err
					}
					return wrapped{conn.(*net.TCPConn)}, nil
				}
			},
		} {
			t.Run(scheme+" over "+name, func(t *testing.T) {
				peer.CheckGoroutines(t)
				peer.CheckDescriptors(t)
				s, dial := dial(t)
				if _, isPipe := s.Socket.(pipeListener); secure && isPipe {
					s.Socket = tlsPipe{s.Socket}
				} else if secure {
					s.Socket = tls.NewListener(s.Socket, &tls.Config{Certificates: []tls.Certificate{peer.CertificateECDSA()}})
				}
				converse(t, s, &websocket.Client{Endpoint: scheme + "://" + peer.ServerName + "/chat", DialContext: dial,
					TLSConfig: &tls.Config{RootCAs: peer.Trust()}})
			})
		}
	}
	t.Run("the host of the endpoint is what the request says", func(t *testing.T) {
		peer.CheckGoroutines(t)
		dial, ends := overPipe()
		c := (&peer.Listener{T: t, Socket: pipeListener{nil, ends}}).Open(&websocket.Client{Endpoint: "ws://unix/chat", DialContext: dial})
		assert.Equal(t, "unix", c.Request.Host)
		assert.Equal(t, "/chat", c.Request.RequestURI)
	})
	for _, test := range []struct{ endpoint, proxy, want string }{
		{"ws://a.test", "", "a.test:80"},
		{"wss://a.test", "", "a.test:443"},
		{"ws://[fe80::1%25eth0]:81", "", "[fe80::1%eth0]:81"},
		{"ws://a.test", "http://user:secret@proxy.test", "proxy.test:80"},
		{"wss://a.test:444", "https://proxy.test", "proxy.test:443"},
		{"wss://a.test", "HTTP://[::1]:03128", "[::1]:3128"},
	} {
		t.Run("for "+test.endpoint+" by "+test.proxy+" it is asked for "+test.want, func(t *testing.T) {
			no := errors.New("no")
			cl := &websocket.Client{Endpoint: test.endpoint, Proxy: http.ProxyURL(nil), DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				_, hasDeadline := ctx.Deadline()
				assert.True(t, hasDeadline)
				assert.Equal(t, "tcp", network)
				assert.Equal(t, test.want, address)
				return nil, no
			}}
			if test.proxy != "" {
				u, err := url.Parse(test.proxy)
				require.NoError(t, err)
				cl.Proxy = http.ProxyURL(u)
			}
			err := cl.Connect()
			assert.ErrorIs(t, err, no)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
	t.Run("nothing at all is an error", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{Endpoint: "ws://a.test", DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, nil }}
		assert.ErrorContains(t, cl.Connect(), "DialContext")
	})
	for name, fail := range map[string]func(){"panics": func() { panic("oh no") }, "ends its goroutine": runtime.Goexit} {
		t.Run("one that "+name+" is an error, and Connect may be called again", func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := &websocket.Client{Endpoint: "ws://a.test", Logger: slog.New(slog.DiscardHandler), DialContext: func(context.Context, string, string) (net.Conn, error) {
				fail()
				return nil, nil
			}}
			assert.ErrorContains(t, cl.Connect(), "websocket: connect: ")
			cl.Endpoint, cl.DialContext = "", nil
			peer.Open(t, cl)
		})
	}
	ends := connectEnds()
	ends["HandshakeTimeout"] = func(*websocket.Client, func()) error { return context.DeadlineExceeded }
	for name, end := range ends {
		t.Run("one that does not heed its context is not awaited beyond "+name+", and what it opens then is closed", func(t *testing.T) {
			peer.CheckGoroutines(t)
			dialing, release, closed := make(chan bool), make(chan bool), make(chan bool)
			cl := &websocket.Client{Endpoint: "ws://a.test", HandshakeTimeout: time.Hour, DialContext: func(context.Context, string, string) (net.Conn, error) {
				close(dialing)
				<-release
				ours, theirs := net.Pipe()
				go func() {
					io.Copy(io.Discard, theirs)
					close(closed)
				}()
				return ours, nil
			}}
			if name == "HandshakeTimeout" {
				cl.HandshakeTimeout = 10 * time.Millisecond
			}
			connected := beginConnect(t, cl)
			peer.Receive(t, dialing)
			connected.endBy(end)
			close(release)
			peer.Receive(t, closed)
		})
		t.Run("its context ends with "+name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			dialing := make(chan bool)
			cl := &websocket.Client{Endpoint: "ws://a.test", HandshakeTimeout: time.Hour, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				close(dialing)
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			if name == "HandshakeTimeout" {
				cl.HandshakeTimeout = 10 * time.Millisecond
			}
			connected := beginConnect(t, cl)
			peer.Receive(t, dialing)
			connected.endBy(end)
		})
	}
	t.Run("a connection without deadlines is an error, and closed", func(t *testing.T) {
		peer.CheckGoroutines(t)
		dial, ends := overPipe()
		no := errors.New("no deadlines")
		cl := &websocket.Client{Endpoint: "ws://a.test", DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return timeless{conn, no}, err
		}}
		assert.ErrorIs(t, cl.Connect(), no)
		_, err := peer.Receive(t, ends).Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
	})
	t.Run("the handshake's deadline is not left on the connection", func(t *testing.T) {
		peer.CheckGoroutines(t)
		dial, ends := overPipe()
		set := make(chan time.Time, 10)
		(&peer.Listener{T: t, Socket: pipeListener{nil, ends}}).Open(&websocket.Client{Endpoint: "ws://a.test", DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return timed{conn, set}, err
		}})
		assert.False(t, peer.Receive(t, set).IsZero())
		assert.True(t, peer.Receive(t, set).IsZero())
	})
	t.Run("a server that does not read does not hold up a Connect that has failed", func(t *testing.T) {
		peer.CheckGoroutines(t)
		dial, ends := overPipe()
		cl := &websocket.Client{Endpoint: "ws://a.test", DialContext: dial, HandshakeTimeout: 50 * time.Millisecond}
		assert.ErrorIs(t, cl.Connect(), os.ErrDeadlineExceeded)
		peer.Receive(t, ends).Close()
	})
}

type timeless struct {
	net.Conn
	err error
}

func (c timeless) SetDeadline(time.Time) error { return c.err }

// timed tells which deadlines are set.
type timed struct {
	net.Conn
	set chan<- time.Time
}

func (c timed) SetDeadline(at time.Time) error {
	c.set <- at
	return c.Conn.SetDeadline(at)
}

// tlsPipe puts TLS on what a listener accepts.
type tlsPipe struct{ net.Listener }

func (l tlsPipe) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{peer.CertificateECDSA()}}), nil
}

// TestClient_addresses has names with several addresses.
func TestClient_addresses(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run("a name of which one address listens, "+address, func(t *testing.T) {
			peer.CheckGoroutines(t)
			ln, err := net.Listen("tcp", address)
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { ln.Close() })
			resolve(t, "127.0.0.1", "::1")
			_, port, err := net.SplitHostPort(ln.Addr().String())
			require.NoError(t, err)
			cl := &websocket.Client{Endpoint: "ws://many.test:" + port, Proxy: http.ProxyURL(nil)}
			(&peer.Listener{T: t, Socket: ln}).Open(cl)
		})
	}
}

// resolve has every name mean some addresses until the end of the test, which must not run in parallel with others.
func resolve(t *testing.T, addresses ...string) {
	former := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			answerNames(theirs, addresses)
		}()
		return ours, nil
	}}
	t.Cleanup(func() { net.DefaultResolver = former })
}

// answerNames answers the questions on a stream (RFC 1035, section 4.2.2), each for the addresses of one family.
func answerNames(conn net.Conn, addresses []string) {
	in := bufio.NewReader(conn)
	for {
		var size [2]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(in, question); err != nil {
			return
		}
		end := 12 // behind the header: a name, a type and a class
		for question[end] != 0 {
			end += 1 + int(question[end])
		}
		end += 5
		kind := binary.BigEndian.Uint16(question[end-4:])
		answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
		for _, text := range addresses {
			address := net.ParseIP(text)
			if v4 := address.To4(); v4 != nil {
				address = v4
			}
			if kind == 1 && len(address) == 4 || kind == 28 && len(address) == 16 {
				answer[7]++
				answer = append(answer, 0xC0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(address)))
				answer = append(answer, address...)
			}
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}
