package sspi

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Ticket is what Windows tells of a ticket that it holds.
type Ticket struct {
	// Client and ClientRealm are empty where Windows does not tell (Wine).
	Client, ClientRealm string
	Server, ServerRealm string
	// The times are by the domain controller's clock; zero for none.
	Start, End, RenewTill time.Time
	// EType is the encryption type of the ticket, SessionEType that of the session key; zero
	// where Windows does not tell.
	EType, SessionEType int32
	// Flags are those of the ticket (RFC 4120, Section 5.3).
	Flags uint32
}

// isTGT reports whether the ticket is a ticket-granting ticket of the client's own realm.
func (t *Ticket) isTGT() bool {
	service, realm, _ := strings.Cut(t.Server, "/")
	return strings.EqualFold(service, "krbtgt") && (realm == "" || strings.EqualFold(realm, t.ServerRealm))
}

// isFor reports whether the ticket is for the service principal, with or without its realm.
func (t *Ticket) isFor(spn string) bool {
	name, realm, named := strings.Cut(spn, "@")
	return strings.EqualFold(t.Server, name) && (!named || strings.EqualFold(t.ServerRealm, realm))
}

// authority is the connection to the local security authority, made when it is needed.
type authority struct {
	call functions

	mu         sync.Mutex
	connected  bool
	connection uintptr
	packageID  uint32
}

// ask sends a message to the Kerberos package, and hands the answer to read, which does not
// keep it.
func (a *authority) ask(message []byte, read func(answer []byte, base uint64) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.connected {
		if status := a.call.lsaConnect(packageName, &a.connection, &a.packageID); status.failed() {
			return &Error{Function: "LsaLookupAuthenticationPackage", Status: status}
		}
		a.connected = true
	}
	var (
		answer *byte
		size   uint32
	)
	called, own := a.call.lsaCall(a.connection, a.packageID, message, &answer, &size)
	if answer != nil {
		defer a.call.lsaFree(answer)
	}
	if called.failed() {
		own = called
	}
	if own.failed() {
		return &Error{Function: "LsaCallAuthenticationPackage", Status: own}
	}
	if answer == nil || read == nil {
		return nil
	}
	return read(unsafe.Slice(answer, size), uint64(uintptr(unsafe.Pointer(answer))))
}

func (a *authority) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connected {
		a.call.lsaDisconnect(a.connection)
		a.connected = false
	}
}

// Tickets lists the tickets that Windows holds in the logon session of the process.
func (c *Client) Tickets() (tickets []Ticket, err error) {
	for _, message := range []uint32{queryTicketCacheEx2, queryTicketCache} {
		err = c.lsa.ask(queryRequest(message), func(answer []byte, base uint64) (err error) {
			tickets, err = parseTickets(answer, base, int(pointer), message)
			return err
		})
		if !notOffered(err) { // Wine knows the second message only
			return tickets, err
		}
	}
	return nil, err
}

// notOffered reports whether a message is not known to the package.
func notOffered(err error) bool {
	failed, ok := errors.AsType[*Error](err)
	return ok && (failed.Status == STATUS_ACCESS_DENIED || failed.Status == STATUS_NOT_IMPLEMENTED || failed.Status == STATUS_NOT_SUPPORTED)
}

// Ticket returns the ticket for a service principal that lasts longest; false if Windows holds
// none, or does not tell.
func (c *Client) Ticket(spn string) (found Ticket, ok bool) {
	tickets, err := c.Tickets()
	if err != nil {
		return found, false
	}
	for _, t := range tickets {
		if t.isFor(spn) && (!ok || t.End.After(found.End)) {
			found, ok = t, true
		}
	}
	return found, ok
}

// Purge has Windows forget the tickets for a service principal in the logon session of the
// process, which takes no privilege. It returns how many there were.
func (c *Client) Purge(spn string) (n int, err error) {
	tickets, err := c.Tickets()
	if err != nil {
		return 0, err
	}
	for _, t := range tickets {
		if !t.isFor(spn) {
			continue
		}
		if err := c.purge(t.Server, t.ServerRealm); err != nil {
			return n, fmt.Errorf("purging the ticket for %s: %w", spn, err)
		}
		n++
	}
	return n, nil
}

func (c *Client) purge(server, realm string) error {
	// The message holds its own address: it is made twice.
	draft, err := purgeRequest(0, int(pointer), server, realm)
	if err != nil {
		return err
	}
	placed := make([]byte, len(draft))
	message, err := purgeRequest(uint64(uintptr(unsafe.Pointer(&placed[0]))), int(pointer), server, realm)
	if err != nil {
		return err
	}
	copy(placed, message)
	err = c.lsa.ask(placed, nil)
	if failed, ok := errors.AsType[*Error](err); ok && failed.Status == SEC_E_NO_CREDENTIALS {
		return nil // it is gone already
	}
	return err
}

// Account is whose tickets Windows uses.
type Account struct {
	// Name and Realm are the client principal, or the Windows account of the process and its
	// domain, if no ticket says more.
	Name, Realm string
	// Source says where the name is from: "ticket", "credentials" or "process".
	Source string
	// mark tells accounts apart that have no name: their ticket-granting tickets.
	mark string
}

// Key differs between accounts, also where Windows does not tell their names.
func (a Account) Key() string {
	name := a.Name + "@" + a.Realm
	if a.Source != fromTicket {
		name += " (" + a.mark + ")"
	}
	return name
}

// Where an account's name is from.
const (
	fromTicket      = "ticket"
	fromCredentials = "credentials"
	fromProcess     = "process"
)

// Account returns whose tickets Windows uses now. If they are another account's than they were,
// the credentials are acquired again.
func (c *Client) Account() (Account, error) {
	tickets, _ := c.Tickets() // without them the name is looked for elsewhere
	now, err := c.accountOf(tickets)
	if err != nil {
		return now, err
	}
	c.mu.Lock()
	changed := c.account != (Account{}) && c.account != now
	c.account = now
	c.mu.Unlock()
	if changed {
		c.forget(nil)
	}
	return now, nil
}

func (c *Client) accountOf(tickets []Ticket) (Account, error) {
	var mark []string
	for _, t := range tickets {
		switch {
		case !t.isTGT():
		case t.Client != "":
			return Account{Name: t.Client, Realm: t.ClientRealm, Source: fromTicket}, nil
		default:
			mark = append(mark, fmt.Sprintf("%s %d %d", t.ServerRealm, t.Start.Unix(), t.End.Unix()))
		}
	}
	a := Account{Source: fromCredentials, mark: strings.Join(mark, ", ")}
	name := c.credentialsName()
	if name == "" {
		var err error
		if name, err = c.call.processUser(); err != nil {
			return a, err
		}
		a.Source = fromProcess
	}
	if domain, user, ok := strings.Cut(name, `\`); ok {
		a.Name, a.Realm = user, domain
	} else {
		a.Name, a.Realm, _ = strings.Cut(name, "@")
	}
	return a, nil
}

// credentialsName is the name of the credentials, empty if they have none.
func (c *Client) credentialsName() string {
	used, err := c.acquire()
	if err != nil {
		return ""
	}
	defer c.release(used)
	var name *uint16
	if status := c.call.queryCredentialsName(&used.handle, &name); status.failed() || name == nil {
		return ""
	}
	defer c.call.freeContextBuffer((*byte)(unsafe.Pointer(name)))
	return text(name)
}

// Package is a security package of Windows.
type Package struct {
	Name, Comment string
	MaxToken      int // bytes
}

// Packages lists the security packages. Only "Kerberos" is used.
func (c *Client) Packages() ([]Package, error) {
	var (
		count uint32
		infos *packageInfo
	)
	if status := c.call.enumerateSecurityPackages(&count, &infos); status.failed() || infos == nil {
		return nil, &Error{Function: "EnumerateSecurityPackages", Status: status}
	}
	defer c.call.freeContextBuffer(infos.address())
	var all []Package
	for _, info := range unsafe.Slice(infos, count) {
		all = append(all, Package{Name: text(info.name), Comment: text(info.comment), MaxToken: int(info.maxToken)})
	}
	return all, nil
}
