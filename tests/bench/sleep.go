package bench

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil waits with a timerfd of the kernel. Go's timers have a resolution of a
// millisecond in an idle process, and nanosleep blocks a P of Go's scheduler, with its
// goroutines, for up to ten milliseconds.
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
