package kdctest

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// reserve binds a socket that never listens: whoever asks for any port does not get its
// port, and who asks for that very one does, for both say SO_REUSEADDR. Connections are
// refused until somebody listens.
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
