// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ProcessorTime returns what a process has used, of all its threads, those that have ended too, in user and in kernel
// mode. It is the kernel's clock of the process (clock_getcpuclockid), which counts nanoseconds: utime and stime of
// /proc/PID/stat are the same, rounded to ticks of 10 ms.
func ProcessorTime(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil { //nolint:gosec // what the kernel defines
		return 0, fmt.Errorf("processor time of %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// Resident returns the resident memory of a process in bytes: VmRSS, every page that is mapped, shared ones too.
func Resident(pid int) (int64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(stat)
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of %d: %q", pid, stat)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// meter takes the processor time between two moments, and the most memory.
type meter struct {
	load            Load
	proxies, others time.Duration
	machine         time.Duration
	resident        int64
}

func newMeter(load Load) *meter { return &meter{load: load} }

func (m *meter) read() (proxies, others time.Duration, err error) {
	for _, pid := range m.load.Processes {
		t, err := ProcessorTime(pid)
		if err != nil {
			return 0, 0, err
		}
		proxies += t
	}
	for _, pid := range append([]int{os.Getpid()}, m.load.Others...) {
		t, err := ProcessorTime(pid)
		if err != nil {
			return 0, 0, err
		}
		others += t
	}
	return proxies, others, nil
}

func (m *meter) start() (err error) {
	m.machine = machineTime()
	m.proxies, m.others, err = m.read()
	return err
}

// machineTime is what all processors together were busy with since the machine began, in ticks of 10 ms. 0 if the kernel
// doesn't tell.
func machineTime() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return busyTime(string(stat))
}

// busyTime reads the first line of /proc/stat: user nice system idle iowait irq softirq steal, in ticks. What a hypervisor
// took away, steal, is what others did, too.
func busyTime(stat string) time.Duration {
	const tick = 10 * time.Millisecond
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0
	}
	var sum int64
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		if idle, iowait := 3, 4; i != idle && i != iowait {
			sum += n
		}
	}
	return time.Duration(sum) * tick
}

func (m *meter) sample() {
	var sum int64
	for _, pid := range m.load.Processes {
		if n, err := Resident(pid); err == nil {
			sum += n
		}
	}
	m.resident = max(m.resident, sum)
}

func (m *meter) stop(r *Result) error {
	m.sample()
	proxies, others, err := m.read()
	if err != nil {
		return err
	}
	r.Processor, r.Other, r.Resident = proxies-m.proxies, others-m.others, m.resident
	if now := machineTime(); now > 0 && m.machine > 0 {
		r.Foreign = max(now-m.machine-r.Processor-r.Other, 0)
	}
	return nil
}
