// Package config holds what the configuration says and what it resolves to.
//
// The structs [Credentials], [Realm], [Login], [Service] and [Impersonation] are
// parts of the JSON of Caddy's modules; their field names are the JSON names.
// [ReadBlock] and the types' Readers methods read the same settings from a
// Caddyfile.
//
// A configuration is checked in two steps. Each struct's Check method needs
// nothing but the text; the Caddyfile adapter calls it, so that mistakes are
// rejected with file and line. [Credentials.Resolve] and the Compile methods need
// files, environment variables or the realm settings; modules call them when they
// are provisioned. Neither step sends anything to a KDC.
//
// Each setting is resolved once: [Resolved] has the principal, the secret, the
// KDCs, the encryption types and the sockets' options, ready for use.
//
// Errors name the setting ([SettingError]). Where this process read the
// Caddyfile, [Places] adds the file and line.
//
// Begin at subdirectives.go for the syntax of a subdirective, and at
// [Credentials.Resolve] for what it does.
package config
