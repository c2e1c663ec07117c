// Package ccache reads and writes credential caches, in which kinit and other clients of
// Kerberos keep tickets with their session keys.
//
// The format of files is MIT's (its documentation, "Credential cache file format"; there
// is no RFC), which Heimdal, Java and Samba share. Versions 1 to 4 are read, 1
// and 2 in either byte order because they are in that of the machine that wrote
// them; version 4 is written. Configuration entries, which look like tickets,
// are kept apart from them; what is marked as removed is passed over.
//
// A [Source] is a cache as a program finds it: a file, a folder of files (DIR), a cache of
// SSSD's or Heimdal's daemon (KCM), keys of the Linux kernel (KEYRING). It is only read.
// The last two encode principals and credentials as a file does, and are filled whenever
// their user logs in.
//
// Start with [Open] for names as in KRB5CCNAME, or with [Parse] for bytes, then
// [CCache.TGT]. Left out: caches that only the library which fills them can read (MEMORY,
// API, MSLSA), and the offsets of clocks that KCM and KEYRING keep beside a cache, because
// some daemons return garbage for them.
package ccache
