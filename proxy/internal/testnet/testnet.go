// SPDX-License-Identifier: Apache-2.0

// Package testnet gives tests a network of their own, in which peers can vanish.
package testnet

import (
	"encoding/binary"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// apartEnv is set in a process that has a network of its own.
const apartEnv = "HEDDLE_TEST_NETWORK_APART"

// Apart runs the rest of the test in a process with a network namespace that has a loopback interface alone. It returns
// false in the outer process, when that has ended.
func Apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apartEnv) != "" {
		if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("ip: %v: %s", err, out)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("makes a network namespace: run it as root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v=true")
	cmd.Env = append(os.Environ(), apartEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("in its own namespace:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// Vanish takes the ports of TCP from the network: what is sent to or from them arrives nowhere, and nobody is told.
func Vanish(t *testing.T, ports ...uint16) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "vanished"})
	chain := c.AddChain(&nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	const source, destination = 0, 2 // where the ports stand in the header of TCP
	for _, port := range ports {
		for _, offset := range []uint32{source, destination} {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
				&expr.Verdict{Kind: expr.VerdictDrop},
			}})
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}
