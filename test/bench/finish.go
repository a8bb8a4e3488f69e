// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

func (r *run) finish() error { return r.report.print(r.out) }
