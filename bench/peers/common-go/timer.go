package common

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timer sleeps to a few microseconds. The runtime's own timers wait in epoll_wait, whose whole
// milliseconds an open loop would count as latency.
type timer struct {
	file *os.File
	fd   int
}

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	// A non-blocking file waits in the runtime's poller, not in a thread of its own.
	return &timer{file: os.NewFile(uintptr(fd), "timer"), fd: fd}, nil
}

func (t *timer) sleep(duration time.Duration) error {
	once := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(duration))}
	if err := unix.TimerfdSettime(t.fd, 0, &once, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	var expirations [8]byte
	_, err := t.file.Read(expirations[:])
	return err
}

func (t *timer) close() {
	_ = t.file.Close()
}
