package kdctest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a KDC that stops with the test.
func start(t *testing.T, realms ...*kdctest.Realm) *kdctest.KDC {
	t.Helper()
	kdc := kdctest.NewKDC(kdctest.Config{Realms: realms})
	if err := kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kdc.Stop)
	return kdc
}
