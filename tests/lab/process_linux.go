package lab

import (
	"os"
	"syscall"
)

// ownSession makes the child leader of a session and group, and has the kernel
// terminate it when the test process dies: on SIGTERM Apache also ends its workers.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
}

// newSession makes the child leader of a session, so that an interrupt at the terminal
// ends only the test process.
func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func terminate(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }
func kill(p *os.Process)      { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
func pause(p *os.Process)     { _ = syscall.Kill(-p.Pid, syscall.SIGSTOP) }
func resume(p *os.Process)    { _ = syscall.Kill(-p.Pid, syscall.SIGCONT) }
