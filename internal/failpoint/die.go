package failpoint

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// die writes line to the log and kills the process. A log that cannot be written
// is told on standard error and saves nobody.
func die(log string, line []byte) {
	if log != "" {
		if err := record(log, line); err != nil {
			fmt.Fprintf(os.Stderr, "failpoint: %s=%s: %v; the line was: %s", EnvLog, log, err, line)
		}
	}
	for {
		// The signal may be delivered to another thread first: never return.
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL); err != nil {
			panic(fmt.Sprintf("failpoint: kill self: %v", err))
		}
		runtime.Gosched()
	}
}

// record appends line to log (a path or fd:N) with one write and syncs it.
func record(log string, line []byte) error {
	var f *os.File
	if num, ok := strings.CutPrefix(log, "fd:"); ok {
		fd, err := strconv.ParseUint(num, 10, 31)
		if err != nil {
			return fmt.Errorf("want fd:N with N a descriptor: %w", err)
		}
		f = os.NewFile(uintptr(fd), log)
	} else {
		var err error
		if f, err = os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			return err
		}
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	// A pipe cannot be synced and needs no sync.
	if err := syscall.Fsync(int(f.Fd())); err != nil && err != syscall.EINVAL && err != syscall.ENOTSUP && err != syscall.EROFS {
		return err
	}
	return nil
}
