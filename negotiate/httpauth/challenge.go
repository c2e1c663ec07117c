package httpauth

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Limits for reading an upstream's challenges. No acceptor's token and no server's
// list of challenges comes near them.
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

// Challenges are the parsed WWW-Authenticate fields of a response.
type Challenges struct {
	// Negotiate is set if the scheme is listed, with or without a token.
	Negotiate bool
	// Token is the decoded token of the Negotiate challenge. It is empty if there
	// is none, or if it cannot be read for the reason in Err.
	Token []byte
	Err   error
	// Schemes are all schemes in the order and the spelling of the response.
	Schemes []string
}

// ReadChallenges reads all WWW-Authenticate fields of a response (RFC 9110, Sections
// 11.3 to 11.6.1): each is one challenge or a comma-separated list of challenges, with
// schemes in any case. It finds the Negotiate challenge (RFC 4559, Section 4.1).
// Malformed text is skipped up to the next comma. Of several Negotiate challenges the
// first with a token counts.
func ReadChallenges(h http.Header) Challenges {
	var c Challenges
	budget := maxChallengeBytes
	for _, v := range h[wwwAuthenticate] {
		if budget -= len(v); budget < 0 {
			return c
		}
		c.read(v)
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

// negotiate decodes the base64 token of a Negotiate challenge (RFC 4559, Section 4.1).
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

// cutElement cuts the first element off a comma-separated list. A comma in a quoted
// string is not a separator; a string without a closing quote extends to the end.
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

// cutToken cuts off the token (RFC 9110, Section 5.6.2) that s begins with.
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

// The response fields of HTTP authentication.
const (
	wwwAuthenticate    = "Www-Authenticate"
	authenticationInfo = "Authentication-Info"
	persistentAuth     = "Persistent-Auth"
)

// challengeFields are the response fields that the client must not see: as they are in
// a header, and in one that net/http sends as an unannounced trailer.
var challengeFields = []string{
	wwwAuthenticate, authenticationInfo, persistentAuth,
	http.TrailerPrefix + wwwAuthenticate, http.TrailerPrefix + authenticationInfo, http.TrailerPrefix + persistentAuth,
}

func isChallengeField(name string) bool {
	return slices.ContainsFunc(challengeFields[:3], func(f string) bool { return strings.EqualFold(f, name) })
}

// DropChallenges removes WWW-Authenticate, Authentication-Info and Persistent-Auth,
// whatever their scheme, from a response's header or trailer, from the announcement of
// its trailer, and from unannounced trailers. A browser that saw a challenge would
// authenticate to the proxy's name, and its Authorization would be dropped. Field
// names are canonical, as net/http makes them.
func DropChallenges(h http.Header) {
	for _, name := range challengeFields {
		delete(h, name)
	}
	dropTokens(h, "Trailer", isChallengeField)
}
