// Package keytab reads and writes keytabs: files of long-term keys, by which a
// service or a machine logs in without a password.
//
// The format is MIT's (its documentation, "Keytab file format"; there is no
// RFC). Version 2, big-endian, is what everyone writes today, Windows' ktpass,
// Samba and Heimdal included; version 1, in the byte order of the machine that
// wrote it, is read in either order. Holes that removed entries left, the end
// marker, 32-bit key version numbers and the flags that Heimdal appends are
// understood. Keys of types that this client does not implement are entries
// like others, which cannot be used but are written again.
//
// Start with Parse, then Keytab.Keys or Keytab.Key. Parse takes bytes: files,
// their permissions and their changes are the caller's concern. Left out:
// keytabs in memory, in LDAP or behind the system's name prefixes.
package keytab
