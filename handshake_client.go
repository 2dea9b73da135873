package websocket

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// ownFields are the fields that a client's request sets itself.
var ownFields = []string{"Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"}

// appendRequest appends the opening handshake of a client with a fresh key (RFC 6455, section 4.1).
func appendRequest(dst []byte, target, host string, header http.Header) (request []byte, key string, err error) {
	if err = checkFields(header); err != nil {
		return nil, "", err
	}
	if !isFieldValue(target) || strings.Contains(target, " ") || !isFieldValue(host) || strings.Contains(host, " ") {
		return nil, "", errors.New("websocket: control character in endpoint")
	}
	var raw [16]byte
	rand.Read(raw[:]) // never fails
	key = base64.StdEncoding.EncodeToString(raw[:])
	dst = append(dst, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: "+key+"\r\nSec-WebSocket-Version: 13\r\n"...)
	dst = appendFields(dst, header, ownFields...)
	return append(dst, "\r\n"...), key, nil
}

// checkAccept holds the head of a server's answer to the rules of RFC 6455, section 4.1.
func checkAccept(head []byte, key string, offered http.Header) (http.Header, error) {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	if err := checkStatusLine(string(line)); err != nil {
		return nil, err
	}
	header, err := parseFields(unfold(string(fields)))
	if err != nil {
		return nil, fmt.Errorf("websocket: malformed answer: %w", err)
	}
	answer := &Handshake{Header: header, size: minRequest, fields: minHeader}
	if err = answer.token("Upgrade", "websocket", ErrInvalidHeaderUpgrade); err != nil {
		return nil, fmt.Errorf("websocket: answer without Upgrade: %w", err)
	}
	if err = answer.token("Connection", "upgrade", ErrInvalidHeaderConn); err != nil {
		return nil, fmt.Errorf("websocket: answer without Connection: %w", err)
	}
	if accept := header["Sec-Websocket-Accept"]; len(accept) != 1 || accept[0] != acceptKey([]byte(key)) {
		return nil, errors.New("websocket: wrong Sec-WebSocket-Accept")
	}
	dropEmpty(header, "Sec-Websocket-Protocol")
	if err = checkChosen(header, offered); err != nil {
		return nil, err
	}
	return header, nil
}

// isInterim reports whether an answer precedes the final one, so that a client may ignore it (RFC 9110, section 15.2). A 101 is
// final: it upgrades.
func isInterim(head []byte) bool {
	const line = "HTTP/1.1 1xx"
	if len(head) < len(line) || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return false
	}
	status, after := head[len(line)-4:len(line)], head[len(line):]
	if status[0] != ' ' || status[1] != '1' || string(status[1:]) == "101" {
		return false
	}
	return isDigit(status[2]) && isDigit(status[3]) && (bytes.HasPrefix(after, []byte(" ")) || bytes.HasPrefix(after, []byte("\r\n")))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// checkStatusLine returns an error unless the first line of an answer opens the connection. For a refusal it has the status and
// its reason.
func checkStatusLine(line string) error {
	version, status, ok := strings.Cut(line, " ")
	if !ok || !strings.HasPrefix(version, "HTTP/1.") || !isFieldValue(status) {
		return errors.New("websocket: malformed status line")
	}
	code, _, _ := strings.Cut(status, " ")
	if code != strconv.Itoa(http.StatusSwitchingProtocols) {
		return fmt.Errorf("websocket: handshake refused: %s", status)
	}
	if version != "HTTP/1.1" { // RFC 6455, section 4.2.2
		return errors.New("websocket: answer is not HTTP/1.1")
	}
	return nil
}

// dropEmpty removes the empty lines of a field from a header: some servers send one to say that they chose none.
func dropEmpty(header http.Header, name string) {
	values := slices.DeleteFunc(header[name], func(value string) bool { return value == "" })
	if len(values) == 0 {
		delete(header, name)
	} else {
		header[name] = values
	}
}

// checkChosen returns an error if an answer has an extension or a subprotocol that was not offered.
func checkChosen(header, offered http.Header) error {
	extensions := extensionNames(offered)
	for _, chosen := range extensionNames(header) {
		if !slices.Contains(extensions, chosen) {
			return errors.New("websocket: extension that was not offered")
		}
	}
	protocols := slices.Collect(listElements(joinLines(offered["Sec-Websocket-Protocol"])))
	if chosen := header["Sec-Websocket-Protocol"]; len(chosen) > 1 || len(chosen) == 1 && !slices.Contains(protocols, chosen[0]) {
		return errors.New("websocket: subprotocol that was not offered")
	}
	return nil
}

// extensionNames returns the extensions of a header without their parameters.
func extensionNames(header http.Header) (names []string) {
	for element := range listElements(joinLines(header["Sec-Websocket-Extensions"])) {
		name, _, _ := strings.Cut(element, ";")
		names = append(names, strings.Trim(name, " \t"))
	}
	return names
}
