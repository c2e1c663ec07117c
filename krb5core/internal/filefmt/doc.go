// Package filefmt holds what MIT's binary file formats have in common, keytabs
// and credential caches: a version number after the byte 5, integers in the
// byte order of the writer, data with its length before it, 32-bit times.
//
// Begin with [Reader]. The layout of the records is the concern of packages
// keytab and ccache.
package filefmt
