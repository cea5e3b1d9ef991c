package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	clientv3 "go.etcd.io/etcd/client/v3"

	"orrery.invalid/kubernetes/plane"
)

// stored reads what is in the storage itself, below a prefix.
func (r *run) stored(ctx context.Context, prefix string) (*clientv3.GetResponse, error) {
	var found *clientv3.GetResponse
	err := eventually(ctx, patience, func() (err error) {
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		found, err = r.etcd.Get(limited, prefix, clientv3.WithPrefix())
		return err
	})
	return found, err
}

func holdsKey(found *clientv3.GetResponse, key string) bool {
	for _, pair := range found.Kvs {
		if string(pair.Key) == key {
			return true
		}
	}
	return false
}

func (r *run) createMap(ctx context.Context, server int, namespace, name string) error {
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": "0"},
	}
	failed, err := r.try(ctx, server, func(ctx context.Context, server int) error {
		_, err := r.clients[server].CoreV1().ConfigMaps(namespace).
			Create(ctx, wanted, metav1.CreateOptions{})
		return err
	})
	return unlessMade(failed, err)
}

// configMaps are created, replaced, patched, read at another API server than they were written at, and
// deleted.
func configMaps(ctx context.Context, r *run) error {
	space := r.in("maps")
	if err := r.create(ctx, 0, space); err != nil {
		return err
	}
	for i := range r.size.objects {
		name := fmt.Sprintf("map-%d", i)
		if err := r.createMap(ctx, i, space, name); err != nil {
			return err
		}
		patch := fmt.Appendf(nil, `{"data":{"value":"%d"}}`, i)
		_, err := r.try(ctx, i, func(ctx context.Context, server int) error {
			_, err := r.clients[server].CoreV1().ConfigMaps(space).
				Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		})
		if err != nil {
			return err
		}
		var found *corev1.ConfigMap
		_, err = r.try(ctx, i+1, func(ctx context.Context, server int) (err error) {
			found, err = r.clients[server].CoreV1().ConfigMaps(space).Get(ctx, name, metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
		if found.Data["value"] != strconv.Itoa(i) {
			return fmt.Errorf("%s was patched to %d and is %s", name, i, found.Data["value"])
		}
		if i%2 == 0 {
			continue
		}
		failed, err := r.try(ctx, i+2, func(ctx context.Context, server int) error {
			return r.clients[server].CoreV1().ConfigMaps(space).Delete(ctx, name, metav1.DeleteOptions{})
		})
		if err != nil && !(failed > 0 && apierrors.IsNotFound(err)) {
			return err
		}
	}
	listed, err := r.kubectl(ctx, "", "get", "configmaps", "-n", space, "-o", "name")
	if err != nil {
		return err
	}
	if found := strings.Count(listed, "configmap/map-"); found != (r.size.objects+1)/2 {
		return fmt.Errorf("there are %d ConfigMaps of %d", found, (r.size.objects+1)/2)
	}
	return r.removeNamespaces(ctx, space)
}

// secrets are read back as they were, and nothing of them is in the storage as it is.
func secrets(ctx context.Context, r *run) error {
	space, secret := r.in("secrets"), []byte("nobody is to read this")
	if err := r.create(ctx, 0, space); err != nil {
		return err
	}
	for i := range r.size.objects / 4 {
		wanted := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("secret-%d", i)},
			Data:       map[string][]byte{"word": secret},
		}
		failed, err := r.try(ctx, i, func(ctx context.Context, server int) error {
			_, err := r.clients[server].CoreV1().Secrets(space).Create(ctx, wanted, metav1.CreateOptions{})
			return err
		})
		if unlessMade(failed, err) != nil {
			return err
		}
		var found *corev1.Secret
		_, err = r.try(ctx, i+1, func(ctx context.Context, server int) (err error) {
			found, err = r.clients[server].CoreV1().Secrets(space).Get(ctx, wanted.Name, metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
		if !bytes.Equal(found.Data["word"], secret) {
			return fmt.Errorf("%s is not what was written", wanted.Name)
		}
	}
	kept, err := r.stored(ctx, "/registry/secrets/"+space+"/")
	if err != nil {
		return err
	}
	if len(kept.Kvs) != r.size.objects/4 {
		return fmt.Errorf("%d secrets are in the storage of %d", len(kept.Kvs), r.size.objects/4)
	}
	for _, pair := range kept.Kvs {
		if !bytes.HasPrefix(pair.Value, []byte(plane.EncryptedPrefix)) || bytes.Contains(pair.Value, secret) {
			return fmt.Errorf("%s is not encrypted", pair.Key)
		}
	}
	return r.removeNamespaces(ctx, space)
}

const (
	rivals   = 6
	eachAdds = 15
)

// optimisticConflicts: several add to the same number, each on top of what it has read. No two may be
// told that they made it the same number.
func optimisticConflicts(ctx context.Context, r *run) error {
	space := r.in("counter")
	if err := r.create(ctx, 0, space); err != nil {
		return err
	}
	if err := r.createMap(ctx, 0, space, "counter"); err != nil {
		return err
	}
	var (
		adding    sync.WaitGroup
		mutex     sync.Mutex
		won       = map[int]int{}
		conflicts int
		problems  []error
	)
	for rival := range rivals {
		adding.Go(func() {
			for added := 0; added < eachAdds; {
				number, err := r.addOne(ctx, rival, space)
				mutex.Lock()
				switch {
				case err == nil:
					won[number]++
					added++
				case apierrors.IsConflict(err):
					conflicts++
				default:
					problems = append(problems, err)
					added = eachAdds
				}
				mutex.Unlock()
			}
		})
	}
	adding.Wait()
	for number, winners := range won {
		if winners > 1 {
			problems = append(problems, fmt.Errorf("%d were told that they made it %d", winners, number))
		}
	}
	if conflicts == 0 {
		problems = append(problems, errors.New("nobody met a conflict"))
	}
	r.say("%s: %d conflicts for %d additions", r.phase, conflicts, len(won))
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	return r.removeNamespaces(ctx, space)
}

// addOne asks once: what failed may have been done, and the next attempt is a new addition.
func (r *run) addOne(ctx context.Context, server int, space string) (int, error) {
	var number int
	_, err := r.try(ctx, server, func(ctx context.Context, server int) error {
		maps := r.clients[server].CoreV1().ConfigMaps(space)
		counter, err := maps.Get(ctx, "counter", metav1.GetOptions{})
		if err != nil {
			return err
		}
		number = valueOf(counter) + 1
		counter.Data["value"] = strconv.Itoa(number)
		_, err = maps.Update(ctx, counter, metav1.UpdateOptions{})
		return err
	})
	return number, err
}

const applied = `apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {%s: "%s"}
`

// serverSideApply: two managers own a field each; who takes the other's is refused unless it insists.
func serverSideApply(ctx context.Context, r *run) error {
	space := r.in("applied")
	if err := r.create(ctx, 0, space); err != nil {
		return err
	}
	for _, manager := range []string{"one", "other"} {
		_, err := r.kubectl(ctx, fmt.Sprintf(applied, manager, "own"), "apply", "--server-side",
			"--field-manager="+manager, "-n", space, "-f", "-")
		if err != nil {
			return err
		}
	}
	taken := fmt.Appendf(nil, applied, "one", "taken")
	take := func(force bool) error {
		_, err := r.try(ctx, 1, func(ctx context.Context, server int) error {
			_, err := r.clients[server].CoreV1().ConfigMaps(space).Patch(ctx, "shared",
				types.ApplyPatchType, taken, metav1.PatchOptions{FieldManager: "other", Force: &force})
			return err
		})
		return err
	}
	if err := take(false); !apierrors.IsConflict(err) {
		return fmt.Errorf("a field of another manager was taken without a conflict: %v", err)
	}
	if err := take(true); err != nil {
		return err
	}
	value, err := r.kubectl(ctx, "", "get", "configmap", "shared", "-n", space, "-o", "jsonpath={.data}")
	if err != nil {
		return err
	}
	// `other` no longer applies the field of its own name, so it is gone.
	if value != `{"one":"taken"}` {
		return fmt.Errorf("after all it is %s", value)
	}
	return r.removeNamespaces(ctx, space)
}

const eventsWritten = 50

func (r *run) eventsIn(ctx context.Context, space string) (count int, err error) {
	_, err = r.try(ctx, 0, func(ctx context.Context, server int) error {
		listed, err := r.clients[server].CoreV1().Events(space).List(ctx, metav1.ListOptions{})
		if err == nil {
			count = len(listed.Items)
		}
		return err
	})
	return count, err
}

func writeEvents(ctx context.Context, r *run) error {
	space := r.in("events")
	if err := r.create(ctx, 0, space); err != nil {
		return err
	}
	for i := range eventsWritten {
		event := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("event-%d", i)},
			InvolvedObject: corev1.ObjectReference{Kind: "Namespace", Name: space, Namespace: space},
			Reason:         "Scenario", Message: "is to expire", Type: corev1.EventTypeNormal,
			LastTimestamp: metav1.Now(),
		}
		failed, err := r.try(ctx, i, func(ctx context.Context, server int) error {
			_, err := r.clients[server].CoreV1().Events(space).Create(ctx, event, metav1.CreateOptions{})
			return err
		})
		if err := unlessMade(failed, err); err != nil {
			return err
		}
	}
	r.eventSpaces = append(r.eventSpaces, space)
	count, err := r.eventsIn(ctx, space)
	if err != nil {
		return err
	}
	// Where it took longer than they live, some are gone.
	if count == 0 {
		return errors.New("none of the events is there")
	}
	return nil
}

// eventsExpire: etcd gives every lease its whole time again whenever another member leads, so that under
// faults they may live for ever. That is told, and nothing worse; in the end they must be gone.
func eventsExpire(ctx context.Context, r *run) error {
	err := r.expired(ctx, r.in("events"))
	if err != nil && r.phase != "calm" {
		r.say("%s: %v, where leaders change", r.phase, err)
		return errLate
	}
	return err
}

// errLate is no violation.
var errLate = errors.New("not in two minutes")

func (r *run) expired(ctx context.Context, space string) error {
	return eventually(ctx, eventTTL+patience, func() error {
		count, err := r.eventsIn(ctx, space)
		if err == nil && count > 0 {
			return fmt.Errorf("%d events are there after %s", count, eventTTL)
		}
		return err
	})
}

// allAgree: each API server tells the same of what nobody changes.
func allAgree(ctx context.Context, r *run) error {
	var first versions
	for server := range r.clients {
		var told versions
		_, err := r.asking(ctx, patience, func(ctx context.Context, _ int) (err error) {
			told, err = r.customVersions(ctx, server)
			return err
		})
		if err != nil {
			return err
		}
		if server == 0 {
			first = told
		}
		if err := first.differs(told); err != nil {
			return fmt.Errorf("API servers 1 and %d: %w", server+1, err)
		}
	}
	return nil
}

// restartAPIServer kills one, and it tells the same afterwards as the others do.
func restartAPIServer(ctx context.Context, r *run) error {
	const restarted = 1
	begun := time.Now()
	if err := r.plane.APIServers[restarted].Restart(ctx); err != nil {
		return err
	}
	r.say("%s: the API server was ready after %s", r.phase, seconds(time.Since(begun)))
	return allAgree(ctx, r)
}
