// Package windows runs Caddy and the unit tests as programs for Windows, under Wine: with a
// keytab, and with the tickets that Windows has ("platform"), in front of MIT's KDC and Apache.
//
// What Wine lacks is tested elsewhere: channel bindings, purging tickets and the names of
// principals by the double in internal/sspi, datagrams by the same code on other systems.
package windows
