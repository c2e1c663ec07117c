// Package enctype is the cryptography of Kerberos.
package enctype
