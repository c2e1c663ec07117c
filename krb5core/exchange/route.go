package exchange

import (
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// route is the path from realm to realm.
type route struct {
	tgt      *messages.Credential // for the realm reached so far
	via      []string             // realms whose TGT we have used
	known    func(realm string) *messages.Credential
	capath   func(client, server string) []string
	got      []*messages.Credential // to be kept
	referred []string               // realms that service referrals have led to

	path  []string // realms from the next one to the goal
	index int      // of the realm requested
	fixed bool     // the path is configured: no other realm may be on it
}

func newRoute(tgt *messages.Credential, known func(string) *messages.Credential, capath func(client, server string) []string) route {
	if known == nil {
		known = func(string) *messages.Credential { return nil }
	}
	return route{tgt: tgt, via: []string{tgtRealm(tgt)}, known: known, capath: capath}
}

func (r *route) realm() string { return tgtRealm(r.tgt) }

// aim is the realm on the path whose TGT is requested.
func (r *route) aim() string { return r.path[r.index] }

// start computes the path to goal and follows it as far as TGTs are known.
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

// nearer aims at a nearer realm on the path, if there is one.
func (r *route) nearer() bool {
	for r.index > 0 {
		r.index--
		if !slices.Contains(r.via, r.path[r.index]) {
			return true
		}
	}
	return false
}

// hop moves to a realm by a TGT that its neighbour issued.
func (r *route) hop(tgt *messages.Credential, realm string) error {
	reason := notFollowed(r.via, realm)
	i := slices.Index(r.path, realm)
	if reason == "" && r.fixed && len(r.path) > 0 && i < 0 {
		reason = "not on the configured path"
	}
	if reason != "" {
		return &ReferralError{Realm: realm, Via: slices.Clone(r.via), Reason: reason}
	}
	if strings.EqualFold(tgt.Service.Realm, r.realm()) {
		r.got = append(r.got, tgt)
	} // else it names a realm that did not issue it: it is used now, but not kept as that realm's
	r.tgt, r.via = tgt, append(r.via, realm)
	switch {
	case len(r.path) == 0:
		r.referred = append(r.referred, realm)
	case i >= 0:
		r.path = r.path[i+1:]
	default: // a shortcut that the KDC knows: from there directly to the goal
		r.path = r.path[len(r.path)-1:]
	}
	r.index = len(r.path) - 1
	return nil
}

// hierarchy lists the realms between two by their names: up to the common ancestor, then down (RFC
// 4120, Section 1.2). It goes down at most MaxHops levels: the name often comes from outside, and
// each of its parts may cost a request.
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
			return nil // no common ancestor: they trust each other directly or not at all
		}
		realm = parent
	}
}
