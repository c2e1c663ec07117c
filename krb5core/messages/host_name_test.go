package messages

import (
	"strings"
	"testing"
)

func TestCheckHostName(t *testing.T) {
	label := strings.Repeat("x", 63)
	longest := strings.Repeat(label+".", 3) + strings.Repeat("x", 61) // 253
	for _, host := range []string{"a", "web.corp.example", "web.corp.example.", "WEB-1", "my_host", "192.0.2.1", "xn--mller-kva", label, longest, longest + "."} {
		if err := CheckHostName(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"", ".", "..", "a..b", ".a", "a b", "müller", "a/b", "a@b", "a:1", "::1", "a\x00", label + "x", longest + "x", "a.."} {
		if err := CheckHostName(host); err == nil {
			t.Errorf("%q passes", host)
		}
	}
}
