package kdctest_test

import (
	"net"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestReserve(t *testing.T) {
	address, release, err := kdctest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Fatal("the address accepts connections")
	}
	for range 2 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		l.Close()
	}
}
