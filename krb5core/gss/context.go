package gss

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ErrNotAuthenticated is wrapped by the error for an acceptor's token that does not prove that the
// acceptor knows the session key and answers this token.
var ErrNotAuthenticated = errors.New("acceptor has not authenticated itself")

// Context is what is kept of a sent token to verify the acceptor's reply. It is a small value.
type Context struct {
	key   *replyKey // nil if no token was sent
	stamp Stamp
}

// Stamp is the time in the token's authenticator.
func (c Context) Stamp() Stamp { return c.stamp }

// VerifyToken verifies an acceptor's context token, framed or not. It returns nil if the token is
// an AP-REP that authenticates the acceptor, the *messages.KRBError if it is a KRB-ERROR (which is
// not authenticated), and else an error that wraps ErrNotAuthenticated.
func (c Context) VerifyToken(b []byte) error {
	krbError, err := c.verify(b)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotAuthenticated, err)
	case krbError != nil:
		return krbError
	}
	return nil
}

func (c Context) verify(b []byte) (*messages.KRBError, error) {
	token, err := ParseToken(b)
	if err != nil {
		return nil, err
	}
	switch token.ID {
	case TOK_AP_REP:
		return nil, c.verifyAPRep(token.Body)
	case TOK_KRB_ERROR:
		return messages.ParseKRBError(token.Body)
	default:
		return nil, fmt.Errorf("it sent token ID %04x", uint16(token.ID))
	}
}

// verifyAPRep verifies an AP-REP: it must be encrypted with the ticket's session key and repeat the
// time of the authenticator (RFC 4120, Section 3.2.5).
func (c Context) verifyAPRep(b []byte) error {
	if c.key == nil {
		return errors.New("no token was sent")
	}
	rep, err := messages.ParseAPRep(b)
	if err != nil {
		return err
	}
	if want := c.key.key.EType(); rep.EncPart.EType != want {
		return fmt.Errorf("AP-REP is encrypted with %s, not the session key's %s", rep.EncPart.EType, want)
	}
	sealer, err := c.key.apRepSealer()
	if err != nil {
		return err
	}
	plain, err := sealer.Open(nil, rep.EncPart.Cipher)
	if err != nil {
		return fmt.Errorf("AP-REP: %w", err)
	}
	part, err := messages.ParseEncAPRepPart(plain)
	if err != nil {
		return err
	}
	if part.CTime.Unix() != c.stamp.Second || part.CUSec != c.stamp.Cusec {
		return fmt.Errorf("AP-REP answers an authenticator of %s and %d us, not of %s and %d us",
			part.CTime, part.CUSec, c.stamp.CTime(), c.stamp.Cusec)
	}
	return nil
}

// replyKey is a session key, and the key derived from it for AP-REPs, when the first arrives.
type replyKey struct {
	key   enctype.Key
	apRep atomic.Pointer[enctype.Sealer]
}

func (k *replyKey) apRepSealer() (*enctype.Sealer, error) {
	if sealer := k.apRep.Load(); sealer != nil {
		return sealer, nil
	}
	sealer, err := k.key.Sealer(enctype.KEY_USAGE_AP_REP)
	if err == nil {
		k.apRep.Store(sealer)
	}
	return sealer, err
}
