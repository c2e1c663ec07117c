package negotiate

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// KeytabArmor returns armor by the principal's keys of a keytab file, which is read for each login.
// The proofs of the process count together for each principal and file, however many identities use
// the armor.
func KeytabArmor(path string, principal messages.Principal) *krb5core.Armor {
	clock := krb5core.NewClock(nil)
	account := func() (*krb5core.Account, error) {
		file, err := ReadKeytab(path)
		if err != nil {
			return nil, err
		}
		keys, err := krb5core.KeytabKeys(file, principal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return krb5core.NewAccount(principal, keys, clock), nil
	}
	key := armorKey{path, principal.Realm, principal.Name.String()}
	guard, _ := armorGuards.LoadOrStore(key, &armorGuard{path: path, logins: make(chan struct{}, 1), breaker: breaker{now: time.Now}})
	return krb5core.KeytabArmor(account, guard.(*armorGuard).run)
}

// armorGuards has an *armorGuard for each armorKey of the process. They hold no keys.
var armorGuards sync.Map

type armorKey struct{ path, realm, name string }

// armorGuard is the breaker of an account that provides armor.
type armorGuard struct {
	path    string
	breaker breaker
	logins  chan struct{} // one at a time; held for info too
	info    fs.FileInfo   // of the file at the last login
}

// run implements krb5core.ArmorGuard.
func (g *armorGuard) run(ctx context.Context, login func(*exchange.Budget) error) error {
	select {
	case g.logins <- struct{}{}:
		defer func() { <-g.logins }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for another login with %s to end: %w", g.path, context.Cause(ctx))
	}
	if info, _ := os.Stat(g.path); !secretfile.Same(info, g.info) {
		g.info = info
		g.breaker.reset()
	}
	if refused := g.breaker.state(); refused != nil {
		return refused
	}
	budget := g.breaker.budget()
	err := login(budget)
	if err == nil {
		g.breaker.reset()
		return nil
	}
	answer, _ := g.breaker.record(err, budget)
	return answer
}
