package caddynegotiate

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/session"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("kerberos", parseKerberos)
	httpcaddyfile.RegisterHandlerDirective("negotiate", parseHandler)
	httpcaddyfile.RegisterDirectiveOrder("negotiate", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterHandlerDirective("negotiate_auth", parseAuth)
	httpcaddyfile.RegisterDirectiveOrder("negotiate_auth", httpcaddyfile.After, "basic_auth")
}

// parseHandler sets up the handler from the `negotiate` directive.
func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	negotiate [<matcher>] [<identity>] {
//		# credentials, unless <identity> is named
//		user              <name@REALM>
//		realm             <REALM>
//		keytab            <file>
//		password          <{env.NAME}|{file./path}>
//		password_file     <file>
//		ccache            <name>
//		kdc               <host[:port]>...
//		use_tcp           [on|off]
//		encryption_types  <type>...
//		allow_weak_crypto [on|off]
//		canonicalize      [on|off]
//		timeout           <duration>
//		krb5_conf         <file>
//		kdc_options {
//			...
//		}
//		fast_armor        keytab <file> [<principal>]|ccache <name>
//		login_at_start    [on|off]
//		trace             [on|off|packets <file>]
//
//		# service and token
//		spn               <HTTP/host>
//		allow_spns        <glob>...
//		delegate          [always]
//		mutual_auth       off|on|required
//		replay_buffer     <size>
//		raw_kerberos      [on|off]
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	places, err := config.ReadBlock(d, &h.Login, h.Service.Readers(), nil)
	if err != nil {
		return err
	}
	places.Note(h.block()...)
	return places.Locate(h.check())
}

// parseAuth sets up the handler from the `negotiate_auth` directive.
func parseAuth(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Auth)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	negotiate_auth [<matcher>] [<identity>] {
//		# credentials as in negotiate, with a keytab or a password, unless <identity> is named
//
//		spn               <HTTP/host>...
//		realms            <REALM>...
//		allow_groups      <SID>...
//		deny_groups       <SID>...
//		channel_binding   auto|required|off|cert <file>
//		session           [<duration>] {
//			idle          <duration>
//			sign_off      <path>
//			cookie        <name>
//		}
//	}
func (a *Auth) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	places, err := config.ReadBlock(d, &a.Login, a.Acceptance.Readers().With(config.Block{"session": a.readSession}), nil)
	if err != nil {
		return err
	}
	places.Note(a.block()...)
	return places.Locate(a.check())
}

func (a *Auth) readSession(d *caddyfile.Dispenser) error {
	a.Session = new(session.Settings)
	return a.Session.ReadCaddyfile(d)
}

// UnmarshalCaddyfile reads the transport. Syntax:
//
//	transport negotiate [<identity>] {
//		# all of the negotiate directive's, with spn optional, and:
//		channel_binding   auto|off|required|cert <file>
//		per_connection    [on|off]
//		impersonate       <placeholder>|client_ticket
//		trust_header      <header>
//		user_realm        <REALM>
//		allow_users       <glob>...
//		deny_users        <glob>...
//		user_connections  <number>
//		share_connections [on|off]
//
//		# all of transport http's
//	}
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the transport's name
	own := t.Service.Readers().With(t.Impersonation.Readers()).With(config.Block{
		"channel_binding": config.ReadChannelBinding(&t.ChannelBinding, &t.ChannelBindingCert),
		"per_connection":  config.ReadSwitch(&t.PerConnection),
	})
	places, err := config.ReadBlock(d, &t.Login, own, t.HTTPTransport)
	if err != nil {
		return err
	}
	places.Note(t.block()...)
	return places.Locate(t.check())
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
	app := &App{Realms: make(map[string]*config.Realm), Identities: make(map[string]*config.Credentials)}
	if earlier, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(earlier.Value, app); err != nil {
			return nil, err
		}
	}
	d.Next() // the option's name
	if d.NextArg() {
		return nil, d.Errf("unexpected %s: kerberos takes a block", d.Val())
	}
	earlier := map[string]bool{"krb5_conf": app.Krb5Conf != "", "ticket_memory": app.TicketMemory != 0, "ticket_store": app.TicketStore != ""}
	places := config.NewPlaces(d)
	block := config.Block{
		"krb5_conf":     config.ReadString(&app.Krb5Conf),
		"ticket_memory": app.readTicketMemory,
		"ticket_store":  app.readTicketStore,
		"realm":         app.readRealm,
		"identity":      app.readIdentity,
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if earlier[d.Val()] {
			return nil, d.Errf("%s is set twice, also in an earlier kerberos block", d.Val())
		}
		delete(places, "realm") // these two may be repeated
		delete(places, "identity")
		if err := block.ParseOne(d, places); err != nil {
			return nil, err
		}
	}
	return httpcaddyfile.App{Name: "kerberos", Value: caddyconfig.JSON(app, nil)}, nil
}

func (a *App) readTicketMemory(d *caddyfile.Dispenser) error {
	if err := config.ReadSize(func(n int64) { a.TicketMemory = n })(d); err != nil {
		return err
	}
	if err := a.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (a *App) readTicketStore(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 1 && (args[0] == "memory" || args[0] == "storage"):
		a.TicketStore = args[0]
	case len(args) == 2 && args[0] == "storage":
		a.TicketStore, a.TicketStoreKey = args[0], args[1]
	default:
		return d.Err("ticket_store takes memory, or storage with an optional key: ticket_store storage {env.TICKET_KEY}")
	}
	return nil
}

func (a *App) readRealm(d *caddyfile.Dispenser) error {
	realm := new(config.Realm)
	check := func() error { return cmp.Or(realm.Check(), config.CheckNetBIOS(a.Realms)) }
	return readNamed(d, a.Realms, "CORP.EXAMPLE", realm, realm.Readers(), check)
}

func (a *App) readIdentity(d *caddyfile.Dispenser) error {
	credentials := new(config.Credentials)
	return readNamed(d, a.Identities, "intranet", credentials, credentials.Readers(), credentials.Check)
}

// readNamed reads `realm NAME { ... }` or `identity NAME { ... }` into value.
func readNamed[T any](d *caddyfile.Dispenser, all map[string]*T, example string, value *T, block config.Block, check func() error) error {
	places, kind := config.NewPlaces(d), d.Val()
	var name string
	if !d.AllArgs(&name) {
		return d.Errf("%s takes a name: %s %s { ... }", kind, kind, example)
	}
	if all[name] != nil {
		return d.Errf("%s %s is defined twice", kind, name)
	}
	all[name] = value
	if err := block.Parse(d, places); err != nil {
		return err
	}
	places.Note(kind, name, value)
	if err := check(); err != nil {
		return places.Locate(fmt.Errorf("%s %s: %w", kind, name, err))
	}
	return nil
}
