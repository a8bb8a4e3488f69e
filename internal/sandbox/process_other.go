// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package sandbox

import "syscall"

// attributes are none where there are no process groups.
func attributes() *syscall.SysProcAttr { return nil }
