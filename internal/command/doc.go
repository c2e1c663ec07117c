// Package command adds `caddy kerberos` to Caddy's command line: it checks configurations against
// the real KDCs and upstreams, shows and flushes the tickets of a running Caddy, edits keytabs and
// makes single tokens.
//
// The package registers its command when it is imported. A check makes the plugin's modules through
// Caddy's registry and asks them through config.Inspector, so that it judges with the values that
// the server uses, and never imports the packages that serve requests.
package command
