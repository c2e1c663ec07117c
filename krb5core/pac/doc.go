// Package pac reads the Privilege Attribute Certificate ([MS-PAC]), in which the KDC of an Active
// Directory domain tells a service about the client of a ticket: the account's name, flags,
// security identifiers and groups. It is in the ticket's authorization data.
//
// [OfTicket] is the way in: it returns the PAC of a decrypted ticket once the server's signature
// and the client have been verified. A service cannot verify the signatures of the KDC (buffers 7,
// 16 and 19), which have the KDC's own key, and this package does not claim to.
//
// MIT's and Heimdal's own KDCs issue PACs without LOGON_INFO and UPN_DNS_INFO, or none.
//
// Begin with pac.go. The buffers are in logoninfo.go and upninfo.go, the encoding of the former
// ([MS-RPCE], NDR) in ndr.go.
package pac
