package kdctest

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// reserve binds a socket that never listens. The kernel does not assign its port to
// another socket that binds to port 0, but allows one to bind to it explicitly because
// both set SO_REUSEADDR. Connections are refused until a socket listens.
func reserve(address string) (string, func(), error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Is4() {
		return free(address)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	if err == nil {
		err = os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}))
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return "", nil, err
	}
	bound := net.TCPAddr{IP: at.Addr().AsSlice(), Port: name.(*syscall.SockaddrInet4).Port}
	return bound.String(), func() { _ = syscall.Close(fd) }, nil
}
