// SPDX-License-Identifier: Apache-2.0

package forward

import "context"

// Inbound carries what calls the workload. It is a Server.
type Inbound struct{}

// NewInbound makes an Inbound.
func NewInbound(Options) *Inbound { return &Inbound{} }

// Serve implements Server.
func (*Inbound) Serve(context.Context, *Conn) {}

// Drain implements Server.
func (*Inbound) Drain() {}

// Active implements Server.
func (*Inbound) Active() int { return 0 }

// Shutdown implements Server.
func (*Inbound) Shutdown(context.Context) error { return nil }
