// SPDX-License-Identifier: Apache-2.0

//go:build race

package socket

import (
	"syscall"
	"unsafe"
)

// For the race detector the calls are those of package syscall, which tell it of what is read and written.

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) { return told(syscall.Read(int(fd), p)) }

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) { return told(syscall.Write(int(fd), p)) }

func sysWritev(fd uintptr, v []syscall.Iovec) (int, syscall.Errno) {
	total := 0
	for i := range v {
		n, err := sysWrite(fd, unsafe.Slice(v[i].Base, v[i].Len))
		total += max(n, 0)
		if err != 0 && total == 0 {
			return -1, err
		}
		if err != 0 || uint64(n) < v[i].Len {
			break
		}
	}
	return total, 0
}

// sysPeek looks whether a byte is there, and leaves it.
func sysPeek(fd uintptr) syscall.Errno {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	_, failed := told(0, err)
	return failed
}

func told(n int, err error) (int, syscall.Errno) {
	failed, _ := err.(syscall.Errno) //nolint:errorlint // it is that itself
	return n, failed
}
