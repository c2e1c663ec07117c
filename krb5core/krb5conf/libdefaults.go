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
	permitted := r.list("permitted_enctypes", nil)
	c.LibDefaults = LibDefaults{
		DefaultRealm:       r.text("default_realm"),
		PermittedEnctypes:  permitted,
		DefaultTktEnctypes: r.list("default_tkt_enctypes", permitted),
		DefaultTGSEnctypes: r.list("default_tgs_enctypes", permitted),
		AllowWeakCrypto:    r.boolean("allow_weak_crypto", false),
		AllowRC4:           r.boolean("allow_rc4", false),
		AllowDES3:          r.boolean("allow_des3", false),
		ClockSkew:          r.duration("clockskew", 5*time.Minute),
		KDCTimeSync:        r.integer("kdc_timesync", 1, 1) != 0,
		DNSLookupKDC:       r.laxBoolean("dns_lookup_kdc", r.laxBoolean("dns_fallback", true)),
		DNSLookupRealm:     r.laxBoolean("dns_lookup_realm", r.laxBoolean("dns_fallback", false)),
		DNSURILookup:       r.boolean("dns_uri_lookup", true),
		UDPPreferenceLimit: r.integer("udp_preference_limit", defaultUDPPreferenceLimit, maxUDPPreferenceLimit),
		RequestTimeout:     r.duration("request_timeout", r.duration("kdc_timeout", 0)),
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
	d.RenewLifetime = r.duration("renew_lifetime", d.RenewLifetime)
	d.Forwardable = r.laxBoolean("forwardable", d.Forwardable)
	d.Proxiable = r.laxBoolean("proxiable", d.Proxiable)
	d.Canonicalize = r.laxBoolean("canonicalize", d.Canonicalize)
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
func (r *reader) list(tag string, absent []string) []string {
	n, ok := r.section.first(tag)
	if !ok {
		return absent
	}
	return strings.FieldsFunc(n.Value, func(c rune) bool { return c == ',' || strings.ContainsRune(blanks, c) })
}

// boolean reads MIT's words for yes and no, in any case.
func (r *reader) boolean(tag string, absent bool) bool {
	n, ok := r.section.first(tag)
	if !ok {
		return absent
	}
	value, ok := truth(n.Value)
	if !ok {
		r.fail(n, fmt.Errorf("%q is neither true nor false: write one of these", n.Value))
	}
	return value
}

// laxBoolean reads a boolean that MIT takes for false if it does not know the
// word, "true # why" for instance.
func (r *reader) laxBoolean(tag string, absent bool) bool {
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

// integer reads a decimal number from 0 on; what is above most counts as most.
func (r *reader) integer(tag string, absent, most int) int {
	n, ok := r.section.first(tag)
	if !ok {
		return absent
	}
	i, err := strconv.ParseInt(n.Value, 10, 32)
	if err != nil || i < 0 {
		r.fail(n, fmt.Errorf("%q is no number from 0 to %d", n.Value, most))
		return absent
	}
	return min(int(i), most)
}
