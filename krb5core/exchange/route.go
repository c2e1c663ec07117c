package exchange

import (
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// route is the way from realm to realm.
type route struct {
	tgt      *messages.Credential // for the realm that we have come to
	via      []string             // realms whose TGT we have used
	known    func(realm string) *messages.Credential
	capath   func(client, server string) []string
	won      []*messages.Credential // to be kept
	referred []string               // realms that service referrals have led to

	path  []string // realms from the next one to the goal
	index int      // of the one asked for
	fixed bool     // the path is configured: no other realm is gone through
}

func newRoute(tgt *messages.Credential, known func(string) *messages.Credential, capath func(client, server string) []string) route {
	if known == nil {
		known = func(string) *messages.Credential { return nil }
	}
	return route{tgt: tgt, via: []string{tgtRealm(tgt)}, known: known, capath: capath}
}

// realm is where we are.
func (r *route) realm() string { return tgtRealm(r.tgt) }

// aim is the realm on the path whose TGT is to be asked for.
func (r *route) aim() string { return r.path[r.index] }

// start lays out the path to goal and goes as far as known TGTs lead.
func (r *route) start(goal string) {
	between := []string(nil)
	if r.capath != nil {
		between = r.capath(r.tgt.Client.Realm, goal)
		r.fixed = between != nil
	}
	if between == nil {
		between = hierarchy(r.realm(), goal)
	}
	if i := slices.Index(between, r.realm()); i >= 0 {
		between = between[i+1:]
	}
	r.path = append(slices.Clone(between), goal)
	for i, realm := range slices.Backward(r.path) {
		if tgt := r.known(realm); checkTGT(tgt) == nil && tgtRealm(tgt) == realm {
			r.tgt, r.via = tgt, append(r.via, realm)
			r.path = r.path[i+1:]
			break
		}
	}
	r.index = len(r.path) - 1
}

// nearer aims at a realm closer to us on the path, if there is one.
func (r *route) nearer() bool {
	for r.index > 0 {
		r.index--
		if !slices.Contains(r.via, r.path[r.index]) {
			return true
		}
	}
	return false
}

// hop goes to a realm by a TGT that its neighbour gave for it.
func (r *route) hop(tgt *messages.Credential, realm string) error {
	failure := &ReferralError{Realm: realm, Via: slices.Clone(r.via)}
	i := slices.Index(r.path, realm)
	switch {
	case slices.ContainsFunc(r.via, func(v string) bool { return strings.EqualFold(v, realm) }):
		failure.Reason = "loop"
		return failure
	case len(r.via) > MaxHops:
		failure.Reason = "too many hops"
		return failure
	case r.fixed && len(r.path) > 0 && i < 0:
		failure.Reason = "not on the configured path"
		return failure
	}
	if strings.EqualFold(tgt.Service.Realm, r.realm()) {
		r.won = append(r.won, tgt)
	} // else it claims to be of a realm that did not give it: it serves now, and is not to be kept as that realm's
	r.tgt, r.via = tgt, append(r.via, realm)
	switch {
	case len(r.path) == 0:
		r.referred = append(r.referred, realm)
	case i >= 0:
		r.path = r.path[i+1:]
	default: // a shortcut that the KDC knows: from there straight on
		r.path = r.path[len(r.path)-1:]
	}
	r.index = len(r.path) - 1
	return nil
}

// hierarchy lists the realms between two by their names: up to the common ancestor, then down (RFC 4120 1.2). It goes down
// no deeper than there may be hops: the name is often somebody else's choice, and each of its parts may cost a request.
func hierarchy(from, to string) []string {
	var up, down []string
	for realm := from; ; {
		_, parent, ok := strings.Cut(realm, ".")
		if !ok {
			break
		}
		up = append(up, parent)
		realm = parent
	}
	for realm := to; ; {
		if realm == from {
			return down
		}
		if i := slices.Index(up, realm); i >= 0 {
			if realm == to {
				return up[:i]
			}
			return append(up[:i+1:i+1], down...)
		}
		if realm != to {
			down = append([]string{realm}, down...)
		}
		if len(down) > MaxHops {
			return nil
		}
		_, parent, ok := strings.Cut(realm, ".")
		if !ok {
			return nil // nothing in common: they trust each other directly or not at all
		}
		realm = parent
	}
}
