//go:build !linux

package lab

import (
	"os"
	"syscall"
)

// The peers are looked up in Debian's places; on other systems this only compiles.
func ownSession() *syscall.SysProcAttr { return nil }
func newSession() *syscall.SysProcAttr { return nil }

func terminate(p *os.Process) { _ = p.Kill() }
func kill(p *os.Process)      { _ = p.Kill() }
func pause(*os.Process)       {}
func resume(*os.Process)      {}
