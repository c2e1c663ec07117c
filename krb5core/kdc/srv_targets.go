package kdc

import (
	"net"
	"net/netip"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// target is one host and port with what its records say.
type target struct {
	host             string
	port             uint16
	priority, weight uint16
	udp, tcp         bool
}

// targets are the records of one preference, in the order in which they came.
type targets struct {
	list []target
	// noTCP says that the realm declares that it offers no TCP.
	noTCP bool
}

func (t *targets) find(host string, port uint16) int {
	for i := range t.list {
		if t.list[i].port == port && t.list[i].host == host {
			return i
		}
	}
	return -1
}

// add adds a record. A target of "." means that the service is explicitly
// not offered (RFC 2782).
func (t *targets) add(p Protocol, r *net.SRV) {
	host := strings.ToLower(strings.TrimSuffix(r.Target, "."))
	if host == "" {
		t.noTCP = t.noTCP || p == TCP
		return
	}
	if _, err := netip.ParseAddr(host); r.Port == 0 || err != nil && messages.CheckHostName(host) != nil {
		return
	}
	i := t.find(host, r.Port)
	if i < 0 {
		i = len(t.list)
		t.list = append(t.list, target{host: host, port: r.Port, priority: r.Priority, weight: r.Weight})
	}
	one := &t.list[i]
	one.udp, one.tcp = one.udp || p == UDP, one.tcp || p == TCP
	if r.Priority < one.priority {
		one.priority, one.weight = r.Priority, r.Weight
	}
}

// adopt takes over from all what it says of the same hosts.
func (t *targets) adopt(all *targets) {
	for i := range t.list {
		one := &t.list[i]
		if j := all.find(one.host, one.port); j >= 0 {
			one.udp = one.udp || all.list[j].udp
			all.list = append(all.list[:j], all.list[j+1:]...)
		}
	}
}

// order empties the set into servers by priority, and within one priority by
// drawing lots by weight as RFC 2782 says.
func (t *targets) order(intN func(int) int) []Server {
	var servers []Server
	for len(t.list) > 0 {
		i := t.draw(intN)
		servers = append(servers, t.list[i].server(t.noTCP))
		t.list = append(t.list[:i], t.list[i+1:]...)
	}
	return servers
}

// draw chooses among the targets of the lowest priority. Those without weight
// come first in the running sum, so that they are rarely chosen.
func (t *targets) draw(intN func(int) int) int {
	lowest, sum := t.list[0].priority, 0
	for _, one := range t.list {
		if one.priority < lowest {
			lowest, sum = one.priority, 0
		}
		if one.priority == lowest {
			sum += int(one.weight)
		}
	}
	lot, running := intN(sum+1), 0
	chosen := -1
	for _, weightless := range []bool{true, false} {
		for i, one := range t.list {
			if one.priority != lowest || (one.weight == 0) != weightless {
				continue
			}
			if running += int(one.weight); running >= lot {
				return i
			}
			chosen = i
		}
	}
	return chosen
}

// server says by which protocols to ask. Every KDC has to serve TCP (RFC 4120,
// Section 7.2.2), so that a record for UDP permits it unless the realm declares
// that there is none.
func (t target) server(noTCP bool) Server {
	s := Server{Host: t.host, Port: int(t.port)}
	switch {
	case !t.udp:
		s.Scheme = SchemeTCP
	case noTCP && !t.tcp:
		s.Scheme = SchemeUDP
	}
	return s
}
