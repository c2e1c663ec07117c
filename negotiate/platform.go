package negotiate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// Platform is the Kerberos client of the operating system, for the account that the process
// runs as: another source of tokens than krb5core and its tickets. *sspi.Client implements it.
type Platform interface {
	// Account is whose tickets are used now.
	Account() (sspi.Account, error)
	// Initiate makes a token, and what verifies the answer to it.
	Initiate(context.Context, sspi.Request) (*sspi.Context, []byte, error)
	// Ticket describes the ticket that is held for a service; false if nothing is known of it.
	Ticket(spn string) (sspi.Ticket, bool)
	// Purge forgets the tickets for a service.
	Purge(spn string) (int, error)
	// Close releases what is held. It may be used again.
	Close()
}

// errPlatformTGT is for requests that take a ticket-granting ticket or a key.
var errPlatformTGT = errors.New("the operating system keeps the account's key and ticket-granting ticket to itself")

// platformTickets are the tickets of a platform. They are its own; what the cache holds are
// descriptions of them, which mint tokens by asking for one.
type platformTickets struct {
	platform Platform
	clock    *krb5core.Clock
	observe  func(Event)
	now      func() time.Time

	mu      sync.Mutex
	current sspi.Account // zero until it is known
	as      *krb5core.Account
}

func newPlatformTickets(cfg *IdentityConfig, clock *krb5core.Clock) *platformTickets {
	return &platformTickets{
		platform: cfg.Secret.platform, clock: clock, observe: cfg.Observe, now: cfg.Now,
		as: krb5core.NewAccount(cfg.Principal, nil, clock),
	}
}

// PlatformPrincipal is the principal of a platform's account.
func PlatformPrincipal(a sspi.Account) messages.Principal { return platformName(a.Name, a.Realm) }

func platformName(name, realm string) messages.Principal {
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, strings.Split(name, "/")...), Realm: realm}
}

// reload reports whether the platform uses the tickets of another account than before.
func (p *platformTickets) reload(context.Context) (changed bool, err error) {
	now, err := p.platform.Account()
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = p.current != (sspi.Account{}) && p.current != now
	if p.current != now {
		p.current = now
		p.as = krb5core.NewAccount(PlatformPrincipal(now), nil, p.clock)
	}
	if changed {
		p.observe(SecretChanged{})
	}
	return changed, nil
}

// owner tells the accounts apart that the platform has had.
func (p *platformTickets) owner() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.Key()
}

func (p *platformTickets) principal() messages.Principal { return p.account().Principal() }

func (p *platformTickets) account() *krb5core.Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.as
}

// issue has the platform get a ticket for the service, by asking for a token that is not used.
// The ticket that it held before is purged first if the service has refused it.
func (p *platformTickets) issue(ctx context.Context, spn SPN, refused bool) (*Ticket, error) {
	if refused {
		if err := p.purge(spn); err != nil {
			return nil, uncached(err) // the same ticket would come back
		}
	}
	started, _, err := p.platform.Initiate(ctx, sspi.Request{Target: spn.text})
	started.Close()
	if err != nil {
		return nil, err
	}
	return p.describe(spn), nil
}

// undescribed is how long a ticket is thought to last of which nothing is known.
const undescribed = 10 * time.Minute

// describe returns what the platform tells of its ticket.
func (p *platformTickets) describe(spn SPN) *Ticket {
	now := p.now()
	made := &platformTicket{platform: p.platform, spn: spn}
	cred := &messages.Credential{Client: p.principal(), Service: spn.principal, StartTime: now, EndTime: now.Add(undescribed)}
	if held, ok := p.platform.Ticket(spn.text); ok {
		if held.Client != "" {
			cred.Client = platformName(held.Client, held.ClientRealm)
		}
		cred.Service = platformName(held.Server, held.ServerRealm)
		cred.StartTime, cred.RenewTill, cred.Flags = held.Start, held.RenewTill, messages.TicketFlags(held.Flags)
		if held.End.After(now) {
			cred.EndTime = held.End
		}
		made.etype, made.serviceEType = enctype.ID(held.SessionEType), enctype.ID(held.EType)
	}
	cred.AuthTime = cred.StartTime
	// The owner also tells accounts apart whose name is not known.
	t := newTicket(cred, &knownClient{cred.Client, p.owner()}, nil, now, 0)
	t.platform = made
	return t
}

// platformTicket is a ticket that the platform holds, or gets when it is used.
type platformTicket struct {
	platform            Platform
	spn                 SPN
	etype, serviceEType enctype.ID // of the session key, and of the service's key; 0 if not known
}

// mint has the platform make a token, and puts SPNEGO around it.
func (t *platformTicket) mint(ctx context.Context, delegate bool, f Features) (Token, error) {
	request := sspi.Request{Target: t.spn.text, Mutual: f.Mutual, Delegate: delegate}
	if f.Bindings != nil {
		request.Bindings = f.Bindings.Data
	}
	started, raw, err := t.platform.Initiate(ctx, request)
	if err != nil {
		return Token{}, err
	}
	header, err := platformHeader(raw, f.Raw)
	if err != nil {
		started.Close()
		return Token{}, err
	}
	return Token{Header: header, platform: true, answer: started}, nil
}

// platformHeader returns the value of Authorization for a token of the platform, which must be
// Kerberos'.
func platformHeader(raw []byte, bare bool) (string, error) {
	token, err := gss.ParseToken(raw)
	if err != nil || token.ID != gss.TOK_AP_REQ {
		return "", fmt.Errorf("the operating system made no Kerberos token: %w", errors.Join(err, gss.ErrOtherMechanism))
	}
	framed := gss.AppendToken(nil, token.ID, token.Body)
	if !bare {
		framed = append(spnego.AppendInitPrefix(nil, len(framed)), framed...)
	}
	return "Negotiate " + base64.StdEncoding.EncodeToString(framed), nil
}

// verifyPlatform verifies the acceptor's answer to a token of the platform, as gss.Context does.
func verifyPlatform(answer *sspi.Context, b []byte) error {
	token, err := gss.ParseToken(b)
	switch {
	case err != nil:
	case token.ID == gss.TOK_KRB_ERROR:
		refusal, err := messages.ParseKRBError(token.Body)
		if err == nil {
			return refusal
		}
		return fmt.Errorf("%w: %w", gss.ErrNotAuthenticated, err)
	case answer == nil:
		err = sspi.ErrNotMutual
	default:
		err = answer.Verify(b)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", gss.ErrNotAuthenticated, err)
	}
	return nil
}

// purge has the platform forget its tickets for a service.
func (p *platformTickets) purge(spn SPN) error {
	_, err := p.platform.Purge(spn.text)
	if err != nil {
		p.observe(PurgeFailed{SPN: spn, Err: err})
	}
	return err
}

// The rest of a ticketSource: there is no login.

func (p *platformTickets) tgt(context.Context, *Settings, *exchange.Budget) (*messages.Credential, error) {
	return nil, errPlatformTGT
}
func (p *platformTickets) held(*Settings, SPN) *messages.Credential { return nil }
func (p *platformTickets) forget()                                  {}
