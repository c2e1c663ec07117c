// Package windows runs Caddy and the unit tests as programs for Windows, under Wine: with a
// keytab, and with the tickets that Windows has ("platform"), in front of MIT's KDC and Apache.
//
// What Wine lacks is tested elsewhere: channel bindings, purging tickets and the names of
// principals by the double in internal/sspi. The unit tests are compiled with a library of Go that
// Wine's datagrams and deletions satisfy (lab.WindowsTest), Caddy with Go's own.
package windows
