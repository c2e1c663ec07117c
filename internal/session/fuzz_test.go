package session

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// FuzzContent reads what only a holder of a master key can make: it does not panic, allocates no more
// than the input is long, and what it reads is written in one form.
func FuzzContent(f *testing.F) {
	w := newWorld(f)
	s := w.site(w.process(nil), "block", Settings{})
	u := s.user("alice")
	f.Add(newContent(u, time.Hour).marshal())
	u.Account = nil
	f.Add(newContent(u, time.Hour).marshal())
	u = s.user("bob")
	u.Account.Groups = append(groups(50), "S-1-0x0123456789AB", "S-1-5-0x1", "x")
	f.Add(newContent(u, time.Hour).marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := unmarshal(b)
		if err != nil {
			return
		}
		written := c.marshal()
		again, err := unmarshal(written)
		if err != nil || !bytes.Equal(again.marshal(), written) {
			t.Errorf("%x is written as %x: %v", b, written, err)
		}
	})
}

// FuzzCookie has a request come with any cookies: no user is signed in by those that were not made
// here.
func FuzzCookie(f *testing.F) {
	w := newWorld(f)
	s := w.site(w.process(nil), "block", Settings{})
	good := s.begin(s.user("alice"))
	for _, seed := range []string{
		good, "a=1; " + good + "; b", strings.ToUpper(good), good[:len(good)-4], "__Host-negotiate=", "__Host-negotiate", `__Host-negotiate="x"`, ";;", "=",
	} {
		f.Add(seed)
	}
	_, value, _ := strings.Cut(good, "=")
	f.Fuzz(func(t *testing.T, line string) {
		if u, _ := s.resume(line); u != nil && !strings.Contains(line, value) {
			t.Errorf("%q signs in as %s", line, u.Principal)
		}
	})
}
