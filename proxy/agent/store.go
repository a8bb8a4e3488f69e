// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// What the state directory holds.
const (
	sectionsDir       = "sections" // <escaped name>.envelope, each a signedconfig.WireEnvelope
	envelopeSuffix    = ".envelope"
	temporaryPrefix   = ".tmp-"
	floorsFile        = "floors"
	identityFile      = "identity.pem" // the private key, then the chain
	maxFileName       = 200            // bytes; a longer name is hashed
	maxStoredFloors   = 16 << 20       // bytes of the floors' file
	maxStoredIdentity = 1 << 18        // bytes of the identity's file
)

// store is the state directory. Its files appear whole or not at all.
type store struct{ dir string }

func newStore(dir string) (*store, error) {
	s := &store{dir}
	if err := os.MkdirAll(filepath.Join(dir, sectionsDir), 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	return s, nil
}

// envelopePath returns where the envelope of a section is kept.
func (s *store) envelopePath(name meshconfig.Name) string {
	file := url.PathEscape(string(name))
	if len(file) > maxFileName {
		sum := sha256.Sum256([]byte(name))
		file = "sha256-" + hex.EncodeToString(sum[:])
	}
	return filepath.Join(s.dir, sectionsDir, file+envelopeSuffix)
}

func (s *store) putEnvelope(name meshconfig.Name, data []byte) error {
	return s.write(s.envelopePath(name), data)
}

func (s *store) removeEnvelope(name meshconfig.Name) error {
	return ignoreMissing(os.Remove(s.envelopePath(name)))
}

// stored is a kept envelope.
type stored struct {
	path string
	data []byte // nil: unreadable
	at   time.Time
}

// envelopes reads what is kept. What is not an envelope by its name is removed: it was being written when the proxy ended.
func (s *store) envelopes() ([]stored, error) {
	dir := filepath.Join(s.dir, sectionsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the state directory: %w", err)
	}
	out := make([]stored, 0, len(entries))
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if !strings.HasSuffix(entry.Name(), envelopeSuffix) || strings.HasPrefix(entry.Name(), temporaryPrefix) {
			_ = os.Remove(path)
			continue
		}
		kept := stored{path: path}
		if info, err := entry.Info(); err == nil {
			kept.at = info.ModTime()
		}
		if data, err := readBounded(path, signedconfig.MaxEnvelopeSize); err == nil {
			kept.data = data
		}
		out = append(out, kept)
	}
	return out, nil
}

// floors reads the floors; none are kept before the first section is dropped.
func (s *store) floors(limit int) (*signedconfig.Floors, error) {
	data, err := readBounded(filepath.Join(s.dir, floorsFile), maxStoredFloors)
	if errors.Is(err, fs.ErrNotExist) {
		return signedconfig.NewFloors(limit), nil
	}
	if err != nil {
		return nil, err
	}
	return signedconfig.UnmarshalFloors(data, limit)
}

func (s *store) putFloors(f *signedconfig.Floors) error {
	return s.write(filepath.Join(s.dir, floorsFile), f.Marshal())
}

func (s *store) removeFloors() error {
	return ignoreMissing(os.Remove(filepath.Join(s.dir, floorsFile)))
}

// identity reads the private key and chain; nil if there is none.
func (s *store) identity() ([]byte, error) {
	data, err := readBounded(filepath.Join(s.dir, identityFile), maxStoredIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (s *store) putIdentity(data []byte) error {
	return s.write(filepath.Join(s.dir, identityFile), data)
}

func (s *store) removeIdentity() error {
	return ignoreMissing(os.Remove(filepath.Join(s.dir, identityFile)))
}

// write replaces a file. The volume is in memory: what is renamed is there.
func (s *store) write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), temporaryPrefix) // of mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
