// Package krb5conf reads krb5.conf as MIT's libkrb5 does.
//
// There is no RFC for this file: the reference is MIT's krb5.conf(5) and what
// its library, version 1.20, was seen to make of a file. The tests hold this
// package to that, oddities included, because one file serves kinit and Caddy
// on the same machine and has to mean the same to both. Final markers (a star
// after a tag, "]" or "}") are those of MIT 1.22: what is written later under the
// name is ignored, in the same file too, and relations can have them. Before,
// only sections in later files of KRB5_CONFIG were ignored.
//
// Load reads files with what they include and returns a Config: the relations
// that a Kerberos client needs, typed and checked, with the tree of all others
// in Config.Profile. Parse does so for a text that includes nothing. Start in
// config.go; the grammar is in parse.go, the tree and its merging in
// profile.go, files and bounds in load.go.
//
// Where MIT silently ignores what the file's author probably meant (a byte order mark
// before the first section header, a subsection on one line), so does this
// package, and says so in Config.Warnings. Where MIT fails, this package does,
// with file and line. It fails as well where MIT would read something that is
// not there: on files that are not text, and on bounds of size, nesting and
// inclusion, far above what files in use have.
//
// Left out: profile modules (shared objects), Heimdal's own syntax beyond what
// both read alike, writing, and every relation that only a KDC or an acceptor
// uses (it stays in the tree).
package krb5conf
