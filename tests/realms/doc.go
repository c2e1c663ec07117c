// Package realms holds krb5core, and the plugin on top of it, to real KDCs: MIT's krb5kdc and Samba's Active Directory
// domain controller, started by package lab. What a KDC of our own could be bent to is tested beside the code; here stands
// what only the others can show: their salts, their errors, their referrals, their clocks, their credential caches.
//
// Begin with kit_test.go.
package realms
