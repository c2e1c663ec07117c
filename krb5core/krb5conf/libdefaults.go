package krb5conf

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds and defaults of udp_preference_limit, in bytes.
const (
	defaultUDPPreferenceLimit = 1465
	maxUDPPreferenceLimit     = 32700
)

func (c *Config) readLibDefaults(s *Section) error {
	r := reader{section: s}
	c.LibDefaults = LibDefaults{
		DefaultRealm:       r.text("default_realm"),
		PermittedEnctypes:  r.list("permitted_enctypes"),
		ClockSkew:          r.duration("clockskew", 5*time.Minute),
		DNSLookupKDC:       r.boolean("dns_lookup_kdc", r.boolean("dns_fallback", true)),
		UDPPreferenceLimit: r.integer("udp_preference_limit", defaultUDPPreferenceLimit, maxUDPPreferenceLimit),
		RequestTimeout:     r.duration("request_timeout", r.duration("kdc_timeout", 0)),
		DefaultCCacheName:  r.text("default_ccache_name"),
		KCMSocket:          r.text("kcm_socket"),
	}
	r.realmOptions(&c.LibDefaults)
	for _, n := range s.Nodes() {
		if n.Section == nil {
			continue
		}
		defaults := c.LibDefaults
		r.section = n.Section
		r.realmOptions(&defaults)
		c.realmDefaults[n.Tag] = defaults
	}
	c.Warnings = append(c.Warnings, r.warnings...)
	return r.err
}

// realmOptions reads those relations that may differ by realm; d holds what
// counts where they are absent.
func (r *reader) realmOptions(d *LibDefaults) {
	d.TicketLifetime = r.duration("ticket_lifetime", d.TicketLifetime)
	if _, ok := r.section.first("canonicalize"); ok {
		d.Canonicalize = new(r.boolean("canonicalize", false))
	}
}

// A reader reads values out of one section. It keeps the first error and all
// warnings.
type reader struct {
	section  *Section
	err      error
	warnings []error
}

func (r *reader) fail(n Node, err error) {
	if r.err == nil {
		r.err = &Error{File: n.File, Line: n.Line, Err: fmt.Errorf("%s: %w", n.Tag, err)}
	}
}

func (r *reader) text(tag string) string {
	n, _ := r.section.first(tag)
	return n.Value
}

// list reads names between white space or commas.
func (r *reader) list(tag string) []string {
	n, ok := r.section.first(tag)
	if !ok {
		return nil
	}
	return strings.FieldsFunc(n.Value, func(c rune) bool { return c == ',' || strings.ContainsRune(blanks, c) })
}

// boolean reads MIT's words for yes and no, in any case. Like MIT it takes other
// words for false, "true # why" for instance, but it warns.
func (r *reader) boolean(tag string, absent bool) bool {
	n, ok := r.section.first(tag)
	if !ok {
		return absent
	}
	value, ok := truth(n.Value)
	if !ok {
		r.warnings = append(r.warnings, &Error{File: n.File, Line: n.Line, Err: fmt.Errorf(
			"%s: %q is neither true nor false and counts as false; comments need a line of their own", tag, n.Value)})
	}
	return value
}

func truth(word string) (value, ok bool) {
	switch strings.ToLower(word) {
	case "y", "yes", "true", "t", "1", "on":
		return true, true
	case "n", "no", "false", "nil", "0", "off":
		return false, true
	}
	return false, false
}

// duration reads a duration, which must not be negative.
func (r *reader) duration(tag string, absent time.Duration) time.Duration {
	n, ok := r.section.first(tag)
	if !ok {
		return absent
	}
	d, err := ParseDuration(n.Value)
	if err == nil && d < 0 {
		err = errors.New("must not be negative")
	}
	if err != nil {
		r.fail(n, err)
		return absent
	}
	return d
}

// integer reads a decimal number from 0 on; numbers above most count as most.
func (r *reader) integer(tag string, absent, most int) int {
	n, ok := r.section.first(tag)
	if !ok {
		return absent
	}
	i, err := strconv.ParseInt(n.Value, 10, 32)
	if err != nil || i < 0 {
		r.fail(n, fmt.Errorf("%q is not a number from 0 to %d", n.Value, most))
		return absent
	}
	return min(int(i), most)
}
