package caddynegotiate

import (
	"encoding/json"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("kerberos", parseKerberos)
}

// parseKerberos reads the global option. A second block adds to the first. Syntax:
//
//	kerberos {
//		krb5_conf <file>
//		realm <REALM> {
//			kdc     <host[:port]>...
//			domains <domain>...
//			netbios <name>
//			site    <site>
//		}
//		identity <name> {
//			# as in negotiate: user, keytab, ...
//		}
//		ticket_memory <size>
//		ticket_store  memory|storage [<key>]
//	}
func parseKerberos(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if existing != nil {
		// Earlier blocks are there as JSON, which the adapter made of them.
		if err := takeOver(existing, app); err != nil {
			return nil, err
		}
	}
	d.Next() // the option's name
	if d.NextArg() {
		return nil, d.Errf("unexpected %s: kerberos takes a block", d.Val())
	}
	if app.Realms == nil {
		app.Realms = make(map[string]*Realm)
	}
	if app.Identities == nil {
		app.Identities = make(map[string]*Credentials)
	}
	once := app.given()
	single := app.block()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "realm":
			err = app.readRealm(d)
		case "identity":
			err = app.readIdentity(d)
		default:
			err = single.parseOne(d, once)
		}
		if err != nil {
			return nil, err
		}
	}
	return httpcaddyfile.App{Name: "kerberos", Value: caddyconfig.JSON(app, nil)}, nil
}

// given notes what an earlier block has said and must not be said again.
func (a *App) given() Origin {
	o := make(Origin)
	if a.Krb5Conf != "" {
		o["krb5_conf"] = "an earlier kerberos block"
	}
	if a.TicketMemory != 0 {
		o["ticket_memory"] = "an earlier kerberos block"
	}
	if a.TicketStore != "" {
		o["ticket_store"] = "an earlier kerberos block"
	}
	return o
}

// block gives the readers of what may stand once.
func (a *App) block() block {
	return block{
		"krb5_conf":     readString(&a.Krb5Conf),
		"ticket_memory": readSize(func(n int64) { a.TicketMemory = n }),
		"ticket_store":  a.readStore,
		"realm":         nil, // these may stand more often; here for the list of what is known
		"identity":      nil,
	}
}

func (a *App) readStore(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 1 && (args[0] == "memory" || args[0] == "storage"):
		a.TicketStore = args[0]
	case len(args) == 2 && args[0] == "storage":
		a.TicketStore, a.TicketStoreKey = args[0], args[1]
	default:
		return d.Err("ticket_store takes memory, or storage and perhaps a key: ticket_store storage {env.TICKET_KEY}")
	}
	return nil
}

func (a *App) readRealm(d *caddyfile.Dispenser) error {
	var name string
	if !d.AllArgs(&name) {
		return d.Err("realm takes a name: realm CORP.EXAMPLE { ... }")
	}
	if _, twice := a.Realms[name]; twice {
		return d.Errf("realm %s is given twice", name)
	}
	r := &Realm{Origin: make(Origin)}
	a.Realms[name] = r
	return block{
		"kdc":     readList(&r.KDC, false),
		"domains": readList(&r.Domains, false),
		"netbios": readString(&r.NetBIOS),
		"site":    readString(&r.Site),
	}.parse(d, r.Origin)
}

func (a *App) readIdentity(d *caddyfile.Dispenser) error {
	var name string
	if !d.AllArgs(&name) {
		return d.Err("identity takes a name: identity intranet { ... }")
	}
	if _, twice := a.Identities[name]; twice {
		return d.Errf("identity %s is given twice", name)
	}
	c, here := &Credentials{Origin: make(Origin)}, d.File()+":"+strconv.Itoa(d.Line())
	a.Identities[name] = c
	if err := c.block().parse(d, c.Origin); err != nil {
		return err
	}
	c.Origin[blockOrigin] = here
	return nil
}

// takeOver takes over what an earlier block of the option said.
func takeOver(existing any, app *App) error {
	earlier, ok := existing.(httpcaddyfile.App)
	if !ok {
		return nil
	}
	return json.Unmarshal(earlier.Value, app)
}
