package filefmt

import (
	"bytes"
	"fmt"
)

// Mistaken describes a file that does not begin as one of the format does: with
// the two bytes of begin. In base64 such a file begins with one of encoded.
func Mistaken(b []byte, format string, begin [2]byte, encoded ...string) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\ufeff")), " \t\r\n")
	switch {
	case len(b) == 0:
		return "the file is empty, not a " + format
	case len(b) == 1 && b[0] == Magic:
		return "cut short after the first byte; copy the file again, in binary mode"
	case b[0] == Magic:
		return fmt.Sprintf("%s version %d is unknown", format, b[1])
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return "not a " + format + " but a PEM file"
	case bytes.HasPrefix(text, []byte("[")), bytes.HasPrefix(text, []byte("#")):
		return "not a " + format + " but text; is it a krb5.conf?"
	}
	for _, prefix := range encoded {
		if bytes.HasPrefix(text, []byte(prefix)) {
			return "a " + format + " in base64: decode it first"
		}
	}
	return fmt.Sprintf("not a %s: begins with % x instead of % x", format, b[:min(len(b), 8)], begin)
}
