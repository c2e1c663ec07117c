package lab

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Kadmind is the process of a realm's kadmind, which changes passwords (RFC 3244) over UDP and TCP.
type Kadmind struct {
	mu   sync.Mutex
	proc *process
}

// Kpasswd returns host:port where [MIT.StartKadmind] changes passwords.
func (m *MIT) Kpasswd() string { return fmt.Sprintf("%s:%d", Host(), m.kpasswdPort) }

// Kpasswd returns host:port where passwords are changed, over UDP and TCP.
func (s *Samba) Kpasswd() string { return fmt.Sprintf("%s:%d", Host(), s.kpasswdPort) }

// StartKadmind starts the realm's kadmind, which ends with the test. Its clock is off by skew, in whole
// seconds.
func (m *MIT) StartKadmind(t testing.TB, skew time.Duration) *Kadmind {
	t.Helper()
	if skew != 0 {
		Require(t, Faketime)
	}
	fake, err := faketime(skew)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := start(m.path("kadmind.out"), slices.Concat(m.env, fake), "kadmind",
		"-nofork", "-r", m.opts.Realm, "-P", m.path("kadmind.pid"))
	if err != nil {
		t.Fatal(err)
	}
	k := &Kadmind{proc: proc}
	t.Cleanup(k.Stop)
	err = proc.ready(time.Minute, "kadmind of "+m.opts.Realm, func() bool {
		c, err := net.Dial("tcp", m.Kpasswd())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Stop ends it: its port refuses connections.
func (k *Kadmind) Stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proc.stop()
	k.proc = nil
}

// Pause suspends it: connections are accepted, and nothing is answered until [Kadmind.Resume].
func (k *Kadmind) Pause() { k.signal(pause) }

// Resume reverses Pause: it answers what has been sent meanwhile, unless that is too old.
func (k *Kadmind) Resume() { k.signal(resume) }

func (k *Kadmind) signal(how func(*os.Process)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.proc != nil {
		how(k.proc.cmd.Process)
	}
}
