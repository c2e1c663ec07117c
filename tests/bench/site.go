package bench

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// The names in the realm of the benchmarks.
const (
	realmName = "CORP.EXAMPLE"
	proxyName = "svc-proxy"
	webName   = "HTTP/web.corp.example"
	// proxyPassword is the password of the proxy's account.
	proxyPassword = "correct horse battery staple"
)

// site is a realm with a KDC in this process, an account to log in with and a
// service to get tickets for.
type site struct {
	folder string
	realm  *kdctest.Realm
	kdc    *kdctest.KDC
	proxy  *kdctest.Principal
	web    *kdctest.Principal
	keytab string // path of the proxy's keytab
}

// newSite starts a site with its files in folder. The options are those of the proxy's
// account.
func newSite(folder string, opts ...kdctest.Option) (*site, error) {
	s := &site{folder: folder, realm: kdctest.NewRealm(realmName), keytab: filepath.Join(folder, "proxy.keytab")}
	s.proxy = s.realm.AddUser(proxyName, proxyPassword, opts...)
	s.web = s.realm.AddService(webName)
	s.realm.MapDomain(".corp.example", realmName)
	keys, err := s.realm.Keytab(s.proxy)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.keytab, keys, 0o600); err != nil {
		return nil, err
	}
	s.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{s.realm}})
	if err := s.kdc.Start(); err != nil {
		return nil, err
	}
	return s, nil
}

// stop ends the KDC.
func (s *site) stop() { s.kdc.Stop() }

// acceptor returns an acceptor for the service.
func (s *site) acceptor(cfg kdctest.AcceptorConfig) (*kdctest.Acceptor, error) {
	var err error
	if cfg.Keytab, err = s.realm.Keytab(s.web); err != nil {
		return nil, err
	}
	return kdctest.NewAcceptor(cfg)
}

// webKeytab writes the service's keytab and returns its path.
func (s *site) webKeytab() (string, error) {
	keys, err := s.realm.Keytab(s.web)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.folder, "web.keytab")
	return path, os.WriteFile(path, keys, 0o600)
}

// addServices adds n services to the realm and returns their names.
func (s *site) addServices(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("HTTP/web%d.corp.example", i)
		s.realm.AddService(names[i])
	}
	return names
}

// exchanges returns the number of KDC requests since the last reset.
func (s *site) exchanges() int {
	c := s.kdc.Counts()
	return c.ASReq + c.TGSReq
}
