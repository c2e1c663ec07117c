package kdctest_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// The kernel does not assign a reserved port to a socket without SO_REUSEADDR, as when it
// binds to port 0.
func TestReserve_InUse(t *testing.T) {
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
		t.Errorf("%v, want address in use", err)
	}
	if err == nil {
		l.Close()
	}
}
