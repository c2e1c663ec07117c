package kdctest

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
)

// DirectoryConfig says whom a Directory lets in and what it shows them.
type DirectoryConfig struct {
	// Acceptor has the keys of ldap/HOST.
	Acceptor *Acceptor
	// Certificate is that of the host.
	Certificate tls.Certificate
	// Find returns the attributes of an account, by their names, as far as the reader may see them;
	// false if there is no such account.
	Find func(reader *Peer, account string) (map[string][][]byte, bool)
	// Spoil changes an answer before it is sent; nil means that none is changed.
	Spoil func(message []byte) []byte
}

// Directory is a domain controller's LDAP over TLS (RFC 4511), as far as the password of a group
// managed service account takes: a SASL bind with mechanism GSS-SPNEGO, bound to the TLS
// connection and without a security layer, and a search for an account by its name. It writes
// lengths of four bytes, as Windows does.
type Directory struct {
	cfg DirectoryConfig

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	address  string
	searches int
	wg       sync.WaitGroup
}

// NewDirectory returns a directory that is not running yet.
func NewDirectory(cfg DirectoryConfig) *Directory {
	return &Directory{cfg: cfg, conns: make(map[net.Conn]struct{})}
}

// Start listens on 127.0.0.1, each time on the same port.
func (d *Directory) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.address == "" {
		d.address = "127.0.0.1:0"
	}
	l, err := tls.Listen("tcp", d.address, &tls.Config{Certificates: []tls.Certificate{d.cfg.Certificate}})
	if err != nil {
		return err
	}
	d.listener, d.address = l, l.Addr().String()
	d.wg.Go(func() { d.serve(l) })
	return nil
}

// Stop ends it and all connections.
func (d *Directory) Stop() {
	d.mu.Lock()
	if d.listener != nil {
		_ = d.listener.Close()
		d.listener = nil
	}
	for c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}

// Port is where it listens.
func (d *Directory) Port() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, port, _ := net.SplitHostPort(d.address)
	return port
}

// Searches counts the searches that were answered.
func (d *Directory) Searches() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.searches
}

func (d *Directory) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns[c] = struct{}{}
		d.mu.Unlock()
		d.wg.Go(func() {
			_ = d.talk(c)
			d.mu.Lock()
			delete(d.conns, c)
			d.mu.Unlock()
			_ = c.Close()
		})
	}
}

// The results of LDAP that a directory sends (RFC 4511, Section 4.1.9).
const (
	ldapSuccess            = 0
	ldapProtocolError      = 2
	ldapInvalidCredentials = 49
	ldapUnwilling          = 53
)

// The operations, by their tags.
const (
	ldapBind            asn1.Tag = 0x60
	ldapBindResponse    asn1.Tag = 0x61
	ldapSearch          asn1.Tag = 0x63
	ldapSearchEntry     asn1.Tag = 0x64
	ldapSearchDone      asn1.Tag = 0x65
	ldapSearchReference asn1.Tag = 0x73
)

var errLDAP = errors.New("malformed LDAP message")

// talk answers the messages of one connection.
func (d *Directory) talk(c net.Conn) error {
	in := bufio.NewReader(c)
	var reader *Peer
	for {
		id, tag, op, err := readLDAP(in)
		if err != nil {
			return err
		}
		send := func(tag asn1.Tag, content []byte) error {
			message := ldapElement(asn1.SEQUENCE, ldapElement(asn1.INTEGER, []byte{byte(id)}), ldapElement(tag, content))
			if d.cfg.Spoil != nil {
				message = d.cfg.Spoil(message)
			}
			_, err := c.Write(message)
			return err
		}
		switch tag {
		case ldapBind:
			var code byte
			var reply []byte
			reader, code, reply = d.bind(op)
			err = send(ldapBindResponse, append(ldapResult(code), ldapElement(0x87, reply)...))
		case ldapSearch:
			err = d.search(reader, op, send)
		default:
			return errLDAP
		}
		if err != nil {
			return err
		}
	}
}

// readLDAP reads a message with an ID below 128.
func readLDAP(in *bufio.Reader) (id int, tag asn1.Tag, op cryptobyte.String, err error) {
	head, err := in.Peek(2)
	if err != nil {
		return 0, 0, nil, err
	}
	size := 2 + int(head[1])
	if head[1] >= 0x80 {
		n := int(head[1] & 0x7f)
		if head, err = in.Peek(2 + n); err != nil || n > 3 {
			return 0, 0, nil, errLDAP
		}
		size = 0
		for _, b := range head[2:] {
			size = size<<8 | int(b)
		}
		size += 2 + n
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(in, frame); err != nil {
		return 0, 0, nil, err
	}
	s, body := cryptobyte.String(frame), cryptobyte.String(nil)
	if !s.ReadASN1(&body, asn1.SEQUENCE) || !body.ReadASN1Integer(&id) || id > 0x7f || !body.ReadAnyASN1(&op, &tag) {
		return 0, 0, nil, errLDAP
	}
	return id, tag, op, nil
}

// bind judges a bind as Samba does.
func (d *Directory) bind(op cryptobyte.String) (reader *Peer, code byte, reply []byte) {
	var version int
	var name, sasl, mechanism, token cryptobyte.String
	if !op.ReadASN1Integer(&version) || version != 3 || !op.ReadASN1(&name, asn1.OCTET_STRING) || !op.ReadASN1(&sasl, 0xa3) ||
		!sasl.ReadASN1(&mechanism, asn1.OCTET_STRING) || string(mechanism) != "GSS-SPNEGO" || !sasl.ReadASN1(&token, asn1.OCTET_STRING) {
		return nil, ldapProtocolError, nil
	}
	leaf, err := x509.ParseCertificate(d.cfg.Certificate.Certificate[0])
	if err != nil {
		return nil, ldapProtocolError, nil
	}
	channel, _ := EndPointBindings(leaf)
	reader, reply, err = d.cfg.Acceptor.Accept(token, &channel)
	switch {
	case err != nil:
		return nil, ldapInvalidCredentials, reply
	case reader.GSSFlags&uint32(gss.GSS_C_CONF_FLAG|gss.GSS_C_INTEG_FLAG) != 0:
		return nil, ldapUnwilling, nil
	}
	return reader, ldapSuccess, reply
}

// search answers a search for an account with its entry, a reference to another domain, as a search
// from a domain's root has, and the end.
func (d *Directory) search(reader *Peer, op cryptobyte.String, send func(asn1.Tag, []byte) error) error {
	var base, filter, attribute, account, names cryptobyte.String
	var skipped cryptobyte.String
	ok := op.ReadASN1(&base, asn1.OCTET_STRING)
	for _, tag := range []asn1.Tag{asn1.ENUM, asn1.ENUM, asn1.INTEGER, asn1.INTEGER, asn1.BOOLEAN} {
		ok = ok && op.ReadASN1(&skipped, tag)
	}
	ok = ok && op.ReadASN1(&filter, 0xa3) && filter.ReadASN1(&attribute, asn1.OCTET_STRING) && string(attribute) == "sAMAccountName" &&
		filter.ReadASN1(&account, asn1.OCTET_STRING) && op.ReadASN1(&names, asn1.SEQUENCE)
	if !ok || reader == nil {
		return send(ldapSearchDone, ldapResult(ldapProtocolError))
	}
	if attributes, found := d.cfg.Find(reader, string(account)); found {
		var list []byte
		for name, values := range attributes {
			var set []byte
			for _, v := range values {
				set = append(set, ldapElement(asn1.OCTET_STRING, v)...)
			}
			list = append(list, ldapElement(asn1.SEQUENCE, ldapElement(asn1.OCTET_STRING, []byte(name)), ldapElement(asn1.SET, set))...)
		}
		entry := append(ldapElement(asn1.OCTET_STRING, append([]byte("CN=x,"), base...)), ldapElement(asn1.SEQUENCE, list)...)
		if err := send(ldapSearchEntry, entry); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.searches++
	d.mu.Unlock()
	if err := send(ldapSearchReference, ldapElement(asn1.OCTET_STRING, append([]byte("ldap://DomainDnsZones/"), base...))); err != nil {
		return err
	}
	return send(ldapSearchDone, ldapResult(ldapSuccess))
}

func ldapResult(code byte) []byte {
	b := ldapElement(asn1.ENUM, []byte{code})
	return append(append(b, ldapElement(asn1.OCTET_STRING)...), ldapElement(asn1.OCTET_STRING)...)
}

// ldapElement is an element with this content.
func ldapElement(tag asn1.Tag, content ...[]byte) []byte {
	b := []byte{byte(tag), 0x84, 0, 0, 0, 0}
	for _, c := range content {
		b = append(b, c...)
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)-6))
	return b
}
