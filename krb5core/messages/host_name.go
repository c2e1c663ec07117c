package messages

import (
	"errors"
	"fmt"
	"strings"
)

// The longest DNS name, without a final dot, and the longest label, in bytes:
// RFC 1035, Section 2.3.4.
const (
	maxHostName = 253
	maxLabel    = 63
)

// CheckHostName returns an error unless host can be a DNS name: labels of 1 to
// 63 ASCII letters, digits, hyphens and underscores, at most 253 bytes in all.
// A final dot is permitted. Underscores are no part of RFC 1123's host names,
// but some intranets have them. An IPv4 address passes as well, since its
// numbers are labels; callers that want none use netip.ParseAddr first.
func CheckHostName(host string) error {
	if host == "" {
		return errors.New("the host name is missing")
	}
	name := strings.TrimSuffix(host, ".")
	if len(name) > maxHostName {
		return fmt.Errorf("%.64q is not a DNS name: it is longer than %d characters", host, maxHostName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return fmt.Errorf("%.64q is not a DNS name: each label has 1 to %d characters", host, maxLabel)
		}
		for _, r := range label {
			if !isHostRune(r) {
				return fmt.Errorf("%.64q is not a DNS name: it contains %q (internationalised names are written as xn--...)", host, r)
			}
		}
	}
	return nil
}

func isHostRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}
