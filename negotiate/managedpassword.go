package negotiate

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// ManagedSecret logs in with the password of a group managed service account, which the
// Passwords of the Settings read from Active Directory.
func ManagedSecret() Secret { return Secret{Kind: KindGMSA} }

// PasswordReader reads passwords of group managed service accounts.
type PasswordReader struct {
	Reader    *Initiator // the account that may read them
	Directory *gmsa.Directory
}

// Read reads the password of an account. The error is a *PasswordError.
func (p *PasswordReader) Read(ctx context.Context, account messages.Principal) (*gmsa.Reading, error) {
	r, err := p.Directory.Read(ctx, account.Name.String(), account.Realm,
		func(ctx context.Context, host string, certificate *x509.Certificate, renew bool) ([]byte, func([]byte) error, error) {
			service := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "ldap", strings.ToLower(host)), Realm: account.Realm}
			return p.Reader.saslToken(ctx, &Target{SPN: newSPN(service)}, certificate, renew)
		})
	if err != nil {
		return nil, &PasswordError{Account: account, Reader: p.Reader.id.Principal(), Err: err}
	}
	return r, nil
}

// saslToken returns a token for a server that has shown the certificate, and what verifies its reply.
// TLS protects the connection, so that the token asks for mutual authentication and nothing else
// ([MS-ADTS] 5.1.1.1). With renew it is made from another ticket than the one that is held.
func (i *Initiator) saslToken(ctx context.Context, t *Target, certificate *x509.Certificate, renew bool) (token []byte, verify func([]byte) error, err error) {
	binding, err := httpauth.CertificateBinding(certificate)
	if err != nil {
		return nil, nil, err
	}
	ticket, _, err := i.serviceTicket(ctx, t)
	if err == nil && renew {
		ticket, _, err = i.successor(ctx, t, ticket)
	}
	if err != nil {
		return nil, nil, err
	}
	template, err := gss.NewTemplate(ticket.cred, gss.TemplateConfig{
		Flags: gss.GSS_C_MUTUAL_FLAG, Bindings: true, Clock: ticket.stamps, Framing: spnego.AppendInitPrefix,
	})
	if err != nil {
		return nil, nil, err
	}
	header, sent, err := template.Header(ctx, &binding.Hashed)
	if err != nil {
		return nil, nil, err
	}
	token, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Negotiate "))
	return token, func(reply []byte) error {
		resp, err := spnego.ParseReply(reply)
		if err != nil {
			return fmt.Errorf("%w: %w", gss.ErrNotAuthenticated, err)
		}
		return sent.VerifyToken(resp.ResponseToken)
	}, err
}

// PasswordError means that the password of a group managed service account cannot be read. It does
// not wrap its cause: a KDC that refuses the reader does not refuse the account.
type PasswordError struct {
	Account, Reader messages.Principal
	Err             error // a *gmsa.Error
}

func (e *PasswordError) Error() string {
	return fmt.Sprintf("%s cannot read the password of %s: %v", e.Reader, e.Account, e.Err)
}

// Stage is how far the reading came.
func (e *PasswordError) Stage() gmsa.Stage {
	if known, ok := errors.AsType[*gmsa.Error](e.Err); ok {
		return known.Stage
	}
	return ""
}

// managedPassword is where tickets come from by the password of a group managed service account.
type managedPassword struct {
	name messages.Principal
	as   *gmsa.Account
}

func newManagedPassword(cfg *IdentityConfig, clock *krb5core.Clock, reset func()) *managedPassword {
	return &managedPassword{cfg.Principal, gmsa.NewAccount(gmsa.AccountConfig{
		Principal: cfg.Principal, Clock: clock, Now: cfg.Now, Timeout: krb5core.DefaultTimeout, Refused: KeyRefused,
		OnRead: func(r *gmsa.Reading, changed bool) {
			cfg.Observe(PasswordRead{Principal: cfg.Principal, Server: r.Server.String(), Changed: changed})
			if changed {
				reset()
			}
		},
		OnUnread: func(err error) { cfg.Observe(PasswordUnread{Principal: cfg.Principal, Err: err}) },
		OnStale:  func(err error) { cfg.Observe(SecretStale{Err: &LoginError{Kind: KindGMSA, Err: err}}) },
	})}
}

// reading reads the password with the settings of a block.
func (m *managedPassword) reading(s *Settings) gmsa.Read {
	return func(ctx context.Context) (*gmsa.Reading, error) { return s.Passwords.Read(ctx, m.name) }
}

func (m *managedPassword) tgt(ctx context.Context, s *Settings, budget *exchange.Budget) (*messages.Credential, error) {
	cred, err := m.as.Login(ctx, s.Client, m.reading(s), budget)
	if _, unread := errors.AsType[*PasswordError](err); err != nil && !unread {
		return nil, &LoginError{Kind: KindGMSA, Err: err}
	}
	return cred, err
}

func (m *managedPassword) reload(context.Context) (changed bool, err error) { return false, nil } // there is no file
func (m *managedPassword) principal() messages.Principal                    { return m.name }
func (m *managedPassword) owner() string                                    { return "" }
func (m *managedPassword) account() *krb5core.Account                       { return m.as.Current() }

func (m *managedPassword) keyAccounts() []*krb5core.Account         { return m.as.Accounts() }
func (m *managedPassword) times() (changed, due time.Time)          { return m.as.Times() }
func (m *managedPassword) held(*Settings, SPN) *messages.Credential { return nil }
func (m *managedPassword) forget()                                  { m.as.Forget() }

// ReadPassword reads the password of a group managed service account if none is held; with again also if
// one is, at most once a minute: a ticket for the account that no key opens may be encrypted with a
// password that was made a moment ago. For other secrets it does nothing. The error is a *PasswordError.
func (i *Initiator) ReadPassword(ctx context.Context, again bool) error {
	if m, ok := i.id.source.(*managedPassword); ok {
		return m.as.Read(ctx, m.reading(i.settings), again)
	}
	return nil
}
