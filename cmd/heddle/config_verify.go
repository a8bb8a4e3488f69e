// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// verifyOptions are the flags of `heddle config verify`. What is left out is not checked.
type verifyOptions struct {
	roots     string
	meshID    string
	audience  string
	section   string
	minSerial string
	at        string
}

func configVerify(env environment, args []string) error {
	var o verifyOptions
	flags := pflag.NewFlagSet("config verify", pflag.ContinueOnError)
	flags.SetOutput(env.stderr)
	flags.Usage = func() {
		fmt.Fprintf(env.stderr, "Usage: heddle config verify FILE --roots FILE [flags]\n%s", flags.FlagUsages())
	}
	flags.StringVar(&o.roots, "roots", "", "PEM file with the roots of the config CA (required)")
	flags.StringVar(&o.meshID, "mesh-id", "", "the mesh it must be for: the UID of namespace kube-system")
	flags.StringVar(&o.audience, "audience", "", `whom it must be for: "mesh", or "pod/<UID>"`)
	flags.StringVar(&o.section, "section", "", "the section that it must be")
	flags.StringVar(&o.minSerial, "min-serial", "", "the lowest serial that is accepted, such as 0.3.17")
	flags.StringVar(&o.at, "at", "", "judge expiry at this time, RFC 3339 (default: now)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || o.roots == "" {
		return errors.New("want one FILE (- for standard input) and --roots FILE; see --help")
	}
	data, err := readEnvelope(env.stdin, flags.Arg(0))
	if err != nil {
		return err
	}
	e, err := o.verify(data, env.now)
	if err != nil {
		return err
	}
	return describe(env.stdout, e)
}

// readEnvelope reads at most one byte more than an envelope may have, so that Decode sees that it is too long.
func readEnvelope(stdin io.Reader, path string) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, signedconfig.MaxEnvelopeSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// verify checks an envelope by the rules that a proxy checks it by, as if it arrived at the time of --at.
func (o verifyOptions) verify(data []byte, now func() time.Time) (*signedconfig.Envelope, error) {
	pem, err := os.ReadFile(o.roots)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in PEM", o.roots)
	}
	clock := now
	if o.at != "" {
		at, err := time.Parse(time.RFC3339, o.at)
		if err != nil {
			return nil, fmt.Errorf("--at: want RFC 3339, such as 2026-03-31T18:00:00Z: %w", err)
		}
		clock = func() time.Time { return at }
	}
	e, err := signedconfig.Decode(data)
	if err != nil {
		return nil, err
	}
	verifier := signedconfig.Verifier{Roots: roots, MeshID: o.meshID, Audiences: []string{o.audience}, Clock: clock}
	if o.meshID == "" {
		verifier.MeshID = e.MeshID
	}
	if o.audience == "" {
		verifier.Audiences = []string{e.Audience}
	}
	if err := verifier.VerifyEnvelope(e, signedconfig.OnArrival); err != nil {
		return nil, err
	}
	return e, errors.Join(o.checkClaims(e), checkPayload(e))
}

// checkClaims checks what a verified statement says against what was asked for.
func (o verifyOptions) checkClaims(e *signedconfig.Envelope) error {
	if o.section != "" && e.Section != o.section {
		return fmt.Errorf("it is section %s, not %s", e.Section, o.section)
	}
	if o.minSerial == "" {
		return nil
	}
	lowest, err := signedconfig.ParseSerial(o.minSerial)
	if err != nil {
		return fmt.Errorf("--min-serial: %w", err)
	}
	if e.Serial.Compare(lowest) < 0 {
		return fmt.Errorf("serial %s is lower than %s", e.Serial, lowest)
	}
	return nil
}

// checkPayload says whether a proxy would take the payload.
func checkPayload(e *signedconfig.Envelope) error {
	name, err := meshconfig.ParseName(e.Section)
	if err != nil {
		return err
	}
	if want := meshconfig.PayloadType(name.Kind()); e.PayloadType != want {
		return fmt.Errorf("payload type %s: want %s", e.PayloadType, want)
	}
	if e.Tombstone {
		return nil
	}
	m, err := meshconfig.Decode(name, e.Payload)
	if err != nil {
		return err
	}
	return meshconfig.Validate(name, m)
}

func describe(w io.Writer, e *signedconfig.Envelope) error {
	content := fmt.Sprintf("%d bytes, %s", len(e.Payload), e.PayloadType)
	if e.Tombstone {
		content = "tombstone: the section was deleted"
	}
	digest := e.Digest()
	signer := e.Signer()
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"verified", "yes"},
		{"section", e.Section},
		{"serial", e.Serial.String()},
		{"digest", fmt.Sprintf("sha256:%x", digest)},
		{"issued", e.IssuedAt.Format(time.RFC3339)},
		{"not after", e.NotAfter.Format(time.RFC3339)},
		{"audience", e.Audience},
		{"mesh ID", e.MeshID},
		{"content", content},
		{"signer", fmt.Sprintf("%q, certificate %x of %q, until %s",
			signer.DNSNames, signer.SerialNumber, signer.Issuer, signer.NotAfter.UTC().Format(time.RFC3339))},
	} {
		fmt.Fprintf(table, "%s:\t%s\n", row[0], row[1])
	}
	return table.Flush()
}
