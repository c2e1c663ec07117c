// Package adminapi is the plugin's part of Caddy's admin endpoint: the module
// `admin.api.kerberos` ([Admin]), and the JSON that it returns ([IdentityView],
// [TicketView], [FlushView]), which `caddy kerberos` reads.
//
// No key, ticket or token is ever returned.
package adminapi
