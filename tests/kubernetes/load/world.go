package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// Sizes of objects in bytes, as the reference has them: measured for leases, events and small pods.
const (
	leaseBytes = 350
	podBytes   = 1024
	eventBytes = 700
	sliceBytes = 2048
)

// Nodes of a service, of which each has an endpoint slice.
const nodesPerSlice = 20

// Puts of one Txn that fills the store; etcd takes 128.
const loadedAtOnce = 100

// Txns that fill the store at once.
const loaders = 8

// size is of what is in the store before the load comes.
type size struct {
	nodes, pods, nodeBytes, resources int
}

// object is what an API server has of one in its cache.
type object struct {
	guard sync.Mutex
	key   string
	// Zero while it is not there.
	revision int64
	// How many steps of its life have been taken.
	steps int
}

// resource is objects with one prefix.
type resource struct {
	prefix string
	filler []byte
	// Changes that were acknowledged, each of which a watch must tell of.
	changes atomic.Int64
}

// The resources that the load is about; API servers do not watch events, which they do not cache.
const (
	leases = iota
	nodes
	pods
	endpointSlices
	events
	resources
)

var prefixes = [resources]string{
	leases:         "/registry/leases/",
	nodes:          "/registry/minions/",
	pods:           "/registry/pods/",
	endpointSlices: "/registry/endpointslices/",
	events:         "/registry/events/",
}

// apiServer has, as a real one, a client with connections of its own for each resource.
type apiServer struct {
	clients [resources]*kubernetes.Client
	// For what else it keeps, which nobody changes here.
	idle []*kubernetes.Client
	// For leases, compaction and reads for health.
	own *kubernetes.Client

	lease object
	// What it knows of the compactions of all.
	compacting             sync.Mutex
	compactions, compactAt int64
}

// world is a control plane: what it has stored, and the API servers.
type world struct {
	cluster   *cluster
	size      size
	servers   [apiServers]*apiServer
	resources [resources]*resource
	objects   [resources][]object

	eventLease eventLease
	nextEvent  atomic.Int64
	conflicts  atomic.Int64
	closers    []func() error
}

func newWorld(c *cluster, s size, births int) (*world, error) {
	w := &world{cluster: c, size: s}
	random := rand.New(rand.NewPCG(1, 1))
	bytes := [resources]int{leaseBytes, s.nodeBytes, podBytes, sliceBytes, eventBytes}
	for at := range w.resources {
		w.resources[at] = &resource{prefix: prefixes[at], filler: filler(random, bytes[at])}
	}
	w.objects[leases] = named(s.nodes, "/registry/leases/kube-node-lease/node-%06d")
	w.objects[nodes] = named(s.nodes, "/registry/minions/node-%06d")
	w.objects[pods] = named(s.pods+births, "/registry/pods/default/web-6d4cf56db6-%07d")
	w.objects[endpointSlices] = named(s.nodes/nodesPerSlice+1, "/registry/endpointslices/default/web-%05d")
	for at := range w.servers {
		server, err := w.connect(at)
		if err != nil {
			w.close()
			return nil, err
		}
		w.servers[at] = server
	}
	return w, nil
}

func named(count int, pattern string) []object {
	all := make([]object, count)
	for at := range all {
		all[at].key = fmt.Sprintf(pattern, at)
	}
	return all
}

// filler is text that all objects of a resource share, as real ones share names of fields and images.
func filler(random *rand.Rand, size int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-./:{}"
	text := make([]byte, size)
	for at := range text {
		text[at] = letters[random.IntN(len(letters))]
	}
	return text
}

func (w *world) connect(at int) (*apiServer, error) {
	server := &apiServer{}
	server.lease.key = fmt.Sprintf("/registry/masterleases/10.0.0.%d", at+1)
	endpoints := w.cluster.endpoints()
	// Each begins with another member, as with API servers beside their own.
	endpoints = slices.Concat(endpoints[at%len(endpoints):], endpoints[:at%len(endpoints)])
	open := func() (*kubernetes.Client, error) {
		client, err := w.cluster.client(endpoints...)
		if err != nil {
			return nil, err
		}
		w.closers = append(w.closers, client.Close)
		both := &kubernetes.Client{Client: client}
		both.Kubernetes = both
		return both, nil
	}
	var err error
	for of := range server.clients {
		if server.clients[of], err = open(); err != nil {
			return nil, err
		}
	}
	for range w.size.resources - resources {
		client, err := open()
		if err != nil {
			return nil, err
		}
		server.idle = append(server.idle, client)
	}
	server.own, err = open()
	return server, err
}

func (w *world) close() {
	for _, one := range w.closers {
		one()
	}
}

// Digits of the time at which a value was sent, in nanoseconds, with which each begins.
const stampDigits = 19

// value is what is stored of an object: when it was sent, its name, and text that all have.
func (w *world) value(of int, key string) []byte {
	value := slices.Clone(w.resources[of].filler)
	stamp(value)
	copy(value[stampDigits:], key)
	return value
}

func stamp(value []byte) {
	copy(value, fmt.Sprintf("%0*d", stampDigits, time.Now().UnixNano()))
}

// sent is when a value with a stamp was sent.
func sent(value []byte) (time.Time, bool) {
	if len(value) < stampDigits {
		return time.Time{}, false
	}
	nanoseconds, err := strconv.ParseInt(string(value[:stampDigits]), 10, 64)
	return time.Unix(0, nanoseconds), err == nil
}

// fill stores what is there when the load begins.
func (w *world) fill(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, loaders)
	var loading sync.WaitGroup
	turn := 0
	for of, all := range w.objects {
		if of == pods {
			all = all[:w.size.pods]
		}
		for len(all) > 0 && ctx.Err() == nil {
			some := all[:min(loadedAtOnce, len(all))]
			all = all[len(some):]
			client := w.servers[turn%apiServers].clients[of]
			turn++
			slots <- struct{}{}
			loading.Go(func() {
				defer func() { <-slots }()
				if err := w.store(ctx, client, of, some); err != nil {
					cancel(err)
				}
			})
		}
	}
	loading.Wait()
	return context.Cause(ctx)
}

func (w *world) store(ctx context.Context, client *kubernetes.Client, of int, all []object) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var puts []clientv3.Op
	for at := range all {
		puts = append(puts, clientv3.OpPut(all[at].key, string(w.value(of, all[at].key))))
	}
	done, err := client.Txn(ctx).Then(puts...).Commit()
	if err != nil {
		return fmt.Errorf("filling the store: %w", err)
	}
	for at := range all {
		all[at].revision = done.Header.Revision
	}
	return nil
}
