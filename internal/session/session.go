package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/session/cookie"
	"github.com/caddy-negotiate/caddy-negotiate/internal/signin"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Config is what a block's sessions depend on beside its settings.
type Config struct {
	Logger *zap.Logger
	// Keys are the master keys of the configuration.
	Keys *Keys
	// Acceptor is the account that users of the block sign in to.
	Acceptor messages.Principal
	// Block tells the block from others, whose cookies are not good for it: its settings, in any
	// form. It is hashed, with Acceptor.
	Block []byte
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Sessions are the sessions of one block. They are safe for concurrent use, and nil is a block
// without sessions.
type Sessions struct {
	settings Settings
	cfg      Config
	block    [sha256.Size]byte
	tickets  *tickets
	rand     io.Reader
	tooLong  sync.Once
}

// Open returns the sessions of a block; nil if it has none. It reads nothing yet.
func (s *Settings) Open(cfg Config) *Sessions {
	if s == nil {
		return nil
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Sessions{settings: *s, cfg: cfg, block: sha256.Sum256(append([]byte(cfg.Acceptor.String()+"\x00"), cfg.Block...)), tickets: process, rand: rand.Reader}
}

// SignOff ends the session if the request is for the path that does. It reports whether it has
// answered.
func (s *Sessions) SignOff(w http.ResponseWriter, r *http.Request) bool {
	if s == nil || s.settings.SignOff == "" || r.URL.Path != s.settings.SignOff {
		return false
	}
	for _, value := range s.take(r) {
		if c := s.open(r, value); c != nil {
			s.tickets.drop(c.Ticket, s.cfg.Now())
		}
	}
	w.Header().Add("Set-Cookie", s.newCookie("", -1))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, "signed off\n") // a client that does not read it has signed off
	return true
}

// Resume returns the user whose session a request belongs to; nil if it has none. It takes the
// cookie from the request, because an upstream that reads it could sign in by it, and sets another one
// in the answer's header from time to time where idle sessions end.
func (s *Sessions) Resume(answer http.Header, r *http.Request) *signin.User {
	if s == nil {
		return nil
	}
	for _, value := range s.take(r) {
		if c := s.open(r, value); c != nil {
			s.touch(answer, r, c)
			return s.user(c)
		}
	}
	return nil
}

// Begin begins a session: it sets the cookie in the answer's header for a user who has signed in by a
// token, and keeps their ticket. It takes the cookie of an earlier session, which may be another user's,
// from the request and from the browser.
func (s *Sessions) Begin(answer http.Header, r *http.Request, u *signin.User) {
	if s == nil {
		return
	}
	earlier := s.take(r)
	if u.Evidence != nil {
		s.tickets.put(u.Evidence)
	}
	if !s.set(answer, r, s.content(u)) && len(earlier) > 0 {
		answer.Add("Set-Cookie", s.newCookie("", -1))
	}
}

// Hide takes the cookie from a request whose client is not signed in by it. Its error pages can come
// from an upstream.
func (s *Sessions) Hide(r *http.Request) {
	if s != nil {
		s.take(r)
	}
}

// mostCookies bounds the cookies of one name that are looked at in a request: browsers send one for
// each path and domain that set it.
const mostCookies = 4

// take removes the session's cookies from a request, and returns their values.
func (s *Sessions) take(r *http.Request) (values []string) {
	lines := r.Header["Cookie"]
	for _, line := range lines {
		if !strings.Contains(line, s.settings.cookie()) {
			continue
		}
		// The lines may belong to other copies of the request.
		kept := make([]string, 0, len(lines))
		for _, line := range lines {
			if line = s.takeFrom(line, &values); line != "" {
				kept = append(kept, line)
			}
		}
		if r.Header["Cookie"] = kept; len(kept) == 0 {
			delete(r.Header, "Cookie")
		}
		break
	}
	return values[:min(len(values), mostCookies)]
}

// takeFrom returns a line of cookies without the session's, whose values it adds.
func (s *Sessions) takeFrom(line string, values *[]string) string {
	var kept []string
	for pair := range strings.SplitSeq(line, ";") {
		pair = strings.TrimSpace(pair)
		name, value, _ := strings.Cut(pair, "=")
		if strings.TrimSpace(name) == s.settings.cookie() {
			*values = append(*values, strings.Trim(strings.TrimSpace(value), `"`))
		} else if pair != "" {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "; ")
}

// open returns the content of a cookie's value if it is good for the request.
func (s *Sessions) open(r *http.Request, value string) *cookie.Content {
	sealed, ok := cookie.Parse(value)
	if !ok {
		return nil
	}
	key := s.cfg.Keys.opening(r.Context(), sealed.Key)
	if key == nil {
		return nil
	}
	c, err := key.Open(s.place(r), sealed)
	if err != nil || s.over(c) {
		return nil
	}
	return c
}

// content returns the content for a user who has just signed in.
func (s *Sessions) content(u *signin.User) *cookie.Content {
	c := &cookie.Content{Begin: u.SignedIn, End: u.SignedIn.Add(s.settings.duration()), Seen: u.SignedIn, Principal: u.Principal, Account: u.Account}
	if u.Ends.Before(c.End) {
		c.End = u.Ends
	}
	if u.Evidence != nil {
		c.Ticket = cookie.IDOf(u.Evidence.Ticket)
	}
	return c
}

// over reports whether a session has ended.
func (s *Sessions) over(c *cookie.Content) bool {
	now, idle := s.cfg.Now(), time.Duration(s.settings.Idle)
	return !now.Before(c.End) || idle != 0 && now.Sub(c.Seen) >= idle
}

// touch sets the cookie again after a tenth of the time that a session may be idle: it ends after
// nine tenths of it at the earliest.
func (s *Sessions) touch(answer http.Header, r *http.Request, c *cookie.Content) {
	now, idle := s.cfg.Now(), time.Duration(s.settings.Idle)
	if idle != 0 && now.Sub(c.Seen) >= idle/10 {
		c.Seen = now
		s.set(answer, r, c)
	}
}

func (s *Sessions) user(c *cookie.Content) *signin.User {
	return &signin.User{
		Principal: c.Principal, Account: c.Account, Evidence: s.tickets.get(c.Ticket, c.Begin, s.cfg.Now()),
		Acceptor: s.cfg.Acceptor, SignedIn: c.Begin, Ends: c.End,
	}
}

// set sets the cookie with a content, and reports whether it could. Without one the user signs in by
// tokens. A cache in front that several users share must not keep the answer: it would hand out the
// session.
func (s *Sessions) set(answer http.Header, r *http.Request, c *cookie.Content) bool {
	// What a client that went away has begun is of use for others.
	key, err := s.cfg.Keys.sealing(context.WithoutCancel(r.Context()))
	if err != nil {
		return false // the storage's failure is logged
	}
	value, err := key.Seal(s.rand, s.settings.cookie(), s.place(r), c)
	switch {
	case err == nil:
		answer.Add("Set-Cookie", s.newCookie(value, 0))
		answer.Add("Cache-Control", "private")
	case errors.Is(err, cookie.ErrTooLong):
		s.tooLong.Do(func() {
			s.cfg.Logger.Warn("a user is in too many groups for the cookie of a session, and signs in with each request; further ones are not logged",
				zap.Stringer("user_id", c.Principal), zap.String("remedy", "remove the user from groups, or remove session"))
		})
	default:
		s.cfg.Logger.Error("the cookie of a session cannot be made", zap.Error(err))
	}
	return err == nil
}

func (s *Sessions) newCookie(value string, maxAge int) string {
	c := http.Cookie{Name: s.settings.cookie(), Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	return c.String()
}

// place is where the cookies of a request are good. Browsers send them to all ports of a host.
func (s *Sessions) place(r *http.Request) cookie.Place {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return cookie.Place{Host: strings.ToLower(strings.TrimSuffix(host, ".")), Block: s.block}
}
