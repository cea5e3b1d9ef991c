package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

const (
	customSpace   = "default"
	customBatches = 10
	customMakers  = 12
	chunk         = 500
)

// A definition of its own for each phase.
const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.%[1]s.example.org}
spec:
  group: %[1]s.example.org
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer}, text: {type: string}}}
`

func (r *run) group() string { return r.phase + ".example.org" }

func (r *run) customs(server int) dynamic.ResourceInterface {
	kind := schema.GroupVersionResource{Group: r.group(), Version: "v1", Resource: "widgets"}
	return r.dynamic[server].Resource(kind).Namespace(customSpace)
}

// defineCustom returns once each API server serves it.
func defineCustom(ctx context.Context, r *run) error {
	name := "crd/widgets." + r.group()
	if _, err := r.kubectl(ctx, fmt.Sprintf(definition, r.phase), "apply", "-f", "-"); err != nil {
		return err
	}
	_, err := r.kubectl(ctx, "", "wait", "--for=condition=Established", name, "--timeout=60s")
	if err != nil {
		return err
	}
	for server := range r.clients {
		err := eventually(ctx, patience, func() error {
			limited, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			_, err := r.customs(server).List(limited, metav1.ListOptions{Limit: 1})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) custom(i int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": r.group() + "/v1", "kind": "Widget",
		"metadata": map[string]any{
			"name":   fmt.Sprintf("widget-%06d", i),
			"labels": map[string]any{"batch": fmt.Sprint(i % customBatches)},
		},
		"spec": map[string]any{"size": int64(i), "text": strings.Repeat("x", 200)},
	}}
}

func createCustoms(ctx context.Context, r *run) error {
	var makers sync.WaitGroup
	failures := make([]error, customMakers)
	for maker := range customMakers {
		makers.Go(func() {
			for i := maker; i < r.size.customs && failures[maker] == nil; i += customMakers {
				failures[maker] = r.createCustom(ctx, i)
			}
		})
	}
	makers.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	listed, err := r.kubectl(ctx, "", "get", "widgets."+r.group(), "-n", customSpace, "-o", "name",
		fmt.Sprintf("--chunk-size=%d", chunk))
	if err != nil {
		return err
	}
	if found := strings.Count(listed, "\n"); found != r.size.customs {
		return fmt.Errorf("kubectl finds %d of %d", found, r.size.customs)
	}
	return nil
}

func (r *run) createCustom(ctx context.Context, i int) error {
	failed, err := r.try(ctx, i, func(ctx context.Context, server int) error {
		_, err := r.customs(server).Create(ctx, r.custom(i), metav1.CreateOptions{})
		return err
	})
	return unlessMade(failed, err)
}

// customVersions lists all at one API server.
func (r *run) customVersions(ctx context.Context, server int) (versions, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	listed, err := r.customs(server).List(limited, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := versions{}
	for _, item := range listed.Items {
		all[item.GetName()] = item.GetResourceVersion()
	}
	return all, nil
}

// chunkedList reads all in chunks, which are all of one moment: what is created in the meantime is in
// none of them. History that is compacted in the meantime is a reason to begin again.
func chunkedList(ctx context.Context, r *run) error {
	_, err := r.asking(ctx, patience, func(ctx context.Context, server int) error {
		return r.listInChunks(ctx, server)
	})
	return err
}

func (r *run) listInChunks(ctx context.Context, server int) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, moment := map[string]bool{}, ""
	options := metav1.ListOptions{Limit: chunk}
	for page := 0; ; page++ {
		listed, err := r.customs(server).List(limited, options)
		if err != nil {
			return err
		}
		for _, item := range listed.Items {
			if found[item.GetName()] {
				return contradictionf("%s is in two chunks", item.GetName())
			}
			found[item.GetName()] = true
		}
		if page == 0 {
			moment = listed.GetResourceVersion()
			// Behind all others, so that the last chunk would have it.
			if err := r.createCustom(ctx, 999_999); err != nil && !apierrors.IsAlreadyExists(err) {
				return err
			}
			defer func() { note(r.deleteCustom(ctx, 999_999)) }()
		}
		if listed.GetResourceVersion() != moment {
			return contradictionf("a chunk is of %s, the first of %s", listed.GetResourceVersion(), moment)
		}
		left := listed.GetRemainingItemCount()
		if left != nil && page > 0 && int64(len(found))+*left < int64(r.size.customs) {
			return contradictionf("%d were listed, %d are said to be left", len(found), *left)
		}
		if options.Continue = listed.GetContinue(); options.Continue == "" {
			break
		}
	}
	if len(found) != r.size.customs {
		return contradictionf("the chunks have %d of %d", len(found), r.size.customs)
	}
	return nil
}

func (r *run) deleteCustom(ctx context.Context, i int) error {
	_, err := r.try(ctx, i, func(ctx context.Context, server int) error {
		return r.customs(server).Delete(ctx, r.custom(i).GetName(), metav1.DeleteOptions{})
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// watchList opens a watch that tells everything there is before it tells what changes.
func watchList(ctx context.Context, r *run) error {
	_, err := r.asking(ctx, patience, func(ctx context.Context, server int) error {
		return r.watchFromNothing(ctx, server)
	})
	return err
}

func (r *run) watchFromNothing(ctx context.Context, server int) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all := true
	watching, err := r.customs(server).Watch(limited, metav1.ListOptions{
		SendInitialEvents: &all, AllowWatchBookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		return err
	}
	defer watching.Stop()
	told := versions{}
	for event := range watching.ResultChan() {
		item, is := event.Object.(*unstructured.Unstructured)
		if !is {
			return apierrors.FromObject(event.Object)
		}
		switch event.Type {
		case watch.Added:
			told[item.GetName()] = item.GetResourceVersion()
		case watch.Bookmark:
			if item.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
				continue
			}
			listed, err := r.customVersions(ctx, server)
			if err != nil {
				return err
			}
			return listed.differs(told)
		}
	}
	return errors.New("the watch ended before it had told everything")
}

// deleteCollection takes one of the batches, and no other object.
func deleteCollection(ctx context.Context, r *run) error {
	before, err := r.stored(ctx, r.customPrefix())
	if err != nil {
		return err
	}
	_, err = r.asking(ctx, patience, func(ctx context.Context, server int) error {
		limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		return r.customs(server).DeleteCollection(limited, metav1.DeleteOptions{},
			metav1.ListOptions{LabelSelector: "batch=0"})
	})
	if err != nil {
		return err
	}
	after, err := r.stored(ctx, r.customPrefix())
	if err != nil {
		return err
	}
	batch := (r.size.customs + customBatches - 1) / customBatches
	if len(before.Kvs)-len(after.Kvs) != batch {
		return fmt.Errorf("%d were there, %d are left; %d were to go", len(before.Kvs), len(after.Kvs), batch)
	}
	return nil
}

func (r *run) customPrefix() string { return "/registry/" + r.group() + "/widgets/" }

// removeCustom deletes the definition, and with it everything that it defined.
func removeCustom(ctx context.Context, r *run) error {
	_, err := r.kubectl(ctx, "", "delete", "crd", "widgets."+r.group(), "--ignore-not-found",
		"--timeout=8m")
	if err != nil {
		return err
	}
	left, err := r.stored(ctx, r.customPrefix())
	if err == nil && len(left.Kvs) > 0 {
		err = fmt.Errorf("%d of them are left in the storage", len(left.Kvs))
	}
	return err
}
