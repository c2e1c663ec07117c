package caddytest

import (
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// ManagedAccount is a group managed service account; Account may read its password.
const ManagedAccount = "svc-web$"

// Managed is an Env with a directory that shows the password of ManagedAccount.
type Managed struct {
	Env
	Managed   *kdctest.Managed
	Directory *kdctest.Directory
	CA        string // path of the CA's certificate
}

// NewManaged starts a KDC, an upstream and a directory.
func NewManaged(e Env) *Managed {
	e.T.Helper()
	m := &Managed{Env: e, Managed: e.Realm.AddManaged(ManagedAccount, Account)}
	ca := NewAuthority(e.T)
	m.CA = e.Write("corp-ca.pem", ca.PEM())
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{
		Keytab: e.KeysOf(e.Realm.AddService("ldap/localhost")), Bindings: kdctest.BindingsRequire,
	})
	if err != nil {
		e.T.Fatal(err)
	}
	m.Directory = kdctest.NewDirectory(kdctest.DirectoryConfig{
		Acceptor: acceptor, Certificate: *ca.Server("localhost"), Find: m.Managed.Find,
	})
	if err := m.Directory.Start(); err != nil {
		e.T.Fatal(err)
	}
	e.T.Cleanup(m.Directory.Stop)
	return m
}

// Server is the directory as the configuration names it.
func (m *Managed) Server() string { return "ldaps://localhost:" + m.Directory.Port() }

// GMSA is the subdirective for the account; lines are those of its block.
func (m *Managed) GMSA(lines ...string) string { return Block("gmsa "+ManagedAccount, lines...) }

// ManagedLogin are the lines of a block that log in as the account, and more.
func (m *Managed) ManagedLogin(more ...string) []string {
	return m.Login(append([]string{m.GMSA("server "+m.Server(), "tls_ca "+m.CA)}, more...)...)
}
