package gmsa

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultPort is that of LDAP over TLS.
const DefaultPort = 636

// Server is a domain controller.
type Server struct {
	Host string // a DNS name: its certificate and its service principal have it
	Port int
}

// String is host:port.
func (s Server) String() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Dialer makes connections; *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Directory is where passwords are read. It does not change, and is safe for concurrent use.
type Directory struct {
	// Servers returns the domain controllers of the account's domain, in order of preference.
	Servers func(context.Context) ([]Server, error)
	// Dialer connects to them.
	Dialer Dialer
	// RootCAs may sign their certificates; nil is the system's.
	RootCAs *x509.CertPool
}

// Login returns a token for the service ldap/HOST (RFC 4121 in SPNEGO): with mutual authentication,
// without confidentiality and integrity, bound to a TLS connection on which the server has shown the
// certificate. verify reports whether the server's token proves that it is that service. renew says
// that the server has refused a token: it is to be made from a new ticket.
type Login func(ctx context.Context, host string, certificate *x509.Certificate, renew bool) (token []byte, verify func(reply []byte) error, err error)

// Reading is what was read of an account.
type Reading struct {
	Password *Password
	// Set is when the password was set, by the domain controller's clock; zero if it does not say.
	Set time.Time
	// Server is the domain controller, TLS the connection to it.
	Server Server
	TLS    tls.ConnectionState
}

const (
	// maxServers bounds how many domain controllers are asked.
	maxServers = 4
	// serverTimeout bounds how long one of them is asked, so that there is time for the next.
	serverTimeout = 4 * time.Second
)

// Read reads the password of an account, such as svc-web$ in CORP.EXAMPLE, at the first domain
// controller that shows it. The realm is the domain's DNS name in capitals. The error is an *Error: of
// several domain controllers that of the one with which it came furthest.
func (d *Directory) Read(ctx context.Context, account, realm string, login Login) (*Reading, error) {
	servers, err := d.Servers(ctx)
	if err == nil && len(servers) == 0 {
		err = errors.New("none is known")
	}
	if err != nil {
		return nil, &Error{Stage: StageFind, Err: err}
	}
	var failed []*Error
	for _, s := range servers[:min(len(servers), maxServers)] {
		r, err := d.readAt(ctx, s, account, realm, login)
		if err == nil {
			return r, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, furthest(failed)
}

// furthest returns the error of the latest stage, which names the others.
func furthest(failed []*Error) *Error {
	best := slices.MaxFunc(failed, func(a, b *Error) int {
		return cmp.Compare(slices.Index(stages, a.Stage), slices.Index(stages, b.Stage))
	})
	var others []string
	for _, e := range failed {
		if e != best {
			others = append(others, e.Error())
		}
	}
	if len(others) == 0 {
		return best
	}
	return &Error{Stage: best.Stage, Server: best.Server, Err: fmt.Errorf("%w; %s", best.Err, strings.Join(others, "; "))}
}

// readAt reads the password at one domain controller.
func (d *Directory) readAt(ctx context.Context, s Server, account, realm string, login Login) (*Reading, *Error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	fail := func(stage Stage, err error) *Error {
		if known, ok := errors.AsType[*Error](err); ok {
			stage, err = known.Stage, known.Err
		}
		return &Error{Stage: stage, Server: s.String(), Err: err}
	}
	c, err := d.connect(ctx, s)
	if err != nil {
		return nil, fail(StageConnect, err)
	}
	defer c.close()
	if err := c.login(ctx, s.Host, login); err != nil {
		return nil, fail(StageBind, err)
	}
	found, err := c.search(baseOf(realm), account)
	if err != nil {
		return nil, fail(StageSearch, err)
	}
	r, err := found.reading(time.Now())
	if err != nil {
		return nil, fail(StagePassword, err)
	}
	r.Server, r.TLS = s, c.tls.ConnectionState()
	return r, nil
}

// login binds, and makes sure of who the server is. A ticket that it refuses may be older than its
// key: another is tried once.
func (c *connection) login(ctx context.Context, host string, login Login) error {
	certificate := c.tls.ConnectionState().PeerCertificates[0]
	for renew := false; ; renew = true {
		token, verify, err := login(ctx, host, certificate, renew)
		if err != nil {
			return &Error{Stage: StageLogin, Err: err}
		}
		reply, err := c.bind(token)
		if err == nil {
			return verify(reply)
		}
		if e, ok := errors.AsType[*ResultError](err); !ok || e.Code != resultInvalidCredentials || renew {
			return err
		}
	}
}

// baseOf is the distinguished name of a realm's domain.
func baseOf(realm string) string {
	return "DC=" + strings.ReplaceAll(strings.ToLower(realm), ".", ",DC=")
}

// reading returns what an entry, which may be nil, says of the password.
func (e *entry) reading(now time.Time) (*Reading, error) {
	if e == nil {
		return nil, &Error{Stage: StageAccount, Err: errNoAccount}
	}
	values := e.values(attrPassword)
	managed := slices.ContainsFunc(e.values(attrClass), func(v []byte) bool { return strings.EqualFold(string(v), classManaged) })
	switch {
	case len(values) == 0 && !managed:
		return nil, &Error{Stage: StageAccount, Err: errNotManaged}
	case len(values) == 0:
		return nil, &Error{Stage: StagePermission, Err: errNotAllowed}
	}
	p, err := ParsePassword(values[0])
	if err != nil {
		return nil, err
	}
	r := &Reading{Password: p}
	if set := e.values(attrSet); len(set) == 1 {
		r.Set = fileTime(string(set[0]), now)
	}
	return r, nil
}

// fileTime reads a count of 100 nanoseconds since 1601 ([MS-DTYP] 2.3.3), at most now, and zero if it is
// none.
func fileTime(text string, now time.Time) time.Time {
	const to1970 = 11_644_473_600 // seconds
	ticks, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ticks <= 0 {
		return time.Time{}
	}
	t := time.Unix(ticks/1e7-to1970, ticks%1e7*100)
	if t.After(now) {
		return now
	}
	return t
}
