package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	probesNamespace = "probes"
	// One object for each of so many probes in a row, so that they don't wait for each other.
	probedObjects = 100
	probePause    = 100 * time.Millisecond
)

func (r *run) makeProbes(ctx context.Context) error {
	if err := r.create(ctx, 0, probesNamespace); err != nil {
		return err
	}
	for i := range probedObjects {
		if err := r.createMap(ctx, i, probesNamespace, fmt.Sprintf("probe-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// probe makes a write every now and then, whether or not the ones before were answered: writers that
// wait for an answer all come to wait for a member that is paused, though the others serve.
func (r *run) probe(ctx context.Context) {
	var asked sync.WaitGroup
	defer asked.Wait()
	for turn := 0; ctx.Err() == nil; turn++ {
		asked.Go(func() { r.probeOnce(ctx, turn) })
		pause(ctx, probePause)
	}
}

func (r *run) probeOnce(ctx context.Context, turn int) {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patch := fmt.Appendf(nil, `{"data":{"value":"%d"}}`, turn)
	_, err := r.clients[turn%len(r.clients)].CoreV1().ConfigMaps(probesNamespace).
		Patch(limited, fmt.Sprintf("probe-%d", turn%probedObjects), types.MergePatchType, patch,
			metav1.PatchOptions{})
	// What it is told is the writers' to count.
	if err == nil {
		r.probes.acknowledged(turn, 0)
	}
}
