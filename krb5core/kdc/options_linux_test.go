package kdc

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestSocketOptionsAreSetOnLinux(t *testing.T) {
	hosts := []string{"127.0.0.1"}
	if probe, err := net.ListenPacket("udp", "[::1]:0"); err == nil {
		probe.Close()
		hosts = append(hosts, "::1")
	}
	const buffer = 100_000
	o := Options{DSCP: 46, DontFragment: true, ReadBuffer: buffer, WriteBuffer: buffer}
	for _, host := range hosts {
		kdc := startKDCAt(t, host, silentDatagrams, stallingStream)
		dscp, fragment := [2]int{unix.IPPROTO_IP, unix.IP_TOS}, [2]int{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER}
		suffix := "4"
		if host == "::1" {
			suffix = "6"
			dscp, fragment = [2]int{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}, [2]int{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER}
		}
		for _, network := range []string{"udp" + suffix, "tcp" + suffix} {
			conn := must.OK(optionsDialer{o}.DialContext(t.Context(), network, kdc.udp.LocalAddr().String()))(t)
			check := func(name string, option [2]int, good func(int) bool) {
				t.Helper()
				if v := socketOption(t, conn, option); !good(v) {
					t.Errorf("%s to %s: %s is %d", network, host, name, v)
				}
			}
			check("dscp", dscp, func(v int) bool { return v == 46<<2 })
			if network[:3] == "udp" {
				check("dont_fragment", fragment, func(v int) bool { return v == unix.IP_PMTUDISC_DO })
			}
			check("read_buffer", [2]int{unix.SOL_SOCKET, unix.SO_RCVBUF}, func(v int) bool { return v >= buffer })
			check("write_buffer", [2]int{unix.SOL_SOCKET, unix.SO_SNDBUF}, func(v int) bool { return v >= buffer })
			conn.Close()
		}
	}
}

func socketOption(t *testing.T, conn net.Conn, option [2]int) (value int) {
	t.Helper()
	raw := must.OK(conn.(syscall.Conn).SyscallConn())(t)
	var failed error
	if err := raw.Control(func(fd uintptr) { value, failed = unix.GetsockoptInt(int(fd), option[0], option[1]) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value
}
