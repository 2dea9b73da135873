package interop

import (
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the tests replace in the configurations of the proxies, and in what their commands are given.
const (
	configuredListen      = "127.0.0.1:8080"
	configuredServer      = "127.0.0.1:9090"
	configuredPort        = `"9090"`       // its port, in varnish.vcl
	configuredSite        = "http://:8080" // the port of configuredListen, in Caddyfile
	configuredCertificate = "/etc/ssl/service.pem"
	ownFolder             = "OWN_FOLDER" // in commands only
)

// proxy is a program that stands between clients and server.
type proxy struct {
	name    string
	program string
	config  string   // its file in the folder proxy
	private []string // old and new strings in the configuration: what a test needs
	quiet   []string // the same, also in args, for connections that may be quiet for 5 seconds only; nil: they may be quiet for ever
	blind   []string // the same, for no health checks
	args    []string // of the command, in front of the configuration's path
	roomy   bool     // nothing limits what waits in the system for a slow client
	secure  bool     // clients come to it by TLS, which is all that it knows of
	module  string   // a file that its package may lack
}

var (
	nginx = proxy{
		name:    "nginx",
		program: "nginx",
		config:  "nginx.conf",
		private: []string{"http {", `http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;`},
		quiet: []string{"proxy_read_timeout 60s", "proxy_read_timeout 5s", "proxy_send_timeout 60s", "proxy_send_timeout 5s"},
		args:  []string{"-p", ".", "-g", "daemon off; pid nginx.pid; error_log stderr;", "-c"},
	}
	// nginxStream is nginx as a proxy of TCP.
	nginxStream = proxy{
		name:    "nginx's stream",
		program: "nginx",
		config:  "nginx-stream.conf",
		private: []string{"load_module modules/", "load_module /usr/lib/nginx/modules/"},
		args:    nginx.args,
		module:  "/usr/lib/nginx/modules/ngx_stream_module.so",
	}
	haproxy = proxy{
		name:    "HAProxy",
		program: "haproxy",
		config:  "haproxy.cfg",
		private: []string{"timeout connect 5s", "timeout connect 5s\n\ttimeout check 20s"}, // a busy machine may take its 2 seconds
		quiet:   []string{"timeout tunnel 60s", "timeout tunnel 5s"},
		blind:   []string{" check\n", "\n"},
		args:    []string{"-W", "-f"},
	}
	apache = proxy{
		name:    "Apache",
		program: "apache2",
		config:  "apache.conf",
		quiet:   []string{"timeout=60", "timeout=5"},
		args:    []string{"-D", "FOREGROUND", "-d", ownFolder, "-C", "PidFile apache.pid", "-C", "DefaultRuntimeDir .", "-C", "ErrorLog /dev/stderr", "-f"},
	}
	caddy = proxy{
		name:    "Caddy",
		program: "caddy",
		config:  "Caddyfile",
		blind:   []string{"health_uri /status\n\t\thealth_interval 5s\n", ""},
		args:    []string{"run", "--adapter", "caddyfile", "--config"},
		roomy:   true,
	}
	varnish = proxy{
		name:    "Varnish",
		program: "varnishd",
		config:  "varnish.vcl",
		quiet:   []string{"pipe_timeout=60", "pipe_timeout=5"},
		blind:   []string{".probe = {\n\t\t.url = \"/status\";\n\t\t.initial = 8; # it is there until a check says otherwise\n\t}\n", ""},
		args:    []string{"-F", "-j", "none", "-n", ownFolder, "-s", "malloc,16m", "-a", configuredListen, "-p", "pipe_timeout=60", "-f"},
		roomy:   true,
	}
	stunnel = proxy{
		name:    "stunnel",
		program: "stunnel4",
		config:  "stunnel.conf",
		quiet:   []string{"TIMEOUTidle = 60", "TIMEOUTidle = 5"},
		secure:  true,
	}
	proxies = []proxy{nginx, haproxy, apache, caddy, varnish, stunnel}
)

// route is a way to a server.
type route struct {
	name  string
	proxy *proxy // nil: none
}

// routes are that without a proxy, and those through each.
var routes = []route{
	{"directly", nil}, {"through nginx", &nginx}, {"through HAProxy", &haproxy}, {"through Apache", &apache}, {"through Caddy", &caddy},
	{"through Varnish", &varnish}, {"through stunnel", &stunnel},
}

// start starts what stands on the way to a server, and returns its address.
func (way route) start(t *testing.T, server string) (address string) {
	if way.proxy == nil {
		return server
	}
	return way.proxy.start(t, server)
}

// url returns the URL for an address on the way.
func (way route) url(address string) string {
	if way.proxy == nil {
		return "ws://" + address
	}
	return way.proxy.url(address)
}

// to starts what stands on the way to a plain URL, of a server whose status it does not ask for, and returns the URL that leads there.
func (way route) to(t *testing.T, url string) string {
	if way.proxy == nil {
		return url
	}
	address := host(url)
	_, path, _ := strings.Cut(url, address)
	return way.url(way.proxy.start(t, address, way.proxy.blind...)) + path
}

// host returns the "host:port" of a URL that serve has returned.
func host(url string) (address string) {
	_, rest, _ := strings.Cut(url, "://")
	address, _, _ = strings.Cut(rest, "/")
	return address
}

// start starts the proxy in front of a server, with edits to its configuration, as old and new strings, and returns its
// address. It ends with the test.
func (p proxy) start(t *testing.T, server string, edits ...string) (address string) {
	return p.launch(t, server, edits...).address
}

// url returns the URL for an address of the proxy.
func (p proxy) url(address string) string {
	if p.secure {
		return "wss://" + address
	}
	return "ws://" + address
}

// dial connects to an address of the proxy, for a test that speaks HTTP itself.
func (p proxy) dial(t *testing.T, address string) (c net.Conn) {
	t.Helper()
	dialer := &net.Dialer{Timeout: deadline}
	var err error
	if p.secure {
		c, err = tls.DialWithDialer(dialer, "tcp", address, nil) // the authority is trusted
	} else {
		c, err = dialer.Dial("tcp", address)
	}
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(deadline)))
	return c
}

// need skips the test if the proxy is not installed.
func (p proxy) need(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath(p.program); err != nil {
		missing(t, p.program+" is not installed")
	}
	if p.module != "" {
		if _, err := os.Stat(p.module); err != nil {
			missing(t, p.name+" is not installed")
		}
	}
}

// running is a proxy that runs, until the end of the test.
type running struct {
	proxy
	address string
	folder  string   // of its own, with its configuration
	command []string // and the path of that
	process *os.Process
	ended   <-chan struct{}
	said    *bytes.Buffer // to be read after the end
}

// launch is start for a test that has more to do with the proxy.
func (p proxy) launch(t *testing.T, server string, edits ...string) *running {
	t.Helper()
	p.need(t)
	const tries = 5 // somebody else may take the free port first
	for range tries {
		if r := p.prepare(t, freeAddress(t), server, edits); r.run(t) {
			return r
		}
	}
	require.FailNow(t, p.name+" does not start")
	return nil
}

// prepare writes the configuration for an address.
func (p proxy) prepare(t *testing.T, address, server string, edits []string) *running {
	configured, err := os.ReadFile(filepath.Join("proxy", p.config))
	require.NoError(t, err)
	for i := 0; i < len(edits); i += 2 {
		require.Contains(t, string(configured)+strings.Join(p.args, " "), edits[i], "what is to be edited in %s", p.config)
	}
	folder := t.TempDir()
	_, site, _ := strings.Cut(address, ":")
	_, port, _ := strings.Cut(server, ":")
	addresses := []string{configuredListen, address, configuredServer, server, configuredPort, `"` + port + `"`,
		configuredSite, "http://:" + site, ownFolder, folder}
	if p.secure {
		addresses = append(addresses, configuredCertificate, saved(t, issue(t, ecdsaKey)))
	}
	edit := func(text string) string {
		return strings.NewReplacer(addresses...).Replace(strings.NewReplacer(append(edits, p.private...)...).Replace(text))
	}
	r := &running{proxy: p, address: address, folder: folder}
	for _, arg := range p.args {
		r.command = append(r.command, edit(arg))
	}
	r.command = append(r.command, filepath.Join(folder, p.config))
	require.NoError(t, os.WriteFile(filepath.Join(folder, p.config), []byte(edit(string(configured))), 0o644))
	return r
}

// run starts the program, and reports whether it listens. It ends with the test, by its process id.
func (r *running) run(t *testing.T) bool {
	cmd := exec.Command(r.program, r.command...)
	said := new(bytes.Buffer)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.folder, said, said
	cmd.Env = append(os.Environ(), "HOME="+r.folder, "XDG_CONFIG_HOME="+r.folder, "XDG_DATA_HOME="+r.folder)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	r.process, r.ended, r.said = cmd.Process, ended, said
	t.Cleanup(func() {
		r := running{proxy: r.proxy, process: cmd.Process, ended: ended}
		r.stop(t)
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s said: %s", r.name, said.Bytes())
		}
	})
	return listens(r.address, ended)
}

// stop ends the program as its operator would who does not wait for its connections. Apache does for some seconds all the same.
func (r *running) stop(t *testing.T) {
	r.process.Signal(syscall.SIGTERM)
	select {
	case <-r.ended:
	case <-time.After(2 * deadline):
		r.process.Kill()
		<-r.ended
		t.Errorf("%s did not end before the deadline", r.name)
	}
}

// listens waits until somebody listens on an address, and reports whether it is so before the end.
func listens(address string, ended <-chan struct{}) bool {
	for giveUp := time.After(deadline); ; {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-giveUp:
			return false
		case <-time.After(10 * time.Millisecond): // nobody tells
		}
	}
}

// freeAddress returns an address that nobody listens on just now.
func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}
