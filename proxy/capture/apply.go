// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/google/nftables"
)

// Apply writes the redirect into the network namespace of the process, over netlink and in one transaction: all of it is
// in force, or nothing has changed. What an earlier call wrote is replaced. It needs CAP_NET_ADMIN.
func Apply(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open a netlink socket for nftables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}
	conn.AddTable(table) // so that there is one to delete
	conn.DelTable(table)
	conn.AddTable(table)
	addChain(conn, table, "output", nftables.ChainHookOutput, c.outputRules())
	addChain(conn, table, "prerouting", nftables.ChainHookPrerouting, c.inboundRules())
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write nftables table inet %s: %w%s", TableName, err, hint(err))
	}
	return nil
}

func addChain(conn *nftables.Conn, table *nftables.Table, name string, hook *nftables.ChainHook, rules []rule) {
	policy := nftables.ChainPolicyAccept
	chain := conn.AddChain(&nftables.Chain{
		Name:     name,
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  hook,
		Priority: nftables.ChainPriorityNATDest,
		Policy:   &policy,
	})
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r})
	}
}

// hint says what to do about the errors that clusters meet.
func hint(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return ": the init container needs capability NET_ADMIN and uid 0"
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EAFNOSUPPORT),
		errors.Is(err, syscall.EPROTONOSUPPORT):
		return ": the node's kernel must be 5.2 or newer with nf_tables, nft_chain_nat and nft_redir; " +
			"load them with modprobe if they are modules"
	default:
		return ""
	}
}
