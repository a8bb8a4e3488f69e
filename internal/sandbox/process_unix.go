// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package sandbox

import "syscall"

// attributes give a proxy a process group of its own, so that an interrupt at the terminal reaches the sandbox alone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
