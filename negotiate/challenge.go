package negotiate

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// The limits within which an upstream's challenges are read. A token that is
// bigger than any acceptor's answer, or a list longer than any server's, is not
// worth the work.
const (
	maxChallengeBytes = 128 << 10 // of all fields together
	maxTokenBytes     = 64 << 10  // of one token, in base64
	maxChallenges     = 32
)

// Errors of a Negotiate challenge whose token cannot be read.
var (
	ErrTokenTooLong   = errors.New("upstream's Negotiate token is longer than 64 KiB")
	ErrTokenMalformed = errors.New("upstream's Negotiate token is not base64")
)

// Challenges is what the WWW-Authenticate fields of a response say.
type Challenges struct {
	// Negotiate tells that the scheme was named, with or without a token.
	Negotiate bool
	// Token is the token that came with it, decoded; empty if there was none
	// or Err says why it cannot be read.
	Token []byte
	Err   error
	// Schemes are all that were named, as they were written and in order.
	Schemes []string
	// Persistent tells that the upstream binds authentication to the
	// connection: Persistent-Auth: true ([MS-N2HT] 2.2.2).
	Persistent bool
}

// ReadChallenges reads all WWW-Authenticate fields of a response, one challenge
// or comma lists of them, schemes in any case (RFC 9110 11.3 to 11.6.1), and
// finds the Negotiate challenge (RFC 4559 4.1). What is malformed is skipped up
// to the next comma. Of several Negotiate challenges the first with a token
// counts.
func ReadChallenges(h http.Header) Challenges {
	var c Challenges
	budget := maxChallengeBytes
	for _, v := range h[wwwAuthenticate] {
		if budget -= len(v); budget < 0 {
			return c
		}
		c.read(v)
	}
	for _, v := range h[persistentAuth] {
		c.Persistent = c.Persistent || strings.EqualFold(strings.TrimSpace(v), "true")
	}
	return c
}

// read reads one field value:
//
//	WWW-Authenticate = [ challenge *( OWS "," OWS challenge ) ]
//	challenge        = auth-scheme [ 1*SP ( token68 / [ auth-param *( OWS "," OWS auth-param ) ] ) ]
//	auth-param       = token BWS "=" BWS ( token / quoted-string )
//
// The comma separates challenges and parameters alike. An element that begins
// with a token and an equals sign is a parameter of the challenge before it,
// any other begins a challenge.
func (c *Challenges) read(v string) {
	for v != "" && len(c.Schemes) < maxChallenges {
		var element string
		element, v = cutElement(v)
		scheme, rest := cutToken(element)
		if scheme == "" || strings.HasPrefix(strings.TrimLeft(rest, " \t"), "=") {
			continue
		}
		if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
			continue // no token: garbage
		}
		c.Schemes = append(c.Schemes, scheme)
		if strings.EqualFold(scheme, "negotiate") {
			c.negotiate(strings.Trim(rest, " \t"))
		}
	}
}

// negotiate takes the token of a Negotiate challenge, in base64 (RFC 4559 4.1).
func (c *Challenges) negotiate(token string) {
	c.Negotiate = true
	switch {
	case token == "" || len(c.Token) > 0:
		return
	case len(token) > maxTokenBytes:
		c.Err = ErrTokenTooLong
		return
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(token, "="))
	if err != nil || len(b) == 0 {
		c.Err = ErrTokenMalformed
		return
	}
	c.Token, c.Err = b, nil
}

// cutElement cuts the first element off a comma list. A comma within a quoted
// string separates nothing; one that is never closed reaches to the end.
func cutElement(v string) (element, rest string) {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch ch := v[i]; {
		case quoted && ch == '\\':
			i++
		case ch == '"':
			quoted = !quoted
		case ch == ',' && !quoted:
			return strings.Trim(v[:i], " \t"), v[i+1:]
		}
	}
	return strings.Trim(v, " \t"), ""
}

// cutToken cuts off the token (RFC 9110 5.6.2) that s begins with.
func cutToken(s string) (token, rest string) {
	for i := range len(s) {
		if !isTokenChar(s[i]) {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func isTokenChar(ch byte) bool {
	switch {
	case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", ch) >= 0
}

// The fields by which a server authenticates, or asks to.
const (
	wwwAuthenticate    = "Www-Authenticate"
	authenticationInfo = "Authentication-Info"
	persistentAuth     = "Persistent-Auth"
)

// challengeFields are those that no client of ours may see, as they stand in a
// header, and in one that is to end up as a trailer without being announced.
var challengeFields = []string{
	wwwAuthenticate, authenticationInfo, persistentAuth,
	http.TrailerPrefix + wwwAuthenticate, http.TrailerPrefix + authenticationInfo, http.TrailerPrefix + persistentAuth,
}

func isChallengeField(name string) bool {
	return slices.ContainsFunc(challengeFields[:3], func(f string) bool { return strings.EqualFold(f, name) })
}

// DropChallenges takes every WWW-Authenticate, Authentication-Info and
// Persistent-Auth out of a response's header (or trailer), whatever their
// scheme: a browser that saw one would begin an authentication of its own, with
// the proxy's name, and its answer would not be let through. It takes them out of
// the announcement of the trailer, and of trailers that were not announced, too.
// Names are canonical, as net/http makes them of whatever an upstream sends.
func DropChallenges(h http.Header) {
	for _, name := range challengeFields {
		delete(h, name)
	}
	dropTokens(h, "Trailer", isChallengeField)
}
