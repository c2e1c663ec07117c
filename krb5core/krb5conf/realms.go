package krb5conf

import "errors"

// readRealms reads [realms]. Other relations (auth_to_local and so on) are no
// concern of a client's view.
func (c *Config) readRealms(s *Section) {
	for _, n := range c.subsections(s, "realms") {
		realm := Realm{
			KDCs:        nonEmpty(n.Section.Values("kdc")),
			PrimaryKDCs: nonEmpty(n.Section.Values("primary_kdc")),
			HTTPAnchors: nonEmpty(n.Section.Values("http_anchors")),

			KpasswdServers: nonEmpty(n.Section.Values("kpasswd_server")),
			AdminServers:   nonEmpty(n.Section.Values("admin_server")),
		}
		if realm.PrimaryKDCs == nil {
			realm.PrimaryKDCs = nonEmpty(n.Section.Values("master_kdc"))
		}
		site, _ := n.Section.first("sitename")
		realm.SiteName = site.Value
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
// as in MIT, but never meant: most likely its braces are on one line.
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
// nothing.
func (c *Config) CAPath(client, server string) []string {
	path := c.CAPaths[client][server]
	if len(path) > 0 && path[0] == "." {
		return []string{}
	}
	return path
}
