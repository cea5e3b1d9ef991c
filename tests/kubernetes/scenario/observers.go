package main

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// observers are an informer for each API server, and a watch of the storage itself that must show each
// acknowledged write, whatever happens to the members.
type observers struct {
	run       *run
	informers []*observer
	storage   *storageWatch
	end       context.CancelFunc
	ended     sync.WaitGroup
}

// observer is an informer of all ConfigMaps and Pods at one API server.
type observer struct {
	server     int
	configMaps cache.SharedIndexInformer
	pods       cache.SharedIndexInformer

	mutex sync.Mutex
	seen  map[int64]time.Duration // when each revision was seen, as the ledger counts time
}

func (r *run) observe(ctx context.Context) (*observers, error) {
	ctx, end := context.WithCancel(ctx)
	all := &observers{run: r, end: end}
	for server, client := range r.clients {
		factory := informers.NewSharedInformerFactory(client, 0)
		one := &observer{
			server: server, seen: map[int64]time.Duration{},
			configMaps: factory.Core().V1().ConfigMaps().Informer(),
			pods:       factory.Core().V1().Pods().Informer(),
		}
		_, err := one.configMaps.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(now any) { one.sees(r, nil, now) },
			UpdateFunc: func(before, now any) { one.sees(r, before, now) },
		})
		if err != nil {
			end()
			return nil, err
		}
		factory.Start(ctx.Done())
		factory.WaitForCacheSync(ctx.Done())
		all.informers = append(all.informers, one)
	}
	storage, err := r.watchStorage(ctx)
	if err != nil {
		end()
		return nil, err
	}
	all.storage = storage
	all.ended.Go(func() { storage.follow(ctx, r) })
	return all, nil
}

func (o *observers) stop() {
	o.end()
	o.ended.Wait()
}

func (o *observer) sees(r *run, before, now any) {
	shown, is := now.(*corev1.ConfigMap)
	if !is {
		return
	}
	revision := revisionOf(shown)
	if earlier, is := before.(*corev1.ConfigMap); is && revisionOf(earlier) > revision &&
		earlier.UID == shown.UID {
		r.violated("a watch of API server %d went back in time with %s/%s: %d after %d",
			o.server+1, shown.Namespace, shown.Name, revision, revisionOf(earlier))
	}
	if shown.Namespace != writersNamespace {
		return
	}
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if _, known := o.seen[revision]; !known {
		o.seen[revision] = r.ledger.now()
	}
}

func revisionOf(object metav1.Object) int64 {
	revision, _ := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	return revision
}

// delays are how long after its acknowledgement each write was seen, in order.
func (o *observer) delays(entries []entry) []time.Duration {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	var delays []time.Duration
	for _, one := range entries {
		if at, seen := o.seen[one.revision]; seen {
			delays = append(delays, max(0, at-one.at))
		}
	}
	slices.Sort(delays)
	return delays
}

// versions are the resourceVersions of objects by name.
type versions map[string]string

// shown is what an informer holds, in namespaces where nothing changes any more.
func shown(informer cache.SharedIndexInformer, wanted func(namespace string) bool) versions {
	all := versions{}
	for _, held := range informer.GetStore().List() {
		if object, err := meta.Accessor(held); err == nil && wanted(object.GetNamespace()) {
			all[object.GetNamespace()+"/"+object.GetName()] = object.GetResourceVersion()
		}
	}
	return all
}

// differs says where two are not the same.
func (v versions) differs(other versions) error {
	for name, version := range v {
		if other[name] != version {
			return contradictionf("%s is at %s for one and at %q for the other; %d and %d objects",
				name, version, other[name], len(v), len(other))
		}
	}
	if len(v) != len(other) {
		return contradictionf("one has %d objects, the other %d", len(v), len(other))
	}
	return nil
}

// storageWatch is a watch of what the API servers write for the writers.
type storageWatch struct {
	from int64

	mutex sync.Mutex
	seen  map[int64]bool
	last  int64
	// What a compaction took away before it was shown: up to this revision.
	missed      int64
	compactions int
}

const writersPrefix = "/registry/configmaps/" + writersNamespace + "/"

func (r *run) watchStorage(ctx context.Context) (*storageWatch, error) {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	now, err := r.etcd.Get(limited, "none")
	if err != nil {
		return nil, err
	}
	return &storageWatch{from: now.Header.Revision + 1, seen: map[int64]bool{}}, nil
}

func (s *storageWatch) follow(ctx context.Context, r *run) {
	for from := s.from; ctx.Err() == nil; pause(ctx, retryPause) {
		attempt, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		watch := r.etcd.Watch(attempt, writersPrefix, clientv3.WithPrefix(), clientv3.WithRev(from))
		for response := range watch {
			if response.CompactRevision > 0 {
				s.compacted(response.CompactRevision)
				from = response.CompactRevision
				break
			}
			for _, event := range response.Events {
				s.sees(r, event.Kv.ModRevision)
				from = event.Kv.ModRevision + 1
			}
		}
		cancel()
	}
}

func (s *storageWatch) sees(r *run, revision int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if revision <= s.last {
		r.violated("a watch of the storage showed revision %d after %d", revision, s.last)
	}
	s.last, s.seen[revision] = revision, true
}

func (s *storageWatch) compacted(revision int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.missed, s.last = revision, revision-1
	s.compactions++
}

// unseen is the acknowledged writes that were not shown and should have been.
func (s *storageWatch) unseen(entries []entry) (revisions []int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, one := range entries {
		if one.revision >= s.from && one.revision >= s.missed && !s.seen[one.revision] {
			revisions = append(revisions, one.revision)
		}
	}
	return revisions
}
