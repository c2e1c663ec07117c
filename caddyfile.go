package caddynegotiate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("negotiate", parseHandler)
	httpcaddyfile.RegisterDirectiveOrder("negotiate", httpcaddyfile.Before, "reverse_proxy")
}

// A block maps each subdirective to what reads it. The dispenser stands on the
// subdirective's name.
type block map[string]func(d *caddyfile.Dispenser) error

// with gives a block of both.
func (b block) with(other block) block {
	both := maps.Clone(b)
	maps.Copy(both, other)
	return both
}

// parse reads every subdirective of the block that the dispenser stands before,
// refuses those that are unknown or given twice, and notes where each stood.
func (b block) parse(d *caddyfile.Dispenser, origin Origin) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := b.parseOne(d, origin); err != nil {
			return err
		}
	}
	return nil
}

func (b block) parseOne(d *caddyfile.Dispenser, origin Origin) error {
	name := d.Val()
	read, ok := b[name]
	if !ok {
		return d.Errf("unrecognized subdirective %s%s", name, b.suggest(name))
	}
	if at, twice := origin[name]; twice {
		return d.Errf("%s is given twice; it stands at %s already", name, at)
	}
	origin[name] = d.File() + ":" + strconv.Itoa(d.Line())
	return read(d)
}

// The readers of one subdirective's arguments.

func readString(to *string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if !d.AllArgs(to) {
			return d.Errf("%s takes exactly one value", name)
		}
		if *to == "" {
			return d.Errf("%s: the value is empty", name)
		}
		return nil
	}
}

func readList(to *[]string, commas bool) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		for _, arg := range d.RemainingArgs() {
			if !commas {
				*to = append(*to, arg)
				continue
			}
			*to = append(*to, strings.FieldsFunc(arg, func(r rune) bool { return r == ',' || r == ' ' })...)
		}
		if len(*to) == 0 {
			return d.Errf("%s takes one value or more", name)
		}
		return nil
	}
}

// readSwitch reads `name [on|off]`.
func readSwitch(set func(on bool)) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		switch args := d.RemainingArgs(); {
		case len(args) == 0, len(args) == 1 && args[0] == "on":
			set(true)
		case len(args) == 1 && args[0] == "off":
			set(false)
		default:
			return d.Errf("%s takes nothing, on or off; got %s", name, strings.Join(args, " "))
		}
		return nil
	}
}

func readDuration(to *caddy.Duration) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		var arg string
		if err := readString(&arg)(d); err != nil {
			return err
		}
		dur, err := caddy.ParseDuration(arg)
		if err != nil || dur <= 0 {
			return d.Errf("%q is no time span; write e.g. 10s or 1m30s", arg)
		}
		*to = caddy.Duration(dur)
		return nil
	}
}

// readSize reads a number of bytes, with or without a unit.
func readSize(set func(bytes int64)) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		var arg string
		if err := readString(&arg)(d); err != nil {
			return err
		}
		n, err := humanize.ParseBytes(arg)
		if err != nil || n > 1<<40 {
			return d.Errf("%q is no size; write e.g. 64KiB", arg)
		}
		set(int64(n))
		return nil
	}
}

func readInt(to *int, low, high int) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var arg string
		if err := readString(&arg)(d); err != nil {
			return err
		}
		n, err := strconv.Atoi(arg)
		if err != nil || n < low || n > high {
			return d.Errf("%s takes a number from %d to %d; got %s", name, low, high, arg)
		}
		*to = n
		return nil
	}
}

// readOneOf reads a word out of a few.
func readOneOf(to *string, words ...string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if err := readString(to)(d); err != nil {
			return err
		}
		if !slices.Contains(words, *to) {
			return d.Errf("%s takes %s; got %s", name, strings.Join(words, ", "), *to)
		}
		return nil
	}
}

// block gives the readers of the subdirectives that say who we are.
func (c *Credentials) block() block {
	return block{
		"user":              readString(&c.User),
		"realm":             readString(&c.Realm),
		"keytab":            readString(&c.Keytab),
		"password":          readString(&c.Password),
		"password_file":     readString(&c.PasswordFile),
		"ccache":            readString(&c.CCache),
		"kdc":               c.readKDCs,
		"use_tcp":           readSwitch(func(on bool) { c.UseTCP = on }),
		"encryption_types":  c.readEncryptionTypes,
		"allow_weak_crypto": readSwitch(func(on bool) { c.AllowWeakCrypto = on }),
		"timeout":           readDuration(&c.Timeout),
		"krb5_conf":         readString(&c.Krb5Conf),
		"kdc_options":       c.readKDCOptions,
		"fast_armor":        c.readFASTArmor,
		"login_at_start":    readSwitch(func(on bool) { c.LoginAtStart = &on }),
		"trace":             c.readTrace,
	}
}

func (c *Credentials) readKDCs(d *caddyfile.Dispenser) error {
	if err := readList(&c.KDC, false)(d); err != nil {
		return err
	}
	if _, err := c.servers(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *Credentials) readEncryptionTypes(d *caddyfile.Dispenser) error {
	return readList(&c.EncryptionTypes, true)(d)
}

func (c *Credentials) readTrace(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 0, len(args) == 1 && args[0] == "on":
		c.Trace = true
	case len(args) == 1 && args[0] == "off":
		c.Trace = false
	case len(args) == 2 && args[0] == "packets":
		c.Trace, c.TracePackets = true, args[1]
	default:
		return d.Err("trace takes nothing, on, off, or packets FILE")
	}
	return nil
}

func (c *Credentials) readKDCOptions(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return d.Err("kdc_options takes a block: kdc_options { ... }")
	}
	o := new(KDCOptions)
	c.KDCOptions = o
	bytes := func(to *int) func(*caddyfile.Dispenser) error {
		return readSize(func(n int64) { *to = int(min(n, 1<<30)) })
	}
	return block{
		"local_address":        readString(&o.LocalAddress),
		"ip_version":           o.readIPVersion,
		"dscp":                 readInt(&o.DSCP, 0, 63),
		"dont_fragment":        readSwitch(func(on bool) { o.DontFragment = on }),
		"read_buffer":          bytes(&o.ReadBuffer),
		"write_buffer":         bytes(&o.WriteBuffer),
		"max_reply_size":       bytes(&o.MaxReplySize),
		"udp_preference_limit": readInt(&o.UDPPreferenceLimit, 1, 65507),
		"proxy":                readString(&o.Proxy),
		"tls_ca":               readString(&o.TLSCA),
		"tls_client_cert": func(d *caddyfile.Dispenser) error {
			if !d.AllArgs(&o.TLSClientCert, &o.TLSClientKey) {
				return d.Err("tls_client_cert takes two values: CERT KEY")
			}
			return nil
		},
	}.parse(d, Origin{})
}

func (o *KDCOptions) readIPVersion(d *caddyfile.Dispenser) error {
	if err := readInt(&o.IPVersion, 4, 6)(d); err != nil {
		return err
	}
	if o.IPVersion == 5 {
		return d.Err("ip_version takes 4 or 6; got 5")
	}
	return nil
}

// block gives the readers of the subdirectives that say what we ask for.
func (r *Request) block() block {
	return block{
		"spn":         readString(&r.SPN),
		"allow_spns":  readList(&r.AllowSPNs, false),
		"mutual_auth": readOneOf(&r.MutualAuth, "off", "on", "required"),
		"replay_buffer": readSize(func(n int64) {
			r.ReplayBuffer = &n
		}),
		"raw_kerberos": readSwitch(func(on bool) { r.RawKerberos = on }),
		"delegate": func(d *caddyfile.Dispenser) error {
			switch args := d.RemainingArgs(); {
			case len(args) == 0:
				r.Delegate = "marked"
			case len(args) == 1 && args[0] == "always":
				r.Delegate = "always"
			default:
				return d.Err("delegate takes nothing or always")
			}
			return nil
		},
	}
}

// parseHandler sets up the handler from the `negotiate` directive.
func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	negotiate [<matcher>] [<identity>] {
//		# who we are, unless <identity> names it
//		user              <name@REALM>
//		realm             <REALM>
//		keytab            <file>
//		password          <{env.NAME}|{file./path}>
//		password_file     <file>
//		ccache            <file>
//		kdc               <host[:port]>...
//		use_tcp           [on|off]
//		encryption_types  <type>...
//		allow_weak_crypto
//		timeout           <duration>
//		krb5_conf         <file>
//		kdc_options {
//			...
//		}
//		fast_armor        keytab <file> [<principal>]|ccache <file>
//		login_at_start    [on|off]
//		trace             [on|off|packets <file>]
//
//		# what we ask for
//		spn               <HTTP/host>
//		allow_spns        <glob>...
//		delegate          [always]
//		mutual_auth       off|on|required
//		replay_buffer     <size>
//		raw_kerberos      [on|off]
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	return unmarshalBlock(d, &h.Login, &h.Request, nil, nil)
}

// unmarshalBlock reads `[identity] { ... }` for the handler and the transport.
// rest reads the subdirectives that only the caller knows; others, if not nil,
// receives the tokens of those that nobody here knows.
func unmarshalBlock(d *caddyfile.Dispenser, login *Login, request *Request, rest block, others *[]caddyfile.Token) error {
	if d.NextArg() {
		login.Identity = d.Val()
	}
	if d.NextArg() {
		return d.Errf("unexpected %s: at most the name of an identity stands here", d.Val())
	}
	credentials := new(Credentials)
	origin, here := make(Origin), d.File()+":"+strconv.Itoa(d.Line())
	all := credentials.block().with(request.block()).with(rest)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if _, known := all[d.Val()]; !known && others != nil {
			segment := d.NextSegment()
			if err := all.checkForeign(segment); err != nil {
				return err
			}
			*others = append(*others, segment...)
			continue
		}
		if err := all.parseOne(d, origin); err != nil {
			return err
		}
	}
	request.Origin, credentials.Origin = splitOrigin(origin, credentials.block())
	request.Origin[blockOrigin] = here
	if len(credentials.Origin) == 0 {
		if login.Identity == "" {
			return fmt.Errorf("%s: who are we? name an identity of the global kerberos option, or give user and keytab here", here)
		}
		return nil
	}
	if login.Identity != "" {
		setting := slices.Min(slices.Collect(maps.Keys(credentials.Origin)))
		return fmt.Errorf("%s: %s is given beside the identity %s; keep one of them", credentials.Origin[setting], setting, login.Identity)
	}
	credentials.Origin[blockOrigin] = here
	login.Credentials = credentials
	return nil
}

// splitOrigin parts what a block noted into ours and what the given block reads.
func splitOrigin(origin Origin, theirs block) (own, other Origin) {
	own, other = make(Origin), make(Origin)
	for setting, at := range origin {
		if _, ok := theirs[setting]; ok {
			other[setting] = at
		} else {
			own[setting] = at
		}
	}
	return own, other
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
