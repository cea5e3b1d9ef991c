package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orrery.invalid/kubernetes/plane"
)

// How long a pod may be on its way before kwok is made to look at it again.
const nudgeAfter = 15 * time.Second

// nudge does what kwok leaves out of a kubelet: when it can't write the state of a pod or of a node, it
// does not try again before it sees it change. So what stands still is changed, by a note on it.
func (r *run) nudge(ctx context.Context) {
	since := map[types.UID]time.Time{}
	for turn := 0; ctx.Err() == nil; turn++ {
		pause(ctx, nudgeAfter/3)
		client := r.clients[turn%len(r.clients)].CoreV1()
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		fromCache := metav1.ListOptions{ResourceVersion: "0"}
		note := fmt.Appendf(nil, `{"metadata":{"annotations":{"looked-at":"%d"}}}`, turn)
		waiting := map[types.UID]time.Time{}
		// Whether it has been on its way for long; then it gets the time to go on.
		stands := func(id types.UID) bool {
			begun, known := since[id]
			if !known {
				begun = time.Now()
			}
			long := time.Since(begun) > nudgeAfter
			if long {
				begun = time.Now()
			}
			waiting[id] = begun
			return long
		}
		// What fails here is tried again in the next turn.
		if pods, err := client.Pods("").List(limited, fromCache); err == nil {
			for _, pod := range pods.Items {
				if pod.Spec.NodeName != "" && (pod.Status.Phase == corev1.PodPending ||
					pod.DeletionTimestamp != nil) && stands(pod.UID) {
					_, _ = client.Pods(pod.Namespace).
						Patch(limited, pod.Name, types.MergePatchType, note, metav1.PatchOptions{})
				}
			}
		}
		if nodes, err := client.Nodes().List(limited, fromCache); err == nil {
			for _, node := range nodes.Items {
				if !plane.IsReady(node) && stands(node.UID) {
					_, _ = client.Nodes().
						Patch(limited, node.Name, types.MergePatchType, note, metav1.PatchOptions{})
				}
			}
		}
		cancel()
		since = waiting
	}
}
