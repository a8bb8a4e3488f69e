// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
)

// A large write leaves in one system call and is read in few.
func TestManyRecordsPerSystemCall(t *testing.T) {
	near, far := testconn.TCP(t)
	counted := &counting{Conn: far}
	server, client := secure(t, near, counted, nil, nil)
	counted.writes.Store(0)
	payload := noise(4 * recordPlaintext)
	for range 10 {
		done := make(chan error, 1)
		go func() {
			_, err := client.Write(payload)
			done <- err
		}()
		want(t, server, payload)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := counted.writes.Load(); n != 10 {
		t.Errorf("%d writes of %d bytes took %d system calls", 10, len(payload), n)
	}

	near, far = testconn.TCP(t)
	server, client = secure(t, near, far, nil, nil)
	if _, err := client.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := Wait(near); err != nil {
		t.Fatal(err)
	}
	raw := &countingRaw{RawConn: server.records.source.raw}
	server.records.source.raw = raw
	want(t, server, payload)
	if raw.reads > 8 {
		t.Errorf("%d bytes took %d system calls", len(payload), raw.reads)
	}
}

// countingRaw counts how often it is tried to read.
type countingRaw struct {
	syscall.RawConn
	reads int
}

func (c *countingRaw) Read(try func(uintptr) bool) error {
	return c.RawConn.Read(func(fd uintptr) bool {
		c.reads++
		return try(fd)
	})
}

// dribble gives a few bytes at a time.
type dribble struct {
	net.Conn
	most int
}

func (d *dribble) Read(b []byte) (int, error) { return d.Conn.Read(b[:min(len(b), d.most)]) }

func TestRecordsInPieces(t *testing.T) {
	for _, most := range []int{1, 4, 5, 6, 7, 100, recordMost, recordMost + 3} {
		near, far := testconn.TCP(t)
		server, client := secure(t, &dribble{near, most}, far, nil, nil)
		go func() {
			for n := range 20 {
				client.Write(noise(n * n * n))
			}
			client.Close()
		}()
		got, err := io.ReadAll(server)
		var sent []byte
		for n := range 20 {
			sent = append(sent, noise(n*n*n)...)
		}
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d at a time: %d bytes, %v", most, len(got), err)
		}
	}
}

// What is no TLS at all is crypto/tls's to refuse.
func TestWhatIsNoRecord(t *testing.T) {
	for name, sent := range map[string]string{
		"empty records":      string(bytes.Repeat([]byte{22, 3, 1, 0, 0}, 100)),
		"a record too large": "\x16\x03\x01\xff\xff" + string(noise(70_000)),
		"HTTP":               "GET / HTTP/1.1\r\n\r\n",
		"nothing":            "",
		"half a header":      "\x16\x03",
	} {
		t.Run(name, func(t *testing.T) {
			near, far := testconn.TCP(t)
			budget := limits.NewBudget(1 << 20)
			server := Server(near, config(t), budget)
			go func() { io.WriteString(far, sent); far.CloseWrite(); io.Copy(io.Discard, far) }()
			if err := server.Handshake(); err == nil {
				t.Error("no error")
			}
			server.Close()
		})
	}
}

// A writer that waits for its peer is broken off by Close, at once, as with crypto/tls alone.
func TestCloseBreaksAWriteOff(t *testing.T) {
	budget := limits.NewBudget(64 << 20)
	server, client := tlsPair(t, nil, budget)
	sent := sending(client)
	sent.halts(t, func() bool { return client.busy.Load() && budget.Held() > 0 })
	begun := time.Now()
	client.Close()
	if err := <-sent.broken; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	server.Close()
	if n := budget.Held(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}

func TestWritersAndReadersAtOnce(t *testing.T) {
	server, client := tlsPair(t, limits.NewBudget(256<<10), nil)
	var wg sync.WaitGroup
	for _, c := range []*TLS{server, client} {
		wg.Go(func() {
			for n := range 60 {
				c.Write(noise(n * 3000))
			}
			c.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(c)
			if err != nil || len(got) != 60*59/2*3000 {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

// breaking lets some bytes through and then breaks.
type breaking struct {
	net.Conn
	left int // less than 0: no end
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left < 0 {
		return b.Conn.Write(p)
	}
	n, err := b.Conn.Write(p[:min(b.left, len(p))])
	b.left -= n
	if err == nil && n < len(p) {
		err = syscall.EPIPE
	}
	return n, err
}

// Whether a request may be sent once more is decided by what Write says.
func TestAWriteThatBreaksSaysWhatMayHaveArrived(t *testing.T) {
	for name, left := range map[string]int{"nothing": 0, "some records": 2 * recordMost, "all but a byte": 4*recordMost - 1} {
		t.Run(name, func(t *testing.T) {
			near, far := testconn.TCP(t)
			wire := &breaking{Conn: far, left: -1}
			_, client := secure(t, near, wire, nil, nil)
			wire.left = left
			n, err := client.Write(noise(6 * recordPlaintext))
			if !errors.Is(err, syscall.EPIPE) || (n == 0) != (left == 0) || n > 0 && n < left/recordMost*recordPlaintext {
				t.Errorf("%d bytes of records left, and Write says %d, %v", left, n, err)
			}
		})
	}
}

// What came behind other records is told after them, and is not waited for.
func TestTheEndBehindOtherRecords(t *testing.T) {
	for what, c := range map[string]struct {
		end  func(*TLS)
		want error
	}{
		"in good order": {func(c *TLS) { c.CloseWrite() }, io.EOF},
		"a bad record":  {func(c *TLS) { c.records.Conn.Write(append([]byte{23, 3, 3, 0, 64}, noise(64)...)) }, nil},
	} {
		t.Run(what, func(t *testing.T) {
			ours, theirs := tlsPair(t, nil, nil)
			for range 3 {
				io.WriteString(theirs, "abc")
			}
			c.end(theirs)
			eventually(t, "it has not all come", func() bool {
				ours.records.source.fill()
				return ours.records.here() > 3*(recordHeader+recordSealed+3)+recordHeader
			})
			got := make([]byte, 100)
			if n, err := ours.Read(got); string(got[:n]) != "abcabcabc" || err != nil {
				t.Errorf("read %q, %v", got[:n], err)
			}
			if ours.Quiet() {
				t.Error("it is quiet")
			}
			for range 2 {
				if err := Wait(ours); err != nil {
					t.Error(err)
				}
				if n, err := ours.Read(got); n != 0 || err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("read %d bytes, %v", n, err)
				}
			}
		})
	}
}
