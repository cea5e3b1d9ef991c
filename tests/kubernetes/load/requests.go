package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// Page of the lists with which API servers fill and check their caches.
const listLimit = 10_000

// Lives of leases in seconds: the one that events share, with what API servers add so that they can
// use it for a while, and that of an API server's own.
const (
	eventTTL       = 3660
	masterLeaseTTL = 15
)

// How long and for how many events a lease is used.
const (
	eventLeaseReuse  = time.Minute
	eventsOfOneLease = 1000
)

// How often a step looks whether the one before it was taken, which is rarely not so.
const stepPoll = 2 * time.Millisecond

const compactKey = "compact_rev_key"

var errGone = errors.New("the object is gone")

// eventLease is the lease that events share for a while.
type eventLease struct {
	guard   sync.Mutex
	id      clientv3.LeaseID
	granted time.Time
	events  int
}

// send makes the request, or the few requests, for which an arrival stands.
func (w *world) send(ctx context.Context, a arrival, also note) error {
	server := w.servers[a.subject%apiServers]
	switch a.verb {
	case leaseUpdate:
		return w.update(ctx, server, leases, a.subject)
	case nodeStatus:
		return w.update(ctx, server, nodes, a.subject)
	case podCreate:
		return w.step(ctx, a, func(o *object) error { return w.create(ctx, server, o) })
	case podBind, podStatus, podMark:
		return w.step(ctx, a, func(o *object) error { return w.replace(ctx, server, pods, o) })
	case podDelete:
		return w.step(ctx, a, func(o *object) error { return w.delete(ctx, server, o) })
	case podGet:
		return w.step(ctx, a, func(o *object) error { return get(ctx, server.clients[pods], o.key) })
	case eventCreate:
		return w.createEvent(ctx, server, also)
	case sliceUpdate:
		return w.update(ctx, server, endpointSlices, a.subject%len(w.objects[endpointSlices]))
	case consistentRead:
		_, err := server.clients[pods].Get(ctx, "/registry/pods", kubernetes.GetOptions{})
		return err
	case count:
		of := a.subject / apiServers % resources
		_, err := server.clients[of].Count(ctx, prefixes[of], kubernetes.CountOptions{})
		return err
	case listPage:
		of := []int{pods, nodes}[a.subject%2]
		options := kubernetes.ListOptions{Limit: listLimit}
		_, err := server.clients[of].List(ctx, prefixes[of], options)
		return err
	case listStream:
		of := []int{leases, events}[a.subject%2]
		_, err := stream(ctx, server.clients[of].Client, prefixes[of])
		return err
	case masterLease:
		return w.renewServer(ctx, server, also)
	case compactTxn:
		return server.compact(ctx, also)
	case compact, leaseGrant:
		return errors.New("comes with others")
	}
	return fmt.Errorf("no such verb: %d", a.verb)
}

func get(ctx context.Context, client *kubernetes.Client, key string) error {
	found, err := client.Kubernetes.Get(ctx, key, kubernetes.GetOptions{})
	if err == nil && found.KV == nil {
		return errGone
	}
	return err
}

// stream reads all that has a prefix by RangeStream, as it comes, and gives the number of objects.
func stream(ctx context.Context, client *clientv3.Client, prefix string) (int, error) {
	chunks, err := client.GetStream(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	objects := 0
	for chunk := range chunks {
		if err := chunk.Err(); err != nil {
			return objects, err
		}
		objects += len(chunk.Kvs)
	}
	return objects, ctx.Err()
}

// update changes an object.
func (w *world) update(ctx context.Context, server *apiServer, of, subject int) error {
	o := &w.objects[of][subject]
	o.guard.Lock()
	defer o.guard.Unlock()
	return w.replace(ctx, server, of, o)
}

// step takes a step in the life of a pod, after the one before it.
func (w *world) step(ctx context.Context, a arrival, take func(*object) error) error {
	o := &w.objects[pods][a.subject]
	o.guard.Lock()
	for o.steps < a.step {
		o.guard.Unlock()
		if err := pause(ctx, stepPoll); err != nil {
			return err
		}
		o.guard.Lock()
	}
	defer o.guard.Unlock()
	o.steps++
	return take(o)
}

// replace puts a new value where nobody else has changed the object, and tries again where somebody has.
func (w *world) replace(ctx context.Context, server *apiServer, of int, o *object) error {
	if o.revision == 0 {
		return errGone
	}
	for {
		options := kubernetes.PutOptions{GetOnFailure: true}
		value := w.value(of, o.key)
		done, err := server.clients[of].OptimisticPut(ctx, o.key, value, o.revision, options)
		switch {
		case err != nil:
			return err
		case done.Succeeded:
			o.revision = done.Revision
			w.resources[of].changes.Add(1)
			return nil
		case done.KV == nil:
			return errGone
		}
		w.conflicts.Add(1)
		o.revision = done.KV.ModRevision
	}
}

func (w *world) create(ctx context.Context, server *apiServer, o *object) error {
	value := w.value(pods, o.key)
	done, err := server.clients[pods].OptimisticPut(ctx, o.key, value, 0, kubernetes.PutOptions{})
	if err != nil {
		return err
	}
	if !done.Succeeded {
		return errors.New("the object is there")
	}
	o.revision = done.Revision
	w.resources[pods].changes.Add(1)
	return nil
}

func (w *world) delete(ctx context.Context, server *apiServer, o *object) error {
	for {
		options := kubernetes.DeleteOptions{GetOnFailure: true}
		done, err := server.clients[pods].OptimisticDelete(ctx, o.key, o.revision, options)
		switch {
		case err != nil:
			return err
		case done.Succeeded:
			w.resources[pods].changes.Add(1)
			return nil
		case done.KV == nil:
			return errGone
		}
		w.conflicts.Add(1)
		o.revision = done.KV.ModRevision
	}
}

func (w *world) createEvent(ctx context.Context, server *apiServer, also note) error {
	lease, err := w.leaseForEvent(ctx, server, also)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("/registry/events/default/web-6d4cf56db6.%016x", w.nextEvent.Add(1))
	options := kubernetes.PutOptions{LeaseID: lease}
	done, err := server.clients[events].OptimisticPut(ctx, key, w.value(events, key), 0, options)
	if err == nil && !done.Succeeded {
		err = errors.New("the event is there")
	}
	return err
}

func (w *world) leaseForEvent(
	ctx context.Context, server *apiServer, also note,
) (clientv3.LeaseID, error) {
	shared := &w.eventLease
	shared.guard.Lock()
	defer shared.guard.Unlock()
	if shared.id == 0 || shared.events >= eventsOfOneLease ||
		time.Since(shared.granted) > eventLeaseReuse {
		id, err := server.grant(ctx, eventTTL, also)
		if err != nil {
			return 0, err
		}
		shared.id, shared.granted, shared.events = id, time.Now(), 0
	}
	shared.events++
	return shared.id, nil
}

func (s *apiServer) grant(ctx context.Context, ttl int64, also note) (clientv3.LeaseID, error) {
	began := time.Now()
	granted, err := s.own.Grant(ctx, ttl)
	also(leaseGrant, began, err)
	if err != nil {
		return 0, err
	}
	return granted.ID, nil
}

// renewServer has an API server say that it is there.
func (w *world) renewServer(ctx context.Context, server *apiServer, also note) error {
	o := &server.lease
	o.guard.Lock()
	defer o.guard.Unlock()
	lease, err := server.grant(ctx, masterLeaseTTL, also)
	if err != nil {
		return err
	}
	options := kubernetes.PutOptions{GetOnFailure: true, LeaseID: lease}
	done, err := server.own.OptimisticPut(ctx, o.key, w.value(leases, o.key), o.revision, options)
	switch {
	case err != nil:
		return err
	case done.Succeeded:
		o.revision = done.Revision
	case done.KV == nil:
		// It ran out.
		o.revision = 0
	default:
		o.revision = done.KV.ModRevision
	}
	return nil
}

// compact is what each API server does: the one whose Txn succeeds compacts to where all was when it
// tried last.
func (s *apiServer) compact(ctx context.Context, also note) error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	done, err := s.own.Txn(ctx).
		If(clientv3.Compare(clientv3.Version(compactKey), "=", s.compactions)).
		Then(clientv3.OpPut(compactKey, strconv.FormatInt(s.compactAt, 10))).
		Else(clientv3.OpGet(compactKey)).
		Commit()
	if err != nil {
		return err
	}
	to := s.compactAt
	s.compactAt = done.Header.Revision
	if !done.Succeeded {
		found := done.Responses[0].GetResponseRange().Kvs
		if len(found) == 0 {
			return errGone
		}
		s.compactions = found[0].Version
		return nil
	}
	s.compactions++
	if to > 0 {
		began := time.Now()
		_, err := s.own.Compact(ctx, to)
		also(compact, began, err)
	}
	return nil
}
