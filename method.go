package caddynegotiate

import (
	"errors"
	"strings"
)

// errMethodRefused is the cause of a 405.
var errMethodRefused = errors.New("TRACE and TRACK echo the request, and with it the token")

// allowedMethods is the Allow field of a 405.
const allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// echoes reports whether an upstream answers the method with the request as it came.
// The answer would show the client an unused token: RFC 9110, Section 9.3.8 forbids
// credentials in TRACE. TRACK is the same at old versions of IIS.
func echoes(method string) bool {
	return strings.EqualFold(method, "TRACE") || strings.EqualFold(method, "TRACK")
}
