package lab

import (
	"os"
	"syscall"
)

// ownSession makes the child leader of a session and group, and has the kernel
// end it when the test process dies. SIGTERM: Apache takes its workers along.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
}

// outliving makes the child leader of a session, so that what ends the test
// process (an interrupt at the terminal, say) does not end it.
func outliving() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func terminate(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }
func kill(p *os.Process)      { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
func pause(p *os.Process)     { _ = syscall.Kill(-p.Pid, syscall.SIGSTOP) }
func resume(p *os.Process)    { _ = syscall.Kill(-p.Pid, syscall.SIGCONT) }
