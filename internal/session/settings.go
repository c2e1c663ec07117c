package session

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
)

// Settings say how long users stay signed in, and by which cookie.
type Settings struct {
	// How long a session lasts after the sign-in, from 1 minute to 30 days; it never outlasts the
	// ticket. Default: 8 hours.
	Duration caddy.Duration `json:"duration,omitempty"`

	// After what time without a request a session ends earlier, at least 1 minute. Default: it does
	// not.
	Idle caddy.Duration `json:"idle,omitempty"`

	// The path that ends the session: the cookie is cleared, and this process drops the user's
	// ticket. A cookie that was copied elsewhere stays good until its end. Default: none.
	SignOff string `json:"sign_off,omitempty"`

	// The cookie's name. Blocks of one site that differ need different names. Without the prefix
	// `__Host-` other hosts of the domain can set it, too. Default: `__Host-negotiate`.
	Cookie string `json:"cookie,omitempty"`
}

const (
	defaultDuration = 8 * time.Hour
	maxDuration     = 30 * 24 * time.Hour
	minDuration     = time.Minute
	defaultCookie   = "__Host-negotiate"
)

// ReadCaddyfile reads the subdirective. Syntax:
//
//	session [<duration>] {
//		idle     <duration>
//		sign_off <path>
//		cookie   <name>
//	}
func (s *Settings) ReadCaddyfile(d *caddyfile.Dispenser) error {
	places := config.NewPlaces(d)
	if d.NextArg() {
		duration, err := caddy.ParseDuration(d.Val())
		if err != nil || duration <= 0 {
			return d.Errf("session: %q is not a duration; write e.g. session 8h", d.Val())
		}
		s.Duration = caddy.Duration(duration)
	}
	if d.NextArg() {
		return d.Errf("session takes one duration; got %s besides", d.Val())
	}
	block := config.Block{
		"idle":     config.ReadDuration(&s.Idle),
		"sign_off": config.ReadString(&s.SignOff),
		"cookie":   config.ReadString(&s.Cookie),
	}
	return block.Parse(d, places)
}

// Check checks what the text alone shows. The receiver may be nil.
func (s *Settings) Check() error {
	if s == nil {
		return nil
	}
	return config.Setting("session", cmp.Or(checkDuration("", s.Duration), checkDuration("idle: ", s.Idle), s.checkSignOff(), s.checkCookie()))
}

func checkDuration(name string, d caddy.Duration) error {
	if d != 0 && (time.Duration(d) < minDuration || time.Duration(d) > maxDuration) {
		return fmt.Errorf("%s%s is not a duration from 1m to 30d", name, time.Duration(d))
	}
	return nil
}

func (s *Settings) checkSignOff() error {
	if s.SignOff != "" && (!strings.HasPrefix(s.SignOff, "/") || strings.ContainsAny(s.SignOff, "?#*{%")) {
		return fmt.Errorf("sign_off: %q is not the path of a page; write e.g. sign_off /sign-off", s.SignOff)
	}
	return nil
}

func (s *Settings) checkCookie() error {
	const symbols = "!#$%&'*+-.^_`|~" // beside letters and digits (RFC 9110, Section 5.6.2)
	odd := func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune(symbols, r)
	}
	if strings.ContainsFunc(s.Cookie, odd) || len(s.Cookie) > 100 {
		return fmt.Errorf("cookie: %q is not the name of a cookie; write e.g. cookie __Host-intranet", s.Cookie)
	}
	return nil
}

// CheckListener rejects an address without TLS that others than this machine can reach: the cookie
// would travel in the clear. It is empty if there is none. The receiver may be nil.
func (s *Settings) CheckListener(plain string) error {
	if s == nil || plain == "" {
		return nil
	}
	return config.Setting("session", fmt.Errorf("the server listens on %s without TLS, so browsers do not keep the cookie, and anyone on the way could use it: "+
		"use https, or remove session", plain))
}

func (s *Settings) duration() time.Duration {
	return cmp.Or(time.Duration(s.Duration), defaultDuration)
}

func (s *Settings) cookie() string { return cmp.Or(s.Cookie, defaultCookie) }
