// Package realms holds krb5core, and the plugin on top of it, to real KDCs: MIT's krb5kdc and Samba's Active Directory
// domain controller, started by package lab. What the in-memory KDC can show is tested beside the code; here is
// what only the others can show: their salts, their errors, their referrals, their clocks, their credential caches.
//
// Begin with client_test.go.
package realms
