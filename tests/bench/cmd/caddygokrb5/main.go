// Command caddygokrb5 is Caddy with its standard modules and a handler that sets
// gokrb5's Negotiate header on each request, like a simple plugin based on that
// library. The benchmarks compare the plugin with it.
package main

import (
	"net/http"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/spnego"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func init() {
	caddy.RegisterModule(handler{})
	httpcaddyfile.RegisterHandlerDirective("gokrb5", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		p := new(handler)
		return p, p.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("gokrb5", httpcaddyfile.Before, "reverse_proxy")
}

func main() { caddycmd.Main() }

// handler authenticates requests with gokrb5:
//
//	gokrb5 <user> <realm> <spn> <keytab> <krb5.conf>
type handler struct {
	Krb5Conf string `json:"krb5_conf"`
	User     string `json:"user"`
	Realm    string `json:"realm"`
	Keytab   string `json:"keytab"`
	SPN      string `json:"spn"`

	client *client.Client
}

// CaddyModule returns the Caddy module information.
func (handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.gokrb5", New: func() caddy.Module { return new(handler) }}
}

// UnmarshalCaddyfile reads the directive.
func (h *handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&h.User, &h.Realm, &h.SPN, &h.Keytab, &h.Krb5Conf) {
		return d.ArgErr()
	}
	return nil
}

// Provision reads the files.
func (h *handler) Provision(caddy.Context) error {
	cfg, err := config.Load(h.Krb5Conf)
	if err != nil {
		return err
	}
	keys, err := keytab.Load(h.Keytab)
	if err != nil {
		return err
	}
	h.client = client.NewWithKeytab(h.User, h.Realm, keys, cfg, client.DisablePAFXFAST(true))
	return nil
}

// Cleanup stops gokrb5's goroutines.
func (h *handler) Cleanup() error {
	if h.client != nil {
		h.client.Destroy()
	}
	return nil
}

// ServeHTTP sets the header of the request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err := spnego.SetSPNEGOHeader(h.client, r, h.SPN); err != nil {
		return caddyhttp.Error(http.StatusBadGateway, err)
	}
	return next.ServeHTTP(w, r)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*handler)(nil)
	_ caddy.CleanerUpper          = (*handler)(nil)
	_ caddyfile.Unmarshaler       = (*handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*handler)(nil)
)
