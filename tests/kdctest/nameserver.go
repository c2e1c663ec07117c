package kdctest

import (
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// StartNameServer starts a DNS server (UDP, on loopback) and returns its address.
// lookup returns the IPv4 address of a host, whose name is in lower case and has no
// trailing dot; false means that the name does not exist. It is called from one
// goroutine.
func StartNameServer(lookup func(host string) (netip.Addr, bool)) (address string, stop func(), err error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := answerQuery(buf[:n], lookup); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return conn.LocalAddr().String(), func() {
		_ = conn.Close()
		<-done
	}, nil
}

func answerQuery(query []byte, lookup func(host string) (netip.Addr, bool)) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		ip, known := lookup(strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")))
		switch {
		case !known:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: ip.As4()},
			})
		}
	}
	return m.Pack()
}
