// SPDX-License-Identifier: Apache-2.0

package refusal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// row is how docs/refusals.md lists a reason.
func row(r Reason) string {
	m := r.Meaning()
	status, code := fmt.Sprint(m.Status), fmt.Sprint(m.GRPC)
	if m.Status == 0 {
		status, code = "closed", "closed"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |", r, status, code, m.What, m.Fix)
}

func TestTheDocsListEveryReasonAndNoOther(t *testing.T) {
	text, err := os.ReadFile("../../docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `") {
			listed = append(listed, strings.TrimSpace(line))
		}
	}
	all := All()
	for i := range max(len(all), len(listed)) {
		want, got := "", ""
		if i < len(all) {
			want = row(all[i])
		}
		if i < len(listed) {
			got = listed[i]
		}
		if got != want {
			t.Errorf("row %d of docs/refusals.md is\n%s\nwant\n%s", i+1, got, want)
		}
	}
}

func TestAllHasEveryMeaningOnce(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range All() {
		if _, ok := meanings[r]; !ok || seen[r] {
			t.Errorf("%s: without a meaning, or twice", r)
		}
		seen[r] = true
	}
	if len(seen) != len(meanings) {
		t.Errorf("%d reasons listed of %d", len(seen), len(meanings))
	}
}

func TestAnErrorTellsThePublicWhatItMayKnow(t *testing.T) {
	cause := errors.New("secret")
	err := &Error{Reason: Denied, Rule: "shop/cart/no", Detail: "spiffe://x", Cause: cause}
	want := "heddle: denied: a MeshPolicy denies the caller.\ndetail: spiffe://x\nrule: shop/cart/no\n" +
		"fix: allow the caller in the rule that is named; default is the policy's defaultAction.\n"
	if got := err.Body(); got != want {
		t.Errorf("body %q, want %q", got, want)
	}
	if got := err.Error(); got != "denied: spiffe://x (rule shop/cart/no): secret" || !errors.Is(err, cause) {
		t.Errorf("error %q", got)
	}
	if unknown := Reason("new").Meaning(); unknown != meanings[UpstreamFailed] {
		t.Errorf("a reason without a meaning means %+v", unknown)
	}
}
