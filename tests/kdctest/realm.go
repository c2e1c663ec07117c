package kdctest

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Realm is a principal database with its policy. It may be changed while KDCs
// serve it. Err returns the first error of its methods (a password whose key cannot be
// derived, a duplicate name), and KDC.Start reports it.
type Realm struct {
	name string

	mu         sync.RWMutex
	principals map[string]*Principal // by every name, folded if ignoreCase
	inbound    map[string]*Principal // krbtgt/THIS@OTHER, by the other realm
	trusts     map[string]*Realm     // realms with shared keys
	domains    map[string]string     // host or .domain -> realm
	suffixes   map[string]string     // UPN suffix -> realm, "" for this one
	ignoreCase bool
	noFAST     bool
	canonical  bool                  // clients must request canonicalization
	pacs       bool                  // in tickets
	repeat     bool                  // names as asked, in S4U2Self
	preauth    []messages.PADataType // nil: the usual ones
	spake      SPAKE
	pkinit     *PKINIT // nil without
	lockout    int
	lifetime   time.Duration
	renewable  time.Duration
	err        error
}

// NewRealm returns a realm with its own krbtgt (AES-256-SHA1 and AES-128-SHA1)
// and nothing else. Tickets last ten hours and can be renewed for a week.
func NewRealm(name string) *Realm {
	r := &Realm{
		name:       name,
		principals: make(map[string]*Principal),
		inbound:    make(map[string]*Principal),
		trusts:     make(map[string]*Realm),
		domains:    make(map[string]string),
		suffixes:   make(map[string]string),
		lifetime:   10 * time.Hour,
		renewable:  7 * 24 * time.Hour,
	}
	r.AddService("krbtgt/" + name)
	return r
}

// Name returns the realm's name.
func (r *Realm) Name() string { return r.name }

// Err returns the first error of the methods that fill the realm.
func (r *Realm) Err() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.err
}

// AddUser adds a principal with keys derived from a password. By default it has
// AES-256-SHA1 and AES-128-SHA1 keys of kvno 1 with the default salt, and must
// pre-authenticate.
func (r *Realm) AddUser(name, password string, opts ...Option) *Principal {
	return r.add(&Principal{name: name}, &password, opts)
}

// AddService adds a principal with random keys, for which the KDC issues tickets; for
// a user it does once the user has an SPN. A service can also log in with its keytab.
func (r *Realm) AddService(name string, opts ...Option) *Principal {
	return r.add(&Principal{name: name, service: true}, nil, opts)
}

func (r *Realm) add(p *Principal, password *string, opts []Option) *Principal {
	p.realm = r
	p.etypes = usualETypes()
	p.kvno = 1
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addName(p.name, p)
	for _, o := range opts {
		o(p)
	}
	r.fail(p.rekey(password, rand.Reader))
	return p
}

// usualETypes returns AES-SHA1, or AES-SHA2 where FIPS 140 is enforced.
func usualETypes() []enctype.ID {
	if enctype.AES256_CTS_HMAC_SHA1_96.Check() != nil {
		return []enctype.ID{enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128}
	}
	return []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96}
}

// addName adds a principal under a name; mu is held.
func (r *Realm) addName(name string, p *Principal) {
	key := r.fold(name)
	if _, twice := r.principals[key]; twice {
		r.fail(fmt.Errorf("realm %s: principal %q is there already", r.name, name))
		return
	}
	r.principals[key] = p
}

func (r *Realm) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *Realm) fold(name string) string {
	if r.ignoreCase {
		return strings.ToLower(name)
	}
	return name
}

// IgnoreCase ignores case in names, as Active Directory does.
func (r *Realm) IgnoreCase() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ignoreCase = true
	known := r.principals
	r.principals = make(map[string]*Principal, len(known))
	for name, p := range known {
		r.addName(name, p)
	}
}

// RequireCanonicalization answers logins without the option canonicalize with
// KDC_ERR_C_PRINCIPAL_UNKNOWN, as Samba does with `kdc require canonicalization`.
func (r *Realm) RequireCanonicalization() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.canonical = true
}

// requiresCanonicalization reports whether clients must request canonicalization.
func (r *Realm) requiresCanonicalization() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.canonical
}

// SetLifetimes sets the maximum lifetime and renewable lifetime of tickets; renewable
// zero means that tickets cannot be renewed.
func (r *Realm) SetLifetimes(lifetime, renewable time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifetime, r.renewable = lifetime, renewable
}

// SetLockout locks a principal after n failed pre-authentications in a row;
// zero, the default, never.
func (r *Realm) SetLockout(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lockout = n
}

// Principal returns the principal with the name, nil if there is none.
func (r *Realm) Principal(name string) *Principal {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.principals[r.fold(name)]
}

// Remove removes a principal with all its names.
func (r *Realm) Remove(p *Principal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, q := range r.principals {
		if q == p {
			delete(r.principals, name)
		}
	}
}

// Keytab returns a keytab file with every key of the principals, including kept old
// ones, under their names and service principal names.
func (r *Realm) Keytab(principals ...*Principal) ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var kt keytab.Keytab
	for _, p := range principals {
		for _, name := range append([]string{p.name}, p.spns...) {
			principal, err := messages.ParsePrincipal(name, r.name)
			if err != nil {
				return nil, err
			}
			for _, set := range p.keys {
				for _, key := range set.keys {
					kt.Entries = append(kt.Entries, keytab.Entry{
						Principal: principal, Timestamp: time.Unix(0, 0).UTC(), KVNO: set.kvno, Key: key,
					})
				}
			}
		}
	}
	return kt.Marshal()
}

// MapDomain says that a host, or every host below a domain that begins with a
// dot, belongs to a realm: this one, or one to which clients are referred.
func (r *Realm) MapDomain(domain, realm string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.domains[strings.ToLower(domain)] = realm
}

// MapSuffix says that enterprise names that end in @suffix belong to a realm:
// this one, or one that WRONG_REALM errors name.
func (r *Realm) MapSuffix(suffix, realm string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suffixes[strings.ToLower(suffix)] = realm
}

// Trust creates keys between two realms, in both directions.
func Trust(a, b *Realm) {
	for _, way := range [2][2]*Realm{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		p := from.AddService("krbtgt/" + to.name)
		to.mu.Lock()
		to.inbound[from.name] = p
		to.mu.Unlock()
		from.mu.Lock()
		from.trusts[to.name] = to
		from.mu.Unlock()
	}
}

// ownDomains returns the domains that belong to this realm.
func (r *Realm) ownDomains() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var own []string
	for domain, realm := range r.domains {
		if realm == r.name {
			own = append(own, domain)
		}
	}
	slices.Sort(own)
	return own
}

// realmOfHost looks up the host, then its parent domains; "" if none is mapped.
func (r *Realm) realmOfHost(host string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	host = strings.ToLower(host)
	if realm := r.domains[host]; realm != "" {
		return realm
	}
	for {
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return ""
		}
		if realm := r.domains[host[i:]]; realm != "" {
			return realm
		}
		host = host[i+1:]
	}
}

// realmOfSuffix returns the realm of an enterprise name: that of its suffix, or the
// realm with the suffix as its name; "" if unknown.
func (r *Realm) realmOfSuffix(name string) string {
	i := strings.LastIndexByte(name, '@')
	if i < 0 {
		return ""
	}
	suffix := name[i+1:]
	r.mu.RLock()
	defer r.mu.RUnlock()
	if realm := r.suffixes[strings.ToLower(suffix)]; realm != "" {
		return realm
	}
	for realm := range r.trusts {
		if strings.EqualFold(realm, suffix) {
			return realm
		}
	}
	if strings.EqualFold(r.name, suffix) {
		return r.name
	}
	return ""
}

// nextHop returns the neighbour on the shortest path of trusts to a realm; "" if
// there is none.
func (r *Realm) nextHop(to string) string {
	type step struct {
		at    *Realm
		first string
	}
	seen := map[*Realm]bool{r: true}
	queue := []step{{at: r}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for _, next := range s.at.neighbours() {
			if seen[next] {
				continue
			}
			seen[next] = true
			first := s.first
			if first == "" {
				first = next.name
			}
			if next.name == to {
				return first
			}
			queue = append(queue, step{next, first})
		}
	}
	return ""
}

// neighbours returns the trusted realms ordered by name, so that paths are deterministic.
func (r *Realm) neighbours() []*Realm {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Values(r.trusts), func(a, b *Realm) int { return strings.Compare(a.name, b.name) })
}
