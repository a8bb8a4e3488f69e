// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// FenceName is the ConfigMap, in the operator's namespace, that remembers the last epoch and term.
const FenceName = "heddle-serial"

// Keys of the ConfigMap.
const (
	keyEpoch = "epoch"
	keyTerm  = "term"
)

const fenceAttempts = 5

// Fence gives each leader a term of its own, above all before. leaseTransitions of the Lease would do alone, if nobody
// ever deleted a Lease: then it begins at 0 again, and every proxy would refuse what the new leader signs. So the last
// term is kept beside it, and written with the resource version that was read.
type Fence struct {
	ConfigMaps typedcorev1.ConfigMapsGetter
	Namespace  string
	// Epoch is the least epoch. It is raised, here or in the ConfigMap, after a restore of etcd from a backup.
	Epoch uint32
}

// Next returns the epoch and the term of a leader whose Lease counts so many transitions, and remembers them.
func (f *Fence) Next(ctx context.Context, transitions uint64) (epoch uint32, term uint64, err error) {
	for range fenceAttempts {
		epoch, term, err = f.next(ctx, transitions)
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ConfigMap %s/%s: %w", f.Namespace, FenceName, err)
	}
	return epoch, term, nil
}

func (f *Fence) next(ctx context.Context, transitions uint64) (uint32, uint64, error) {
	client := f.ConfigMaps.ConfigMaps(f.Namespace)
	kept, err := client.Get(ctx, FenceName, metav1.GetOptions{})
	isNew := apierrors.IsNotFound(err)
	switch {
	case isNew:
		kept = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.Namespace, Name: FenceName}}
	case err != nil:
		return 0, 0, err
	}
	epoch, err := number(kept.Data, keyEpoch, 32)
	if err != nil {
		return 0, 0, err
	}
	term, err := number(kept.Data, keyTerm, 64)
	if err != nil {
		return 0, 0, err
	}
	if kept.Data[keyTerm] != "" {
		term++
	}
	term, epoch = max(term, transitions), max(epoch, uint64(f.Epoch))
	kept.Data = map[string]string{
		keyEpoch: strconv.FormatUint(epoch, 10),
		keyTerm:  strconv.FormatUint(term, 10),
	}
	if isNew {
		_, err = client.Create(ctx, kept, metav1.CreateOptions{})
	} else {
		_, err = client.Update(ctx, kept, metav1.UpdateOptions{})
	}
	return uint32(epoch), term, err
}

// number reads a key that may be missing. What is no number is an error: taking it for 0 would turn the mesh back.
func number(data map[string]string, key string, bits int) (uint64, error) {
	if data[key] == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(data[key], 10, bits)
	if err != nil {
		return 0, fmt.Errorf("key %s: %q is not a number of %d bits; mend it: it must not be lower than what proxies have accepted",
			key, data[key], bits)
	}
	return n, nil
}
