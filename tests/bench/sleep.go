package bench

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil waits by the kernel's own timer. Go's are a millisecond coarse where the
// process is idle; and nanosleep would keep a processor of Go's scheduler, and
// whatever waits on that, until the scheduler notices, up to ten milliseconds later.
func sleepUntil(t time.Time) error {
	left := time.Until(t)
	if left <= 0 {
		return nil
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	timer := os.NewFile(uintptr(fd), "timer")
	defer timer.Close()
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(left))}, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	var expirations [8]byte
	_, err = timer.Read(expirations[:])
	return err
}
