package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"orrery.invalid/kubernetes/plane"
)

const (
	churnNamespace = "churn"
	// How often this program renews a lease of its own, whose latencies it knows exactly.
	ownRenewals = 10
	// For each request of this program.
	churnTimeout = 10 * time.Second
)

// churn is pods that come and go, an open loop, and an eye on them and on the nodes.
type churn struct {
	client *kubernetes.Clientset
	// Pods that begin in a second, and how long each of them lives.
	rate float64
	life time.Duration

	begun time.Time
	// What is due earlier, or later, is not counted.
	counted, ended time.Time

	creates, deletes, renewals, runs latencies

	leases [ownRenewals]ownLease

	guard    sync.Mutex
	pods     map[string]*churnPod
	errors   map[string]int
	notReady map[string]bool
}

// ownLease is as it was last answered; none before the first time.
type ownLease struct {
	guard sync.Mutex
	lease *coordinationv1.Lease
}

type churnPod struct {
	due       time.Time
	ran, gone bool
}

// start has informers follow pods and nodes until the context ends.
func (c *churn) start(ctx context.Context) error {
	c.pods, c.errors = map[string]*churnPod{}, map[string]int{}
	c.notReady = map[string]bool{}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: churnNamespace}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(c.client, 0)
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.sawPod,
		UpdateFunc: func(_, now any) { c.sawPod(now) },
		DeleteFunc: c.lostPod,
	})
	if err != nil {
		return err
	}
	_, err = factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.sawNode,
		UpdateFunc: func(_, now any) { c.sawNode(now) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return ctx.Err()
}

func (c *churn) sawPod(now any) {
	pod := now.(*corev1.Pod)
	c.guard.Lock()
	defer c.guard.Unlock()
	known := c.pods[pod.Name]
	if known == nil || known.ran || pod.Status.Phase != corev1.PodRunning {
		return
	}
	known.ran = true
	if c.counts(known.due) {
		c.runs.answer(time.Since(known.due))
	}
}

func (c *churn) lostPod(last any) {
	if unknown, is := last.(cache.DeletedFinalStateUnknown); is {
		last = unknown.Obj
	}
	c.guard.Lock()
	defer c.guard.Unlock()
	if known := c.pods[last.(*corev1.Pod).Name]; known != nil {
		known.gone = true
	}
}

func (c *churn) sawNode(now any) {
	if node := now.(*corev1.Node); !plane.IsReady(*node) {
		c.guard.Lock()
		defer c.guard.Unlock()
		c.notReady[node.Name] = true
	}
}

func (c *churn) counts(due time.Time) bool { return !due.Before(c.counted) && due.Before(c.ended) }

// run has pods come and go for the two times, calls begun and ended around the second one, and then
// waits until all pods have run and gone, as long as patience lasts.
func (c *churn) run(
	ctx context.Context, warm, window, patience time.Duration, begun, ended func() error,
) error {
	c.begun = time.Now()
	c.counted, c.ended = c.begun.Add(warm), c.begun.Add(warm+window)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() {
		c.every(ctx, c.rate, &all, func(number int, due time.Time) { c.live(ctx, number, due) })
	})
	all.Go(func() {
		c.every(ctx, ownRenewals, &all, func(number int, due time.Time) { c.renew(ctx, number, due) })
	})
	if err := pauseUntil(ctx, c.counted); err != nil {
		return err
	}
	if err := begun(); err != nil {
		return err
	}
	if err := pauseUntil(ctx, c.ended); err != nil {
		return err
	}
	if err := ended(); err != nil {
		return err
	}
	all.Wait()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if unborn, undead := c.left(); unborn+undead == 0 {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// every does something so many times a second, when it is due, whether or not it is done with what was
// due before: no request waits longer than its timeout, which bounds how many there are.
func (c *churn) every(ctx context.Context, rate float64, all *sync.WaitGroup, do func(int, time.Time)) {
	for number := 0; ; number++ {
		due := c.begun.Add(seconds(float64(number) / rate))
		if !due.Before(c.ended) || pauseUntil(ctx, due) != nil {
			return
		}
		all.Go(func() { do(number, due) })
	}
}

// live is the life of a pod.
func (c *churn) live(ctx context.Context, number int, due time.Time) {
	name := fmt.Sprintf("pod-%06d", number)
	c.guard.Lock()
	c.pods[name] = &churnPod{due: due}
	c.guard.Unlock()
	pods := c.client.CoreV1().Pods(churnNamespace)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "churn"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "image"}}},
	}
	made := c.ask(ctx, &c.creates, "creating a pod", due, func(ctx context.Context) error {
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
	end := due.Add(c.life)
	if !made || pauseUntil(ctx, end) != nil {
		return
	}
	c.ask(ctx, &c.deletes, "deleting a pod", end, func(ctx context.Context) error {
		return pods.Delete(ctx, name, metav1.DeleteOptions{})
	})
}

// renew is what a kubelet does with its lease. Each of the leases is a second old when it is renewed, so
// that a renewal meets another one only when that takes longer.
func (c *churn) renew(ctx context.Context, number int, due time.Time) {
	held := &c.leases[number%ownRenewals]
	held.guard.Lock()
	defer held.guard.Unlock()
	leases := c.client.CoordinationV1().Leases(churnNamespace)
	renewed := metav1.NewMicroTime(due)
	c.ask(ctx, &c.renewals, "renewing a lease", due, func(ctx context.Context) error {
		lease := held.lease.DeepCopy()
		var err error
		if lease == nil {
			lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("lease-%d", number%ownRenewals),
			}}
			lease.Spec.RenewTime = &renewed
			lease, err = leases.Create(ctx, lease, metav1.CreateOptions{})
		} else {
			lease.Spec.RenewTime = &renewed
			lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
		}
		if err == nil {
			held.lease = lease
		}
		return err
	})
}

// ask sends a request and counts it, and tells whether it was answered.
func (c *churn) ask(
	ctx context.Context, counted *latencies, what string, due time.Time, send func(context.Context) error,
) bool {
	ctx, cancel := context.WithDeadline(ctx, due.Add(churnTimeout))
	defer cancel()
	err := send(ctx)
	took := time.Since(due)
	if err != nil {
		c.guard.Lock()
		c.errors[fmt.Sprintf("%s: %.200s", what, err)]++
		c.guard.Unlock()
	}
	if c.counts(due) {
		if err != nil {
			counted.fail(max(took, churnTimeout))
		} else {
			counted.answer(took)
		}
	}
	return err == nil
}

// left is how many pods have not run, and how many of the others are still there.
func (c *churn) left() (unborn, undead int) {
	c.guard.Lock()
	defer c.guard.Unlock()
	for _, pod := range c.pods {
		switch {
		case !pod.ran:
			unborn++
		case !pod.gone:
			undead++
		}
	}
	return unborn, undead
}
