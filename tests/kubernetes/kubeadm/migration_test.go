package kubeadm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// The steps of deploy/kubernetes/README.md, one function for each command.

// save is `etcdctl snapshot save`.
func save(n *node, to string) {
	n.t.Helper()
	run(n.t, tool(n.t, "ETCD_BIN", "etcdctl"), "snapshot", "save", to, "--endpoints="+n.clientURL(),
		"--cacert="+n.pki.file("etcd/ca.crt"), "--cert="+n.pki.file("etcd/healthcheck-client.crt"),
		"--key="+n.pki.file("etcd/healthcheck-client.key"))
}

// restore puts the old data aside and makes new ones of the snapshot, with the members as they were.
func restore(n *node, program, snapshot string, all []*node, flags ...string) {
	n.t.Helper()
	check(n.t, os.Rename(n.data, n.data+fmt.Sprintf(".before-%d", time.Now().UnixNano())))
	run(n.t, program, append([]string{"snapshot", "restore", snapshot, "--data-dir=" + n.data,
		"--name=" + n.name, "--initial-cluster=" + founders(all),
		"--initial-advertise-peer-urls=" + n.peerURL()}, flags...)...)
}

func founders(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.name+"="+n.peerURL())
	}
	return strings.Join(all, ",")
}

// moved is a move of all members to another program, from a snapshot that is there.
func moved(nodes []*node, binary, program, snapshot string, flags ...string) {
	for _, n := range nodes {
		n.down()
		restore(n, program, snapshot, nodes, flags...)
		n.binary = binary
	}
	for _, n := range nodes {
		n.start(n.command(""))
	}
	for _, n := range nodes {
		n.waitReady()
	}
}

func TestMigrationKeepsRevisions(t *testing.T) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d members", size), func(t *testing.T) {
			etcd, etcdutl := tool(t, "ETCD_BIN", "etcd"), tool(t, "ETCD_BIN", "etcdutl")
			nodes := etcdNodes(t, etcd, size)
			ours := os.Getenv("ORRERY_BIN")
			api := newAPIServer(t, nodes)
			api.up()
			c := newContents(t, api)
			c.create(200)
			seen := c.watch()
			c.change(1)
			seen.expectCurrent(c)

			for at, to := range []struct{ binary, program string }{{ours, ours}, {etcd, etcdutl}} {
				before := c.all()
				api.down()
				snapshot := filepath.Join(t.TempDir(), "snapshot.db")
				save(nodes[0], snapshot)
				start := time.Now()
				moved(nodes, to.binary, to.program, snapshot)
				t.Logf("restored and started in %v", time.Since(start))
				api.up()
				expectSameObjects(t, before, c.all())
				c.change(2 + at)
				seen.expectCurrent(c)
				expect(t, "objects that a running informer saw go", seen.deleted(), 0)
			}
		})
	}
}

// The control plane runs on while the snapshot is taken, so clients know of more than is in it.
func TestMigrationOfARunningControlPlaneRaisesTheRevision(t *testing.T) {
	etcd := tool(t, "ETCD_BIN", "etcd")
	nodes := etcdNodes(t, etcd, 1)
	ours := os.Getenv("ORRERY_BIN")
	api := newAPIServer(t, nodes)
	api.up()
	c := newContents(t, api)
	c.create(50)
	seen := c.watch()
	snapshot := filepath.Join(t.TempDir(), "snapshot.db")
	save(nodes[0], snapshot)
	late := c.configMap("written-after-the-snapshot")
	late, err := c.client.CoreV1().ConfigMaps(namespace).Create(deadline(t), late, meta.CreateOptions{})
	check(t, err)
	seen.expectCurrent(c)

	moved(nodes, ours, ours, snapshot, "--bump-revision=1000000000", "--mark-compacted")
	// It has cached what the storage has not: the guide has it restarted.
	api.down()
	api.up()
	for _, found := range c.configMaps() {
		if found.Name == late.Name {
			t.Fatal("what was written after the snapshot is there")
		}
	}
	seen.expectCurrent(c)
	c.change(1)
	seen.expectCurrent(c)
	expect(t, "objects that a running informer saw go", seen.deleted(), 1)
	if newest := c.configMaps()[0].ResourceVersion; len(newest) < len("1000000000") {
		t.Logf("kept its resource version: %s", newest)
	}
}

func etcdNodes(t *testing.T, etcd string, size int) []*node {
	t.Helper()
	authority := newPKI(t, newest.newKey)
	var nodes []*node
	for number := 1; number <= size; number++ {
		n := newNode(t, newest, authority, number)
		n.binary = etcd
		nodes = append(nodes, n)
	}
	nodes[0].up(nodes[0].command(""))
	for _, n := range nodes[1:] {
		n.join(nodes[0].clientURL())
	}
	return nodes
}

const namespace = "moved"

// contents is what a control plane holds.
type contents struct {
	t       *testing.T
	client  *kubernetes.Clientset
	dynamic dynamic.Interface
	size    int
}

func newContents(t *testing.T, api *apiServer) *contents {
	t.Helper()
	client, err := dynamic.NewForConfig(api.config)
	check(t, err)
	return &contents{t: t, client: api.client(), dynamic: client}
}

func (c *contents) configMap(name string) *core.ConfigMap {
	return &core.ConfigMap{
		ObjectMeta: meta.ObjectMeta{Name: name, Namespace: namespace},
		Data:       map[string]string{"version": "0", "filling": strings.Repeat("x", 2000)},
	}
}

// create fills a namespace with objects of many kinds, custom resources and events among them.
func (c *contents) create(size int) {
	c.t.Helper()
	c.size = size
	ctx, none := deadline(c.t), meta.CreateOptions{}
	space := &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: namespace}}
	_, err := c.client.CoreV1().Namespaces().Create(ctx, space, none)
	check(c.t, err)
	for number := range size {
		_, err := c.client.CoreV1().ConfigMaps(namespace).Create(ctx, c.configMap(name(number)), none)
		check(c.t, err)
		secret := &core.Secret{
			ObjectMeta: meta.ObjectMeta{Name: name(number)}, StringData: map[string]string{"key": name(number)},
		}
		_, err = c.client.CoreV1().Secrets(namespace).Create(ctx, secret, none)
		check(c.t, err)
		event := &core.Event{
			ObjectMeta:     meta.ObjectMeta{Name: name(number)},
			InvolvedObject: core.ObjectReference{Kind: "ConfigMap", Namespace: namespace, Name: name(number)},
			Reason:         "Created", LastTimestamp: meta.Now(),
		}
		_, err = c.client.CoreV1().Events(namespace).Create(ctx, event, none)
		check(c.t, err)
	}
	definitions := c.dynamic.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	_, err = definitions.Create(ctx, parsed(c.t, definition), none)
	check(c.t, err)
	stars := c.dynamic.Resource(schema.GroupVersionResource{
		Group: "sky.example", Version: "v1", Resource: "stars",
	}).Namespace(namespace)
	for number := range size {
		star := parsed(c.t, fmt.Sprintf(`{"apiVersion": "sky.example/v1", "kind": "Star",
			"metadata": {"name": %q}, "spec": {"magnitude": %d}}`, name(number), number))
		eventually(c.t, "a custom resource is taken", func() bool {
			_, err = stars.Create(ctx, star, none)
			return err == nil
		})
	}
}

const definition = `{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
	"metadata": {"name": "stars.sky.example"}, "spec": {"group": "sky.example", "scope": "Namespaced",
	"names": {"plural": "stars", "singular": "star", "kind": "Star"}, "versions": [{"name": "v1",
	"served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
	"x-kubernetes-preserve-unknown-fields": true}}}]}}`

func parsed(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	check(t, json.Unmarshal([]byte(text), &object.Object))
	return object
}

func name(number int) string { return fmt.Sprintf("object-%04d", number) }

// change updates every third object, and makes one.
func (c *contents) change(round int) {
	c.t.Helper()
	ctx, maps := deadline(c.t), c.client.CoreV1().ConfigMaps(namespace)
	for number := 0; number < c.size; number += 3 {
		found, err := maps.Get(ctx, name(number), meta.GetOptions{})
		check(c.t, err)
		found.Data["version"] = fmt.Sprint(round)
		_, err = maps.Update(ctx, found, meta.UpdateOptions{})
		check(c.t, err)
	}
	_, err := maps.Create(ctx, c.configMap(fmt.Sprintf("round-%d", round)), meta.CreateOptions{})
	check(c.t, err)
}

func (c *contents) configMaps() []core.ConfigMap {
	c.t.Helper()
	list, err := c.client.CoreV1().ConfigMaps(namespace).List(deadline(c.t), meta.ListOptions{})
	check(c.t, err)
	return list.Items
}

// all is every object of every kind, as JSON, by kind and name. What API servers renew on their own
// account is left out.
func (c *contents) all() map[string]string {
	c.t.Helper()
	kinds, err := discovery.ServerPreferredResources(c.client.Discovery())
	check(c.t, err)
	found := map[string]string{}
	for _, group := range kinds {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		check(c.t, err)
		for _, kind := range group.APIResources {
			if !slices.Contains(kind.Verbs, "list") || kind.Kind == "Lease" || kind.Name == "componentstatuses" {
				continue
			}
			list, err := c.dynamic.Resource(version.WithResource(kind.Name)).List(deadline(c.t), meta.ListOptions{})
			check(c.t, err)
			for _, object := range list.Items {
				if isAPIServers(object) {
					continue
				}
				text, err := object.MarshalJSON()
				check(c.t, err)
				key := version.WithKind(kind.Kind).String() + " " + object.GetNamespace() + "/" + object.GetName()
				found[key] = string(text)
			}
		}
	}
	return found
}

// isAPIServers is true for the addresses of API servers: one that stops takes its own away.
func isAPIServers(object unstructured.Unstructured) bool {
	return object.GetNamespace() == "default" && object.GetName() == "kubernetes" &&
		strings.HasPrefix(object.GetKind(), "Endpoint")
}

func expectSameObjects(t *testing.T, before, after map[string]string) {
	t.Helper()
	for key, text := range before {
		if after[key] != text {
			t.Errorf("%s was\n%s\nand is\n%s", key, text, after[key])
		}
	}
	expect(t, "objects", len(after), len(before))
	t.Logf("%d objects are what they were, with their resource versions", len(after))
}

// observer is an informer that runs all the time, as in any controller.
type observer struct {
	store cache.Store
	mutex sync.Mutex
	gone  int
}

func (c *contents) watch() *observer {
	c.t.Helper()
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	o := &observer{store: informer.GetStore()}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(any) {
		o.mutex.Lock()
		defer o.mutex.Unlock()
		o.gone++
	}})
	check(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	factory.Start(ctx.Done())
	return o
}

func (o *observer) deleted() int {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.gone
}

// expectCurrent has the informer come to what is listed.
func (o *observer) expectCurrent(c *contents) {
	c.t.Helper()
	start := time.Now()
	eventually(c.t, "the informer knows what is there", func() bool {
		listed := c.configMaps()
		if len(o.store.List()) != len(listed) {
			return false
		}
		for _, object := range listed {
			known, is, err := o.store.GetByKey(namespace + "/" + object.Name)
			if err != nil || !is || known.(*core.ConfigMap).ResourceVersion != object.ResourceVersion {
				return false
			}
		}
		return true
	})
	c.t.Logf("the informer was up to date after %v", time.Since(start).Round(time.Millisecond))
}
