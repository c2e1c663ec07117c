// Package ccache reads and writes credential caches: the files in which kinit
// and other clients of Kerberos keep tickets with their session keys.
//
// The format is MIT's (its documentation, "Credential cache file format"; there
// is no RFC), which Heimdal, Java and Samba share. Versions 1 to 4 are read, 1
// and 2 in either byte order because they are in that of the machine that wrote
// them; version 4 is written. Configuration entries, which look like tickets,
// are kept apart from them; what is marked as removed is passed over.
//
// Start with Parse, then CCache.TGT. Parse takes bytes: files, their
// permissions and their changes are the caller's concern. Left out: caches that
// are no files (KCM, KEYRING, MEMORY, the system's own) and collections (DIR),
// each of whose members is a file that can be named.
package ccache
