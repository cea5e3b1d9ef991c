package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	writersNamespace = "writers"
	writerPause      = 20 * time.Millisecond
	objectsPerWriter = 20
	// An object is deleted once no attempt to create it can be under way any more.
	lifetime = time.Minute
	deleteOf = 50 // every so many writes are a deletion and a creation
)

// writer writes objects that nobody else writes, as fast as it is answered, and knows in which states
// each may be: that which was acknowledged last, or one that was asked for since, whose answer was lost.
type writer struct {
	number  int
	run     *run
	server  int
	value   int
	objects []*object
	gone    []string
}

type object struct {
	name    string
	version string
	value   int
	maybe   map[int]bool
	made    time.Time
}

// writing is all writers.
type writing struct {
	writers []*writer
	end     context.CancelFunc
	ended   sync.WaitGroup
}

// startWriters has them write until they are stopped.
func (r *run) startWriters(ctx context.Context) *writing {
	ctx, end := context.WithCancel(ctx)
	all := &writing{end: end}
	for number := range r.size.writers {
		one := &writer{number: number, run: r, server: number % len(r.clients)}
		all.writers = append(all.writers, one)
		all.ended.Go(func() { one.write(ctx) })
	}
	return all
}

func (w *writing) stop() {
	w.end()
	w.ended.Wait()
}

func (w *writer) configMaps(server int) corev1client.ConfigMapInterface {
	return w.run.clients[server].CoreV1().ConfigMaps(writersNamespace)
}

// write ends between two writes, so that what is written last is known.
func (w *writer) write(ctx context.Context) {
	for turn := 0; ctx.Err() == nil; turn++ {
		uninterrupted := context.WithoutCancel(ctx)
		switch {
		case len(w.objects) < objectsPerWriter:
			w.create(uninterrupted)
		case turn%deleteOf == 0 && time.Since(w.objects[0].made) > lifetime:
			w.delete(uninterrupted)
		default:
			w.update(uninterrupted, w.objects[turn%len(w.objects)])
		}
		pause(ctx, writerPause)
	}
}

// attempt asks once. After a failure the next attempt is made of another API server, after a moment.
func (w *writer) attempt(ctx context.Context, ask func(context.Context, corev1client.ConfigMapInterface) error) error {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := ask(limited, w.configMaps(w.server))
	if err != nil && !isAnswer(err) {
		w.run.errors.add(kindOf(err))
		w.server = (w.server + 1) % len(w.run.clients)
		pause(ctx, retryPause)
	}
	return err
}

func (w *writer) create(ctx context.Context) {
	w.value++
	one := &object{
		name: fmt.Sprintf("w%d-%d", w.number, w.value), value: w.value, maybe: map[int]bool{},
	}
	for {
		var made *corev1.ConfigMap
		err := w.attempt(ctx, func(ctx context.Context, maps corev1client.ConfigMapInterface) (err error) {
			made, err = maps.Create(ctx, one.asked(w.value), metav1.CreateOptions{})
			return err
		})
		if apierrors.IsAlreadyExists(err) {
			// An attempt whose answer was lost.
			made, err = w.get(ctx, one)
		}
		if err == nil {
			one.made = time.Now()
			w.objects = append(w.objects, one)
			w.acknowledged(one, made)
			return
		}
		if isAnswer(err) {
			w.run.violated("creating %s: %v", one.name, err)
			return
		}
	}
}

func (w *writer) update(ctx context.Context, one *object) {
	w.value++
	var written *corev1.ConfigMap
	err := w.attempt(ctx, func(ctx context.Context, maps corev1client.ConfigMapInterface) (err error) {
		written, err = maps.Update(ctx, one.asked(w.value), metav1.UpdateOptions{})
		return err
	})
	if err == nil {
		w.acknowledged(one, written)
		return
	}
	// It may have been done, or may yet be.
	one.maybe[w.value] = true
	found, err := w.get(ctx, one)
	if err != nil {
		w.run.violated("%s was acknowledged with %d and is gone: %v", one.name, one.value, err)
		w.forget(one)
		return
	}
	if fault := one.fault(found); fault != "" {
		w.run.violated("%s", fault)
	}
	if found.ResourceVersion != one.version {
		w.acknowledged(one, found)
	}
}

func (w *writer) delete(ctx context.Context) {
	one := w.objects[0]
	for {
		err := w.attempt(ctx, func(ctx context.Context, maps corev1client.ConfigMapInterface) error {
			return maps.Delete(ctx, one.name, metav1.DeleteOptions{})
		})
		// What is not there was deleted by an attempt whose answer was lost.
		if err == nil || apierrors.IsNotFound(err) {
			w.forget(one)
			w.gone = append(w.gone, one.name)
			return
		}
	}
}

func (w *writer) forget(one *object) {
	for i, known := range w.objects {
		if known == one {
			w.objects = append(w.objects[:i], w.objects[i+1:]...)
			return
		}
	}
}

// get asks until there is an answer.
func (w *writer) get(ctx context.Context, one *object) (found *corev1.ConfigMap, err error) {
	for {
		err = w.attempt(ctx, func(ctx context.Context, maps corev1client.ConfigMapInterface) (err error) {
			found, err = maps.Get(ctx, one.name, metav1.GetOptions{})
			return err
		})
		if err == nil || isAnswer(err) {
			return found, err
		}
	}
}

func (w *writer) acknowledged(one *object, state *corev1.ConfigMap) {
	one.version, one.value = state.ResourceVersion, valueOf(state)
	clear(one.maybe)
	if revision, err := strconv.ParseInt(state.ResourceVersion, 10, 64); err == nil {
		w.run.ledger.acknowledged(w.number, revision)
	}
}

func (o *object) asked(value int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: o.name, ResourceVersion: o.version},
		Data:       map[string]string{"value": strconv.Itoa(value)},
	}
}

func valueOf(found *corev1.ConfigMap) int {
	value, _ := strconv.Atoi(found.Data["value"])
	return value
}

// fault says what is wrong with a state that was found.
func (o *object) fault(found *corev1.ConfigMap) string {
	value := valueOf(found)
	if value == o.value && found.ResourceVersion == o.version || o.maybe[value] {
		return ""
	}
	return fmt.Sprintf("%s is %d at %s, was acknowledged with %d at %s", o.name, value,
		found.ResourceVersion, o.value, o.version)
}

// check compares what an API server lists with what was acknowledged.
func (w *writer) check(listed map[string]*corev1.ConfigMap) (faults []string) {
	for _, one := range w.objects {
		found, is := listed[one.name]
		if !is {
			faults = append(faults, fmt.Sprintf("%s was acknowledged with %d and is gone", one.name, one.value))
		} else if fault := one.fault(found); fault != "" {
			faults = append(faults, fault)
		}
	}
	for _, name := range w.gone {
		if _, is := listed[name]; is {
			faults = append(faults, name+" was deleted and is there")
		}
	}
	return faults
}
