package websocket

import (
	"crypto/tls"
	"slices"
)

// Protocols by which a connection goes on (RFC 7301).
const (
	protoHTTP  = "http/1.1"
	protoHTTP2 = "h2"
)

// hasCertificate reports whether a configuration has a certificate for somebody.
func hasCertificate(config *tls.Config) bool {
	return len(config.Certificates) > 0 || config.GetCertificate != nil || config.GetConfigForClient != nil
}

// tlsConfig returns the configuration of the listener.
func (opts *ServerOptions) tlsConfig() *tls.Config {
	config := opts.TLSConfig.Clone()
	protos := slices.Clone(config.NextProtos)
	switch {
	case opts.Handler == nil:
		protos = slices.DeleteFunc(protos, func(proto string) bool { return proto == protoHTTP2 })
	case len(protos) == 0:
		protos = []string{protoHTTP2}
	}
	if !slices.Contains(protos, protoHTTP) {
		protos = append(protos, protoHTTP)
	}
	config.NextProtos = protos
	return config
}

// SetSessionTicketKeys sets the keys of TLS session tickets, with which clients resume sessions (RFC 8446, section 4.6.1): the first one
// makes new tickets, and all open old ones. Servers that share them resume each other's sessions; whoever has one can read what was
// sent under its tickets, so they are to be changed often. It may be called at any time and from any goroutine, before Start too. Without
// any keys it does nothing. If it is never called, the keys are those of TLSConfig, or else changed once a day by crypto/tls.
// Configurations that GetConfigForClient returns have keys of their own.
func (serv *Server) SetSessionTicketKeys(keys [][32]byte) {
	if len(keys) == 0 {
		return
	}
	serv.mu.Lock()
	defer serv.mu.Unlock()
	serv.ticketKeys = slices.Clone(keys)
	if e := serv.runningLocked(); e != nil {
		e.setTicketKeys(keys)
	}
}

// setTicketKeys sets the keys of the listener's tickets, if there are any.
func (e *engine) setTicketKeys(keys [][32]byte) {
	if e.tls != nil && len(keys) > 0 {
		e.tls.SetSessionTicketKeys(keys)
	}
}
