package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

//go:embed sign-in.caddyfile
var signInCaddyfile []byte

// signInHost is the name by which browsers know Caddy, and so by which they get their tickets.
const signInHost = "localhost"

// mayDelegate are the options of the proxy's account: it may impersonate users to the web server. It has
// no protocol transition: a user has to sign in first.
func mayDelegate() []kdctest.Option {
	return []kdctest.Option{kdctest.SPN("HTTP/" + signInHost), kdctest.DelegateTo(service)}
}

// user is one who signs in.
type user struct {
	name string
	*kdctest.User
}

// addUsers logs alice and bob in, and writes what a browser or curl needs of them.
func (s *site) addUsers(ctx context.Context, realm *kdctest.Realm) error {
	files := map[string][]byte{s.krb5Conf(): []byte(s.kdc.Krb5Conf())}
	for _, name := range []string{"alice", "bob"} {
		realm.AddUser(name, name)
		u, err := kdctest.Login(ctx, s.kdc.Addr(), name+"@"+realmName, name)
		if err != nil {
			return err
		}
		s.users = append(s.users, user{name, u})
		if files[s.ccache(name)], err = u.CCache(); err != nil {
			return err
		}
		if err := os.Mkdir(s.profile(name), 0o700); err != nil {
			return err
		}
		files[filepath.Join(s.profile(name), "Local State")] = []byte(localState)
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// localState has Chromium load the Kerberos library. It does not in a new profile on Linux: there the first page that
// needs a ticket fails.
const localState = `{"net":{"received_http_auth_negotiate_headers":true}}`

func (s *site) krb5Conf() string { return filepath.Join(s.folder, "krb5.conf") }

func (s *site) ccache(user string) string { return filepath.Join(s.folder, user+".ccache") }

// profile is the folder of a user's browser.
func (s *site) profile(user string) string { return filepath.Join(s.folder, user) }

// token makes a value of Authorization that signs the user in.
func (u user) token(ctx context.Context) (string, error) {
	ticket, err := u.Ticket(ctx, "HTTP/"+signInHost)
	if err != nil {
		return "", err
	}
	token, err := kdctest.Authenticator{}.Token(ticket)
	return "Negotiate " + base64.StdEncoding.EncodeToString(token), err
}

func (s *site) signInInstructions() string {
	var text strings.Builder
	fmt.Fprintf(&text, `Caddy with examples/demo/sign-in.caddyfile is at %[1]s: it signs users in by their
tickets, and the web server sees each of them. Without a ticket:

  curl -i %[1]s       401
`, s.caddy)
	for _, u := range s.users {
		ticket := fmt.Sprintf("KRB5_CONFIG=%s KRB5CCNAME=FILE:%s", s.krb5Conf(), s.ccache(u.name))
		fmt.Fprintf(&text, `
As %[1]s:

  %[2]s curl --negotiate -u : %[3]s
  %[2]s chromium --no-first-run --user-data-dir=%[4]s --auth-server-allowlist=%[5]s %[3]s
`, u.name, ticket, s.caddy, s.profile(u.name), signInHost)
	}
	text.WriteString(`
Chrome takes the same flags. Firefox has the setting network.negotiate-auth.trusted-uris in about:config
(http://` + signInHost + `), and --profile FOLDER. They need MIT's or Heimdal's Kerberos library, which Linux desktops
have, and read the tickets in ` + s.folder + `, which snaps and flatpaks cannot.
`)
	return text.String()
}
