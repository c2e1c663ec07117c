package negotiate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// Ticket is a ticket as the cache holds it, with the templates that all its tokens are
// minted from.
type Ticket struct {
	cred     *messages.Credential
	own      messages.Credential // what cred points to: one heap object instead of two
	stamps   *gss.Clock
	acceptor *acceptorClock // of its service; nil for none
	obtained time.Time      // by the local clock
	offset   time.Duration  // by which the realm's clock is ahead of the local one
	client   string         // as text

	platform *platformTicket // makes the tokens, if the operating system has the ticket; else nil

	templates [1 << formBits]atomic.Pointer[gss.Template]
	grown     atomic.Int64 // size of the templates, in bytes

	mu        sync.Mutex
	delegated map[form]delegation
}

// form selects one of the templates of a ticket.
type form uint8

const (
	formMutual form = 1 << iota
	formBindings
	formRaw
	formBits = 3
)

type delegation struct {
	tgt      *messages.Credential
	template *gss.Template
}

// knownClient is a client principal and its text, shared by its tickets.
type knownClient struct {
	principal messages.Principal
	text      string
}

func newTicket(cred *messages.Credential, client *knownClient, stamps *gss.Clock, obtained time.Time, offset time.Duration) *Ticket {
	t := &Ticket{own: *cred, stamps: stamps, obtained: obtained, offset: offset}
	t.cred = &t.own
	t.cred.Client, t.client = client.principal, client.text
	t.cred.Service.Realm = unique.Make(t.cred.Service.Realm).Value()
	// Other goroutines may read the credential of a ccache: its slices are not modified.
	if name := slices.Clone(t.cred.Service.Name.NameString); len(name) > 0 {
		name[0] = unique.Make(name[0]).Value() // usually HTTP
		t.cred.Service.Name.NameString = name
	}
	return t
}

// ticketWeight is about the size of a ticket beside its own bytes and its templates.
// TestTicket_Size measures it.
const ticketWeight = 700

// Size is everything kept for the ticket, in bytes.
func (t *Ticket) Size() int64 {
	return ticketWeight + int64(len(t.cred.Ticket)) + t.grown.Load()
}

// Start is when the ticket was obtained, by the local clock.
func (t *Ticket) Start() time.Time { return t.obtained }

// End is when the ticket ends, by the local clock.
func (t *Ticket) End() time.Time { return t.cred.EndTime.Add(-t.offset) }

// Client is the client that the upstream sees, as text. It keeps apart connections that
// an upstream may authenticate as a whole.
func (t *Ticket) Client() string { return t.client }

// Credential is the ticket and the KDC's information about it. Callers do not modify it.
func (t *Ticket) Credential() *messages.Credential { return t.cred }
func (t *Ticket) String() string                   { return t.cred.String() }

// Platform reports whether the ticket is the operating system's. Its credential has neither a
// key nor a ticket, only what is told of them.
func (t *Ticket) Platform() bool { return t.platform != nil }

// EType is the encryption type of the session key; 0 if it is not known.
func (t *Ticket) EType() enctype.ID {
	if t.platform != nil {
		return t.platform.etype
	}
	return t.cred.Key.EType()
}

// ServiceKey is the encryption type, and the version, of the service's key that the ticket is
// encrypted with; 0 for what is not known.
func (t *Ticket) ServiceKey() (etype enctype.ID, kvno uint32) {
	if t.platform != nil {
		return t.platform.serviceEType, 0
	}
	ticket, err := messages.ParseTicket(t.cred.Ticket)
	if err != nil {
		return 0, 0
	}
	return ticket.EncPart.EType, ticket.EncPart.KVNO
}

// Format keeps %+v and the like from showing secrets.
func (t *Ticket) Format(s fmt.State, _ rune) { fmt.Fprint(s, t.String()) }

// template returns the template for a form, made when first needed.
func (t *Ticket) template(f form) (*gss.Template, error) {
	if made := t.templates[f].Load(); made != nil {
		return made, nil
	}
	made, err := gss.NewTemplate(t.cred, t.config(f))
	if err != nil {
		return nil, err
	}
	if t.templates[f].CompareAndSwap(nil, made) {
		t.grown.Add(int64(made.Size()))
	}
	return t.templates[f].Load(), nil
}

func (t *Ticket) config(f form) gss.TemplateConfig {
	cfg := gss.TemplateConfig{
		Flags:    gss.GSS_C_REPLAY_FLAG | gss.GSS_C_SEQUENCE_FLAG | gss.GSS_C_INTEG_FLAG | gss.GSS_C_CONF_FLAG,
		Bindings: f&formBindings != 0,
		Clock:    t.stamps,
	}
	if f&formMutual != 0 {
		cfg.Flags |= gss.GSS_C_MUTUAL_FLAG
	}
	if f&formRaw == 0 {
		cfg.Framing = spnego.AppendInitPrefix
	}
	return cfg
}

// delegating returns the template that delegates tgt to the service, made again for
// another tgt.
func (t *Ticket) delegating(f form, tgt *messages.Credential, build func() ([]byte, error)) (*gss.Template, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d, ok := t.delegated[f]; ok && bytes.Equal(d.tgt.Ticket, tgt.Ticket) {
		return d.template, nil
	}
	cred, err := build()
	if err != nil {
		return nil, err
	}
	cfg := t.config(f)
	cfg.Flags |= gss.GSS_C_DELEG_FLAG
	cfg.DelegatedCred = cred
	made, err := gss.NewTemplate(t.cred, cfg)
	if err != nil {
		return nil, err
	}
	if t.delegated == nil {
		t.delegated = make(map[form]delegation)
	}
	if _, ok := t.delegated[f]; !ok {
		t.grown.Add(int64(made.Size()))
	}
	t.delegated[f] = delegation{tgt, made}
	return made, nil
}

// adAccount is the account's type of authorization data; negative types are for local use
// (RFC 4120, Section 5.2.6).
const adAccount messages.ADType = -67

// errNoTicket is returned for bytes that Marshal did not write.
var errNoTicket = errors.New("not a stored ticket")

// errPlatformTicket is returned for a ticket that the operating system keeps to itself.
var errPlatformTicket = errors.New("the operating system's tickets are not stored")

// Marshal returns the ticket with its session key, to be sealed and kept elsewhere.
func (t *Ticket) Marshal() ([]byte, error) {
	if t.platform != nil {
		return nil, errPlatformTicket
	}
	return StoredTicket(t.cred, t.obtained.Add(t.offset))
}

// StoredTicket returns what Marshal returns for a credential: when it was obtained, by the
// realm's clock, in nanoseconds since 1970 (8 bytes, big-endian), and then a credential
// cache of one entry. The account of an impersonated user is in the entry's authorization
// data: a byte, 1 for a machine's, and the name.
func StoredTicket(cred *messages.Credential, obtained time.Time) ([]byte, error) {
	entry := *cred
	if cred.Account != nil {
		kind := byte(0)
		if cred.Account.Machine {
			kind = 1
		}
		entry.AuthData = append(slices.Clone(entry.AuthData), messages.AuthorizationDataElement{Type: adAccount, Value: append([]byte{kind}, cred.Account.Name...)})
	}
	file := ccache.CCache{DefaultPrincipal: cred.Client, Credentials: []messages.Credential{entry}}
	return file.Append(binary.BigEndian.AppendUint64(nil, uint64(obtained.UnixNano())))
}

// Unmarshal reads a ticket that Marshal wrote, in this or another process: its times are
// corrected by the offset of this process's clock.
func (id *Identity) Unmarshal(b []byte) (*Ticket, error) {
	if len(b) < 8 {
		return nil, errNoTicket
	}
	file, err := ccache.Parse(b[8:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTicket, err)
	}
	if len(file.Credentials) != 1 || file.Credentials[0].Key.IsZero() {
		return nil, errNoTicket
	}
	cred := &file.Credentials[0]
	if n := len(cred.AuthData) - 1; n >= 0 && cred.AuthData[n].Type == adAccount && len(cred.AuthData[n].Value) > 0 {
		value := cred.AuthData[n].Value
		cred.Account = &messages.Account{Name: string(value[1:]), Machine: value[0] == 1}
		if cred.AuthData = cred.AuthData[:n]; n == 0 {
			cred.AuthData = nil
		}
	}
	t, err := id.ticket(cred)
	if err != nil {
		return nil, err
	}
	t.obtained = time.Unix(0, int64(binary.BigEndian.Uint64(b))).Add(-t.offset)
	return t, nil
}

// LongTermKey returns the first of the newest keys in the identity's keytab that has an
// allowed type ([KeyETypes]). It is false for identities without a keytab: a password's
// keys depend on the salt that the KDC sends, and a credential cache has none.
func (id *Identity) LongTermKey(allowed []enctype.ID) (enctype.Key, bool) {
	ring, ok := id.source.(*keyring)
	if !ok || id.cfg.Secret.Kind != KindKeytab {
		return enctype.Key{}, false
	}
	keys := ring.newest().Keys()
	for _, etype := range keys.ETypes() {
		if !slices.Contains(allowed, etype) {
			continue
		}
		if key, err := keys.Key(exchange.KeyInfo{EType: etype}); err == nil {
			return key, true
		}
	}
	return enctype.Key{}, false
}
