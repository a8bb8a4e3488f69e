// SPDX-License-Identifier: Apache-2.0

package forward

import "context"

// Outbound carries what the workload calls. It is a Server.
type Outbound struct{}

// NewOutbound makes an Outbound.
func NewOutbound(Options) *Outbound { return &Outbound{} }

// Serve implements Server.
func (*Outbound) Serve(context.Context, *Conn) {}

// Drain implements Server.
func (*Outbound) Drain() {}

// Active implements Server.
func (*Outbound) Active() int { return 0 }

// Shutdown implements Server.
func (*Outbound) Shutdown(context.Context) error { return nil }
