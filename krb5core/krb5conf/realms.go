package krb5conf

import (
	"errors"
	"slices"
	"strings"
)

// readRealms reads [realms]. Unknown relations (admin_server, auth_to_local
// and so on) are no concern of a client's view.
func (c *Config) readRealms(s *Section) {
	for _, n := range c.subsections(s, "realms") {
		realm := Realm{
			KDCs:        nonEmpty(n.Section.Values("kdc")),
			PrimaryKDCs: nonEmpty(n.Section.Values("primary_kdc")),
			HTTPAnchors: nonEmpty(n.Section.Values("http_anchors")),
		}
		if realm.PrimaryKDCs == nil {
			realm.PrimaryKDCs = nonEmpty(n.Section.Values("master_kdc"))
		}
		if site, ok := n.Section.first("sitename"); ok {
			realm.SiteName = site.Value
		}
		c.Realms[n.Tag] = realm
	}
}

func (c *Config) readCAPaths(s *Section) {
	for _, client := range c.subsections(s, "capaths") {
		paths := make(map[string][]string)
		for _, n := range client.Section.Nodes() {
			if n.Section == nil {
				paths[n.Tag] = append(paths[n.Tag], n.Value)
			}
		}
		c.CAPaths[client.Tag] = paths
	}
}

// subsections returns those of a section. A relation in their place is ignored,
// as in MIT, but never meant: most likely its braces stand on one line.
func (c *Config) subsections(s *Section, name string) []Node {
	var subs []Node
	for _, n := range s.Nodes() {
		if n.Section != nil {
			subs = append(subs, n)
			continue
		}
		c.Warnings = append(c.Warnings, &Error{File: n.File, Line: n.Line, Err: errors.New(
			`ignored: in [` + name + `] write "` + n.Tag + ` = {", each relation on a line of its own, and "}"`)})
	}
	return subs
}

func nonEmpty(values []string) []string {
	var kept []string
	for _, v := range values {
		if v = trim(v); v != "" {
			kept = append(kept, v)
		}
	}
	return kept
}

// CAPath returns the realms that [capaths] puts between a client's realm and a
// server's, in the order of the walk, and none but non-nil where it says that
// the two know each other directly ("."). It returns nil where the file says
// nothing: then referrals, or RealmPath, lead the way.
func (c *Config) CAPath(client, server string) []string {
	path := c.CAPaths[client][server]
	if len(path) > 0 && path[0] == "." {
		return []string{}
	}
	return path
}

// RealmPath returns the realms that MIT's client walks from a client's realm to
// a server's, both included: by [capaths] or, where that says nothing, up from
// the client's realm to the ancestor that both have in common and down again
// (RFC 4120 1.2). Without a common ancestor it goes by both top-level domains.
func (c *Config) RealmPath(client, server string) []string {
	if client == server {
		return []string{client}
	}
	path := []string{client}
	if between := c.CAPath(client, server); between != nil {
		return append(append(path, between...), server)
	}
	up, down := ancestors(client), ancestors(server)
	common := 0
	for common < min(len(up), len(down)) && up[len(up)-1-common] == down[len(down)-1-common] {
		common++
	}
	// The lowest common ancestor belongs to the way up.
	up, down = up[:len(up)-max(common-1, 0)], down[:len(down)-common]
	path = up
	for _, realm := range slices.Backward(down) {
		path = append(path, realm)
	}
	return path
}

// ancestors returns a realm and the realms above it, A.B.C, B.C, C.
func ancestors(realm string) []string {
	list := []string{realm}
	for {
		_, parent, ok := strings.Cut(realm, ".")
		if !ok || parent == "" {
			return list
		}
		list = append(list, parent)
		realm = parent
	}
}
