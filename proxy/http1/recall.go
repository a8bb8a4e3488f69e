// SPDX-License-Identifier: Apache-2.0

package http1

// Recall takes back the final answer that was begun, if nothing of it has been sent, so that another can be written in its
// place. Before is what Written was when its head was written, all before it having been flushed.
func (c *Conn) Recall(before int64) bool {
	o := &c.out
	if o.err != nil || o.written.Load() != before {
		return false
	}
	o.n = 0
	o.drop()
	o.release()
	c.pending = true
	return true
}
