package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// check is what must hold once all is calm again: nothing is lost, each watch is alive and agrees with a
// fresh list, and nobody has panicked.
func (r *run) check(ctx context.Context, writing *writing, seen *observers) {
	entries := r.ledger.all()
	for server := range r.clients {
		listed, err := r.listConfigMaps(ctx, server)
		if err != nil {
			r.violated("a last list: %v", err)
			continue
		}
		for _, one := range writing.writers {
			for _, fault := range one.check(listed) {
				r.violated("API server %d: %s", server+1, fault)
			}
		}
	}
	var longest, usual time.Duration
	for _, one := range seen.informers {
		if err := eventually(ctx, patience, func() error { return r.agrees(ctx, one) }); err != nil {
			r.violated("an informer of API server %d: %v", one.server+1, err)
		}
		if delays := one.delays(entries); len(delays) > 0 {
			longest = max(longest, delays[len(delays)-1])
			usual = max(usual, delays[len(delays)*99/100])
		}
	}
	r.row("a watch shows a write after (p99)", milliseconds(usual))
	r.row("a watch shows a write after (longest)", milliseconds(longest))
	err := eventually(ctx, patience, func() error {
		if unseen := seen.storage.unseen(entries); len(unseen) > 0 {
			return fmt.Errorf("%d acknowledged writes were never shown, such as revision %d",
				len(unseen), unseen[0])
		}
		return nil
	})
	if err != nil {
		r.violated("the watch of the storage: %v", err)
	}
	for _, space := range r.eventSpaces {
		if err := r.expired(ctx, space); err != nil {
			r.violated("%s: %v", space, err)
		}
	}
	for _, failed := range append(r.plane.Failed(), r.members.Failed()...) {
		r.violated("%s", failed)
	}
	r.row("the caches' checks against the storage", r.consistencyChecks(ctx))
}

func (r *run) listConfigMaps(ctx context.Context, server int) (map[string]*corev1.ConfigMap, error) {
	listed := map[string]*corev1.ConfigMap{}
	err := eventually(ctx, patience, func() error {
		all, err := r.clients[server].CoreV1().ConfigMaps(writersNamespace).
			List(ctx, metav1.ListOptions{})
		if err == nil {
			for i := range all.Items {
				listed[all.Items[i].Name] = &all.Items[i]
			}
		}
		return err
	})
	return listed, err
}

// agrees compares an informer with a fresh list of its API server. Leader elections, which write
// ConfigMaps no longer, and everything else is at rest; pods may still be on their way.
func (r *run) agrees(ctx context.Context, one *observer) error {
	client := r.clients[one.server].CoreV1()
	maps, err := client.ConfigMaps("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	pods, err := client.Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	listedMaps, listedPods := versions{}, versions{}
	for _, item := range maps.Items {
		listedMaps[item.Namespace+"/"+item.Name] = item.ResourceVersion
	}
	for _, item := range pods.Items {
		listedPods[item.Namespace+"/"+item.Name] = item.ResourceVersion
	}
	everywhere := func(string) bool { return true }
	return errors.Join(
		listedMaps.differs(shown(one.configMaps, everywhere)),
		listedPods.differs(shown(one.pods, everywhere)))
}

// consistencyChecks sums how often the API servers compared their caches with the storage, by outcome.
func (r *run) consistencyChecks(ctx context.Context) string {
	outcomes := map[string]int{}
	for _, client := range r.clients {
		text, err := client.RESTClient().Get().AbsPath("/metrics").Do(ctx).Raw()
		if err != nil {
			note(err)
			continue
		}
		for line := range bytes.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
			if !strings.HasPrefix(name, "apiserver_storage_consistency_checks_total{") {
				continue
			}
			for _, outcome := range []string{"success", "failure", "error"} {
				var count int
				if _, err := fmt.Sscan(value, &count); err == nil &&
					strings.Contains(name, `status="`+outcome+`"`) {
					outcomes[outcome] += count
				}
			}
		}
	}
	if outcomes["failure"] > 0 {
		r.violated("%d caches were not what is stored", outcomes["failure"])
	}
	return fmt.Sprintf("%d passed, %d failed, %d not made", outcomes["success"], outcomes["failure"],
		outcomes["error"])
}
