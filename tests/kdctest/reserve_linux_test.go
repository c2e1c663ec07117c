package kdctest_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// Who asks for any port is given one that is not taken, as who does not say SO_REUSEADDR is.
func TestReservedAddressIsTaken(t *testing.T) {
	address, release, err := kdctest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	plain := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) })
	}}
	l, err := plain.Listen(t.Context(), "tcp", address)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v, it is not taken", err)
	}
	if err == nil {
		l.Close()
	}
}
