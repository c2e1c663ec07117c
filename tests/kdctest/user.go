package kdctest

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// User is a client that has logged in at a KDC, this package's or another.
type User struct {
	client  *krb5core.Client
	account *krb5core.Account
	tgt     *messages.Credential
}

// Login logs a user in at the KDC with this address. The name has the realm: alice@CORP.EXAMPLE.
func Login(ctx context.Context, addr, name, password string) (*User, error) {
	principal, err := krb5core.ParseUser(name, krb5core.UserForm{})
	if err != nil {
		return nil, err
	}
	server, err := kdc.ParseServer(addr)
	if err != nil {
		return nil, err
	}
	finder := everywhere{server}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder})
	if err != nil {
		return nil, err
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, ETypes: append(enctype.Strong(), enctype.RC4_HMAC)})
	if err != nil {
		return nil, err
	}
	account := krb5core.NewAccount(principal, krb5core.PasswordKeys(func() (string, error) { return password, nil }), nil)
	tgt, err := client.Login(ctx, account, nil)
	if err != nil {
		return nil, err
	}
	return &User{client, account, tgt}, nil
}

// everywhere is the KDC of all realms.
type everywhere struct{ server kdc.Server }

func (e everywhere) KDCs(context.Context, string) ([]kdc.Server, error) {
	return []kdc.Server{e.server}, nil
}

// Ticket gets a ticket for a service, such as HTTP/web.corp.example.
func (u *User) Ticket(ctx context.Context, service string) (*messages.Credential, error) {
	spn, err := messages.ParsePrincipal(service, "")
	if err != nil {
		return nil, err
	}
	spn.Name.NameType = messages.KRB_NT_SRV_HST
	return u.client.ServiceTicket(ctx, u.account, u.tgt, spn)
}

// CCache returns a credential cache with the user's ticket-granting ticket, as kinit writes one.
func (u *User) CCache() ([]byte, error) {
	cache := ccache.CCache{DefaultPrincipal: u.tgt.Client, Credentials: []messages.Credential{*u.tgt}}
	return cache.Marshal()
}

// Authenticator is what a token says beside its ticket; fields that are zero have the usual value.
type Authenticator struct {
	Offset   time.Duration // of the client's clock
	Bindings gss.ChannelBindings
	NoMutual bool
	Bare     bool // without SPNEGO
}

// Token makes a token of a ticket with a new authenticator.
func (a Authenticator) Token(ticket *messages.Credential) ([]byte, error) {
	now := time.Now().Add(a.Offset)
	sum := gss.Checksum{Bindings: a.Bindings, Flags: gss.GSS_C_MUTUAL_FLAG}
	options := messages.AP_OPTS_MUTUAL_REQUIRED
	if a.NoMutual {
		sum.Flags, options = 0, 0
	}
	subkey, err := enctype.GenerateKey(ticket.Key.EType(), rand.Reader)
	if err != nil {
		return nil, err
	}
	plain := messages.Authenticator{
		CRealm: ticket.Client.Realm, CName: ticket.Client.Name, CTime: now.Truncate(time.Second), CUSec: int32(now.Nanosecond() / 1000),
		Subkey: subkey, Cksum: &messages.Checksum{Type: gss.CKSUMTYPE_GSS, Value: sum.Append(nil)},
	}
	sealed, err := ticket.Key.Encrypt(rand.Reader, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, plain.Marshal())
	if err != nil {
		return nil, err
	}
	req := messages.APReq{
		APOptions: options, Ticket: messages.Ticket{Raw: ticket.Ticket},
		Authenticator: messages.EncryptedData{EType: ticket.Key.EType(), Cipher: sealed},
	}
	framed := gss.AppendToken(nil, gss.TOK_AP_REQ, req.Marshal())
	if a.Bare {
		return framed, nil
	}
	return append(spnego.AppendInitPrefix(nil, len(framed)), framed...), nil
}
