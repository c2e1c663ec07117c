package gmsa

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const (
	// readJitter bounds the random delay of readings, so that a fleet does not ask at once.
	readJitter = 5 * time.Minute
	// readPause is the time between two readings, at least.
	readPause = time.Minute
)

// Read reads the password of an account, such as by [Directory.Read].
type Read func(context.Context) (*Reading, error)

// AccountConfig configures an Account. The functions must not block.
type AccountConfig struct {
	Principal messages.Principal
	Clock     *krb5core.Clock
	Now       func() time.Time
	// Timeout bounds a reading in the background.
	Timeout time.Duration
	// Refused reports whether a login failed because the KDC refused the key.
	Refused func(error) bool
	// OnRead is called after each reading; changed reports whether there was another password before.
	OnRead func(r *Reading, changed bool)
	// OnUnread is called once for each error with which the password cannot be read again.
	OnUnread func(error)
	// OnStale is called when a KDC refuses the newest password, and accepts another.
	OnStale func(error)

	jitter func(below time.Duration) time.Duration
	after  func(time.Duration, func()) *time.Timer
}

// Account is a group managed service account with the passwords that were read. Domain controllers
// change its password from time to time, and say when it is to be read again. It is read at once if a
// KDC refuses the one that is held. What was read stays in use while no other can be read, and
// the password before it while KDCs do not know the new one yet. It is safe for concurrent use; logins
// are made one at a time.
type Account struct {
	cfg     AccountConfig
	reading chan struct{} // has an element while the password is read

	mu       sync.Mutex
	last     Read                // of the last caller: readings in the background use it
	held     *Reading            // what was read last; nil if nothing was
	order    []*krb5core.Account // with the passwords that are tried, in their order: one, or two
	newest   *krb5core.Account   // with the password that was read last
	previous *krb5core.Account   // with the password before; nil if it is not known
	asked    time.Time           // when a reading began last
	read     time.Time           // when held was read
	set      time.Time           // when the password was changed last
	next     *time.Timer         // the next reading; nil before the first
	closed   bool
	broken   string // the failure that was reported last, empty after a success
}

var errNoPassword = errors.New("the password has not been read yet")

// NewAccount returns an account whose password has not been read.
func NewAccount(cfg AccountConfig) *Account {
	if cfg.jitter == nil {
		cfg.jitter, cfg.after = rand.N[time.Duration], time.AfterFunc
	}
	none := krb5core.NewAccount(cfg.Principal, krb5core.PasswordKeys(func() (string, error) { return "", errNoPassword }), cfg.Clock)
	return &Account{cfg: cfg, reading: make(chan struct{}, 1), order: []*krb5core.Account{none}, newest: none}
}

// Login logs in with the password that is held, and reads it if none is. If it is refused, the password
// is read again, and all that are known are tried, the newest first, each with one proof.
func (a *Account) Login(ctx context.Context, client *krb5core.Client, read Read, budget *exchange.Budget) (*messages.Credential, error) {
	justRead := !a.known()
	if justRead {
		if _, err := a.readPassword(ctx, read); err != nil {
			return nil, err
		}
	}
	first := a.Current()
	cred, err := a.login(ctx, client, first, budget)
	if !a.cfg.Refused(err) {
		return cred, err
	}
	if !justRead {
		if changed, _ := a.readPassword(ctx, read); changed { // a failure is reported, and what is held is tried
			more := exchange.NewBudget(exchange.MaxProofs - 1)
			defer budget.Charge(more)
			return a.tryAll(ctx, client, first, more, err)
		}
	}
	return a.tryAll(ctx, client, first, budget, err)
}

// tryAll logs in with each password, last with that of the account that was refused, for which err is
// why.
func (a *Account) tryAll(ctx context.Context, client *krb5core.Client, refused *krb5core.Account, budget *exchange.Budget, err error) (*messages.Credential, error) {
	a.mu.Lock()
	all := slices.DeleteFunc(slices.Clone(a.order), func(k *krb5core.Account) bool { return k == refused })
	newest := a.newest
	a.mu.Unlock()
	for _, k := range append(all, refused) {
		if budget.Left() <= 0 {
			break
		}
		cred, errNow := a.login(ctx, client, k, budget)
		if errNow == nil && k != newest {
			a.cfg.OnStale(err)
		}
		if !a.cfg.Refused(errNow) {
			return cred, errNow
		}
		err = errNow
	}
	return nil, err
}

// login logs in with one of the passwords and one proof. One that was refused is tried later the next
// time; when the newest was accepted, the others are not tried any more.
func (a *Account) login(ctx context.Context, client *krb5core.Client, k *krb5core.Account, budget *exchange.Budget) (*messages.Credential, error) {
	one := exchange.NewBudget(min(budget.Left(), 1))
	cred, err := client.Login(ctx, k, one)
	budget.Charge(one)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil && k == a.newest:
		a.order = []*krb5core.Account{k}
	case a.cfg.Refused(err) && k == a.newest && k == a.order[0]:
		slices.Reverse(a.order)
	}
	return cred, err
}

func (a *Account) known() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held != nil
}

// Read reads the password if none is held; with again also if one is, at most once a minute.
func (a *Account) Read(ctx context.Context, read Read, again bool) error {
	a.mu.Lock()
	since, known := a.cfg.Now().Sub(a.asked), a.held != nil
	a.mu.Unlock()
	if known && (!again || 0 <= since && since < readPause) {
		return nil
	}
	_, err := a.readPassword(ctx, read)
	return err
}

// readPassword reads the password, and reports whether it is another one. What another caller has read
// while this one waited for it will do.
func (a *Account) readPassword(ctx context.Context, read Read) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	a.mu.Lock()
	before := a.held
	a.mu.Unlock()
	select {
	case a.reading <- struct{}{}:
		defer func() { <-a.reading }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	a.mu.Lock()
	if now := a.held; now != before {
		a.mu.Unlock()
		return before != nil && !bytes.Equal(before.Password.Current, now.Password.Current), nil
	}
	a.asked, a.last = a.cfg.Now(), read
	a.mu.Unlock()
	r, err := read(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.schedule(r, err)
	if err != nil {
		if a.held != nil && a.broken != err.Error() { // the first reading's failure is the login's
			a.broken = err.Error()
			a.cfg.OnUnread(err)
		}
		return false, err
	}
	a.broken = ""
	changed = a.take(r)
	a.cfg.OnRead(r, changed)
	return changed, nil
}

// take makes what was read the password that is held. It reports whether there was another before.
func (a *Account) take(r *Reading) (changed bool) {
	before := a.held
	a.held, a.read = r, a.cfg.Now()
	if before != nil && bytes.Equal(before.Password.Current, r.Password.Current) {
		return false
	}
	if a.set = r.Set; a.set.IsZero() {
		a.set = a.read
	}
	with := func(password []byte) *krb5core.Account {
		return a.newest.WithKeys(krb5core.PasswordKeys(func() (string, error) { return Text(password), nil }))
	}
	current, p := with(r.Password.Current), r.Password.Previous
	switch {
	case before == nil && p == nil:
		a.order = []*krb5core.Account{current}
	case before == nil:
		a.previous = with(p)
		a.order = []*krb5core.Account{current, a.previous}
	default:
		works := a.order[0] // of two, the one that is not the newest
		if works == a.newest {
			works = a.order[len(a.order)-1]
		}
		if a.previous = a.newest; p != nil && !bytes.Equal(p, before.Password.Current) {
			a.previous = with(p) // it was changed twice
		}
		a.order = []*krb5core.Account{current, works}
	}
	a.newest = current
	return before != nil
}

// schedule has the password read again, in the background, after a reading or a failure.
func (a *Account) schedule(r *Reading, err error) {
	pause := readPause + a.cfg.jitter(readPause)
	if err == nil {
		pause = max(r.Password.Query, readPause) + a.cfg.jitter(readJitter)
	}
	if a.next != nil {
		a.next.Stop()
	}
	if !a.closed {
		a.next = a.cfg.after(pause, a.readAgain)
	}
}

func (a *Account) readAgain() {
	a.mu.Lock()
	read := a.last
	a.mu.Unlock()
	_, _ = a.readPassword(context.Background(), read) // a failure is reported
}

// Close ends the readings in the background.
func (a *Account) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.next != nil {
		a.next.Stop()
	}
}

// Current is the account with the password that is tried first.
func (a *Account) Current() *krb5core.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.order[0]
}

// Accounts are those with the newest password and the one before, if they are known.
func (a *Account) Accounts() []*krb5core.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.held == nil:
		return nil
	case a.previous == nil:
		return []*krb5core.Account{a.newest}
	}
	return []*krb5core.Account{a.newest, a.previous}
}

// Times are when the password was changed, and when it will be: then it is read again. They are zero
// before the first reading.
func (a *Account) Times() (changed, due time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held == nil {
		return time.Time{}, time.Time{}
	}
	return a.set, a.read.Add(a.held.Password.Query)
}

// Forget drops what was learnt from KDCs.
func (a *Account) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.order {
		k.Forget()
	}
}
