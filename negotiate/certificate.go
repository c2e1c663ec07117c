package negotiate

import (
	"context"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/certfile"
)

// ErrNoCertificate is wrapped by the errors of a certificate that is not there yet.
var ErrNoCertificate = certfile.ErrNone

// CertificateSecret logs in with the certificate of the files. They are read again when one of them
// changes.
func CertificateSecret(files certfile.Files) Secret {
	paths := files.Paths()
	return Secret{Kind: KindCertificate, Path: paths[0], more: paths[1:], certificate: files.Read}
}

// ManagedCertificateSecret logs in with a certificate that something else obtains and renews. It is
// looked up at each login, and need not be there before. The error of lookup wraps
// ErrNoCertificate.
func ManagedCertificateSecret(name string, lookup func() (*pkinit.Identity, error)) Secret {
	return Secret{Kind: KindCertificate, Path: name, certificate: lookup, managed: true}
}

// managedCertificate is where tickets come from by a certificate that is looked up at each login.
type managedCertificate struct {
	lookup func() (*pkinit.Identity, error)
	as     *krb5core.Account

	mu   sync.Mutex
	last *pkinit.Identity // nil if there was none yet
}

func newManagedCertificate(cfg *IdentityConfig, clock *krb5core.Clock) *managedCertificate {
	return &managedCertificate{
		lookup: cfg.Secret.certificate,
		as:     krb5core.NewCertificateAccount(cfg.Principal, cfg.Secret.certificate, clock),
	}
}

// reload reports whether the certificate has been renewed. One that is missing is the login's
// error.
func (m *managedCertificate) reload(context.Context) (changed bool, err error) {
	id, err := m.lookup()
	if err != nil {
		return false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = m.last != nil && !id.Equal(m.last)
	m.last = id
	return changed, nil
}

func (m *managedCertificate) owner() string                 { return "" }
func (m *managedCertificate) principal() messages.Principal { return m.as.Principal() }
func (m *managedCertificate) account() *krb5core.Account    { return m.as }

func (m *managedCertificate) tgt(ctx context.Context, s *Settings, budget *exchange.Budget) (*messages.Credential, error) {
	cred, err := s.Client.Login(ctx, m.as, budget)
	if err != nil {
		return nil, &LoginError{Kind: KindCertificate, Err: err}
	}
	return cred, nil
}

func (m *managedCertificate) held(*Settings, SPN) *messages.Credential { return nil }
func (m *managedCertificate) forget()                                  { m.as.Forget() }
