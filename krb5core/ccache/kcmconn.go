package ccache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// The operations of the KCM protocol that read.
const (
	opGetPrincipal     = 8     // name -> principal
	opGetCredUUIDList  = 9     // name -> *uuid
	opGetCredByUUID    = 10    // name, uuid -> credential
	opGetCacheUUIDList = 18    // -> *uuid
	opGetCacheByUUID   = 19    // uuid -> name
	opGetDefaultCache  = 20    // -> name
	opGetCredList      = 13001 // name -> u32 count, *(u32 length, credential); MIT's and SSSD's
)

const uuidLen = 16

// Error codes of the protocol are those of MIT's library.
const (
	codeInternal = -1765328188 // KRB5_FCC_INTERNAL, Heimdal's for an operation that it does not know
	codeNoFile   = -1765328189 // KRB5_FCC_NOFILE
	codeNotFound = -1765328243 // KRB5_CC_NOTFOUND
	codeEnd      = -1765328242 // KRB5_CC_END
)

// errKCMUnknown is for an operation that the daemon does not know.
var errKCMUnknown = errors.New("the daemon does not know the operation")

func kcmError(code int32) error {
	switch code {
	case 0:
		return nil
	case codeInternal:
		return errKCMUnknown
	case codeNoFile, codeNotFound, codeEnd:
		return ErrEmpty
	}
	return fmt.Errorf("error %d", code)
}

// kcmConn is a connection to a KCM daemon, for one reading.
type kcmConn struct {
	conn net.Conn
	stop func() bool
	left int // bytes that may still be received
}

// dialKCM connects to the daemon. The connection ends with the context.
func dialKCM(ctx context.Context, socket string) (*kcmConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &kcmConn{conn: conn, stop: stop, left: maxSize}, nil
}

func (c *kcmConn) close() {
	c.stop()
	c.conn.Close()
}

// call sends a request and returns what follows the status in the reply:
//
//	request = u32 length, u8 2, u8 0, u16 operation, arguments
//	reply   = u32 length, i32 status, then length bytes: i32 status, result
func (c *kcmConn) call(operation uint16, arguments []byte) ([]byte, error) {
	request := binary.BigEndian.AppendUint32(nil, uint32(4+len(arguments)))
	request = binary.BigEndian.AppendUint16(append(request, 2, 0), operation)
	if _, err := c.conn.Write(append(request, arguments...)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, err
	}
	if err := kcmError(int32(binary.BigEndian.Uint32(head[4:]))); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if int64(length) > int64(c.left) {
		return nil, fmt.Errorf("a reply of %d bytes: %w", length, errTooBig)
	}
	c.left -= int(length)
	// What is promised is not allocated before it comes.
	reply, err := io.ReadAll(io.LimitReader(c.conn, int64(length)))
	if err != nil {
		return nil, err
	}
	if len(reply) < int(length) || length < 4 {
		return nil, fmt.Errorf("a reply of %d bytes, of which %d came: %w", length, len(reply), io.ErrUnexpectedEOF)
	}
	return reply[4:], kcmError(int32(binary.BigEndian.Uint32(reply)))
}

// nameArgument is the encoding of a name.
func nameArgument(name string) []byte { return append([]byte(name), 0) }

// callName makes a call whose result is a name.
func (c *kcmConn) callName(operation uint16, arguments []byte) (string, error) {
	reply, err := c.call(operation, arguments)
	if err != nil {
		return "", err
	}
	name, rest, ended := bytes.Cut(reply, []byte{0})
	if !ended || len(rest) > 0 || len(name) == 0 || bytes.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("a reply that is no name: %.40q", reply)
	}
	return string(name), nil
}

// callUUIDs makes a call whose result is a list of UUIDs.
func (c *kcmConn) callUUIDs(operation uint16, arguments []byte) ([][]byte, error) {
	reply, err := c.call(operation, arguments)
	if err != nil {
		return nil, err
	}
	if len(reply)%uuidLen != 0 {
		return nil, fmt.Errorf("a reply of %d bytes that is no list of UUIDs", len(reply))
	}
	var list [][]byte
	for ; len(reply) > 0; reply = reply[uuidLen:] {
		list = append(list, reply[:uuidLen])
	}
	return list, nil
}

// cache gets the parts of the named cache. Without a name it is the owner's, else the primary one.
func (c *kcmConn) cache(name string, owner messages.Principal, byUUID bool) (*parts, error) {
	name, principal, err := c.choose(name, owner)
	if err != nil {
		return nil, err
	}
	p := &parts{name: "KCM:" + name, principal: principal}
	if byUUID {
		p.credentials, err = c.credentialsByUUID(name)
	} else {
		p.credentials, err = c.credentials(name)
	}
	return p, err
}

// choose returns the named cache, and its principal as it is encoded; without a name, the
// owner's, else the primary one.
func (c *kcmConn) choose(name string, owner messages.Principal) (_ string, principal []byte, err error) {
	collection := name == ""
	if collection {
		if name, err = c.callName(opGetDefaultCache, nil); err != nil {
			return "", nil, err
		}
	}
	principal, err = c.call(opGetPrincipal, nameArgument(name))
	if err != nil && !errors.Is(err, ErrEmpty) {
		return "", nil, err
	}
	if !collection || err == nil && owns(owner, principal) || owner.IsZero() {
		return name, principal, err
	}
	caches, errList := c.callUUIDs(opGetCacheUUIDList, nil)
	if errors.Is(errList, ErrEmpty) {
		return name, principal, err
	}
	if errList != nil {
		return "", nil, errList
	}
	for _, uuid := range caches[:min(len(caches), maxMembers)] {
		other, err := c.callName(opGetCacheByUUID, uuid)
		if errors.Is(err, ErrEmpty) {
			continue // removed meanwhile
		}
		if err != nil {
			return "", nil, err
		}
		switch found, err := c.call(opGetPrincipal, nameArgument(other)); {
		case err == nil && owns(owner, found):
			return other, found, nil
		case err != nil && !errors.Is(err, ErrEmpty):
			return "", nil, err
		}
	}
	return name, principal, err
}

// owns reports whether an encoded principal is the owner.
func owns(owner messages.Principal, encoded []byte) bool {
	principal, err := parsePrincipal(encoded)
	return err == nil && same(owner, principal)
}

// credentials gets all credentials of a cache at once.
func (c *kcmConn) credentials(cache string) ([][]byte, error) {
	reply, err := c.call(opGetCredList, nameArgument(cache))
	if err != nil {
		return nil, err
	}
	r := partReader("list of credentials", reply)
	var list [][]byte
	for n := r.count("credentials", 4); n > 0 && r.Err == nil; n-- {
		list = append(list, r.Data32("credential"))
	}
	return list, r.end()
}

// credentialsByUUID gets the credentials of a cache one by one.
func (c *kcmConn) credentialsByUUID(cache string) ([][]byte, error) {
	uuids, err := c.callUUIDs(opGetCredUUIDList, nameArgument(cache))
	if err != nil {
		return nil, err
	}
	var list [][]byte
	for _, uuid := range uuids {
		credential, err := c.call(opGetCredByUUID, append(nameArgument(cache), uuid...))
		if errors.Is(err, ErrEmpty) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, credential)
	}
	return list, nil
}
