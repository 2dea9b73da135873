package chat

import (
	"crypto/sha256"
	"encoding/hex"
)

// Fingerprint returns the SHA-256 fingerprint of a certificate in DER, as the server prints it and the client takes it: 64
// hexadecimal digits.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
