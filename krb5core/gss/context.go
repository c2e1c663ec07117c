package gss

import (
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ErrNotAuthenticated is wrapped by the error for an acceptor's token that does not prove that the acceptor knows the session key
// and answers this very token of ours.
var ErrNotAuthenticated = errors.New("acceptor has not authenticated itself")

// Context is what is kept of a token that was sent, to judge the acceptor's answer. It is a small value.
type Context struct {
	template *Template
	stamp    Stamp
}

// Stamp is the time in the token's authenticator.
func (c Context) Stamp() Stamp { return c.stamp }

// VerifyToken judges an acceptor's context token, framed or not. It returns nil if the token is an AP-REP that
// authenticates the acceptor, the *messages.KRBError if it is a KRB-ERROR (which anybody can write), and else an
// error that wraps ErrNotAuthenticated.
func (c Context) VerifyToken(b []byte) error {
	token, err := ParseToken(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAuthenticated, err)
	}
	switch token.ID {
	case TOK_AP_REP:
		return c.VerifyAPRep(token.Body)
	case TOK_KRB_ERROR:
		krbError, err := messages.ParseKRBError(token.Body)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotAuthenticated, err)
		}
		return krbError
	default:
		return fmt.Errorf("%w: it sent token ID %04x", ErrNotAuthenticated, uint16(token.ID))
	}
}

// VerifyAPRep verifies an AP-REP, without frame: it must be encrypted in the ticket's session key, and repeat the time of our
// authenticator (RFC 4120 3.2.5). Its errors wrap ErrNotAuthenticated.
func (c Context) VerifyAPRep(b []byte) error {
	if c.template == nil {
		return fmt.Errorf("%w: no token was sent", ErrNotAuthenticated)
	}
	rep, err := messages.ParseAPRep(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAuthenticated, err)
	}
	if want := c.template.key.EType(); rep.EncPart.EType != want {
		return fmt.Errorf("%w: AP-REP is encrypted with %s, not the session key's %s", ErrNotAuthenticated, rep.EncPart.EType, want)
	}
	opener, err := c.template.apRepOpener()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAuthenticated, err)
	}
	plain, err := opener.Open(nil, rep.EncPart.Cipher)
	if err != nil {
		return fmt.Errorf("%w: AP-REP: %w", ErrNotAuthenticated, err)
	}
	part, err := messages.ParseEncAPRepPart(plain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAuthenticated, err)
	}
	if part.CTime.Unix() != c.stamp.Second || part.CUSec != c.stamp.Cusec {
		return fmt.Errorf("%w: AP-REP answers an authenticator of %s and %d us, not of %s and %d us",
			ErrNotAuthenticated, part.CTime, part.CUSec, c.stamp.CTime(), c.stamp.Cusec)
	}
	return nil
}

// apRepOpener is the key for AP-REPs, derived for the first of them.
func (t *Template) apRepOpener() (*enctype.Sealer, error) {
	if opener := t.opener.Load(); opener != nil {
		return opener, nil
	}
	opener, err := t.key.Sealer(enctype.KEY_USAGE_AP_REP)
	if err == nil {
		t.opener.Store(opener)
	}
	return opener, err
}
