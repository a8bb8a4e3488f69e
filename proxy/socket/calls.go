// SPDX-License-Identifier: Apache-2.0

//go:build !race

package socket

import (
	"syscall"
	"unsafe"
)

// The calls below don't tell the scheduler that they enter the kernel, as those of package syscall do, because on sockets
// that don't block they come back within microseconds. Told of each, and deprived of the processor amid one, it takes the
// goroutine's place away, starts another thread for it, and looks for more of that every 20 µs.

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

func sysWritev(fd uintptr, v []syscall.Iovec) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
	return int(n), err
}

// sysPeek looks whether a byte is there, and leaves it.
func sysPeek(fd uintptr) syscall.Errno {
	var one [1]byte
	_, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return err
}
