// Package interop holds tests of github.com/wsloop/websocket against other implementations of RFC 6455: libraries for Go,
// Node's own client and its package ws, a browser, and libraries for Python; behind nginx, HAProxy and four other
// proxies; and over slow and broken links. It is a module of its own, so that their code is no dependency of the package.
//
// compression_test.go has peers compress, and wire_test.go reads along what they and our side send: suite_test.go is what the public
// conformance suite has about compression.
//
// cases_test.go is the table of what is tried, plain and over TLS (security_test.go), and ways_test.go that of the ways by which clients reach our server. Each peer is
// one file that brings it into the shape of peer_test.go; our own server and client have that shape too, in ours_test.go. run.sh
// installs what is missing and runs everything.
package interop
