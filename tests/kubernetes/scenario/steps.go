package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// step is a part of the scenario, which holds by itself whatever happens to the members meanwhile.
type step struct {
	name string
	do   func(ctx context.Context, r *run) error
}

// In this order: later ones use what earlier ones have made.
var everyStep = []step{
	{"nodes are ready", nodesAreReady},
	{"events are written", writeEvents},
	{"a deployment is scaled up", scaleDeployment},
	{"the deployment is rolled over", rollOver},
	{"namespaces come and go", namespaces},
	{"ConfigMaps are written and read", configMaps},
	{"Secrets are encrypted in the storage", secrets},
	{"optimistic conflicts", optimisticConflicts},
	{"server-side apply and its conflicts", serverSideApply},
	{"a custom resource is defined", defineCustom},
	{"custom resources are created", createCustoms},
	{"a list in chunks", chunkedList},
	{"a watch that begins with a list", watchList},
	{"three API servers tell the same", allAgree},
	{"an API server is killed and comes back", restartAPIServer},
	{"deletecollection", deleteCollection},
	{"the custom resource is removed", removeCustom},
	{"events have expired", eventsExpire},
	{"the deployment is deleted", deleteDeployment},
}

// in is the name of something of the current phase.
func (r *run) in(name string) string { return r.phase + "-" + name }

// kubectl runs it until it succeeds, against one API server after the other: what is asked of it is of
// the kind that can be asked again.
func (r *run) kubectl(ctx context.Context, input string, arguments ...string) (string, error) {
	var printed string
	_, err := r.asking(ctx, patience, func(ctx context.Context, server int) (err error) {
		printed, err = r.kubectlOnce(ctx, server, input, arguments...)
		return err
	})
	return printed, err
}

// How long kubectl may wait for what it was told to wait for.
const kubectlPatience = 9 * time.Minute

func (r *run) kubectlOnce(
	ctx context.Context, server int, input string, arguments ...string,
) (string, error) {
	arguments = append([]string{
		"--kubeconfig=" + r.plane.APIServers[server].Kubeconfig, "--cache-dir=" + r.plane.Home(),
	}, arguments...)
	limited, cancel := context.WithTimeout(ctx, kubectlPatience)
	defer cancel()
	command := exec.CommandContext(limited, r.plane.Kubectl(), arguments...)
	command.Stdin = strings.NewReader(input)
	var printed, complained bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complained
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %s", arguments[2], strings.TrimSpace(complained.String()))
	}
	return printed.String(), nil
}

// contradiction is what no retry may hide.
type contradiction string

func (c contradiction) Error() string { return string(c) }

func contradictionf(format string, values ...any) error {
	return contradiction(fmt.Sprintf(format, values...))
}

// asking is `try` for what has its own deadlines; the time runs from the first failure.
func (r *run) asking(
	ctx context.Context, within time.Duration, ask func(ctx context.Context, server int) error,
) (failed int, err error) {
	var deadline time.Time
	for ; ; failed++ {
		err := ask(ctx, failed%len(r.clients))
		var wrong contradiction
		if err == nil || ctx.Err() != nil || errors.As(err, &wrong) {
			return failed, err
		}
		if !isAnswer(err) {
			r.errors.add(kindOf(err))
		}
		if failed == 0 {
			deadline = time.Now().Add(within)
		}
		if time.Now().After(deadline) {
			return failed, fmt.Errorf("no retry cures it: %w", err)
		}
		pause(ctx, retryPause)
	}
}

// create makes a namespace.
func (r *run) create(ctx context.Context, server int, namespace string) error {
	failed, err := r.try(ctx, server, func(ctx context.Context, server int) error {
		_, err := r.clients[server].CoreV1().Namespaces().Create(ctx,
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		return err
	})
	return unlessMade(failed, err)
}

// unlessMade forgives that something is there already if an attempt to make it got no answer.
func unlessMade(failed int, err error) error {
	if failed > 0 && apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func nodesAreReady(ctx context.Context, r *run) error {
	_, err := r.kubectl(ctx, "", "wait", "--for=condition=Ready", "node", "--all", "--timeout=2m")
	if err != nil {
		return err
	}
	names, err := r.kubectl(ctx, "", "get", "nodes", "-o", "name")
	if err != nil {
		return err
	}
	if found := strings.Count(names, "\n"); found != r.size.nodes {
		return fmt.Errorf("there are %d nodes of %d", found, r.size.nodes)
	}
	return nil
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: "web:1"}
`

func scaleDeployment(ctx context.Context, r *run) error {
	if err := r.create(ctx, 0, r.in("web")); err != nil {
		return err
	}
	scale := fmt.Sprintf("--replicas=%d", r.size.pods)
	for _, arguments := range [][]string{
		{"apply", "-f", "-"},
		{"scale", "deployment/web", scale},
		{"rollout", "status", "deployment/web", "--timeout=8m"},
	} {
		if _, err := r.kubectl(ctx, deployment, append(arguments, "-n", r.in("web"))...); err != nil {
			return err
		}
	}
	return r.podsRun(ctx, "web:1")
}

func rollOver(ctx context.Context, r *run) error {
	for _, arguments := range [][]string{
		{"set", "image", "deployment/web", "web=web:2"},
		{"rollout", "status", "deployment/web", "--timeout=8m"},
	} {
		if _, err := r.kubectl(ctx, "", append(arguments, "-n", r.in("web"))...); err != nil {
			return err
		}
	}
	return r.podsRun(ctx, "web:2")
}

// podsRun waits until all pods run with an image, on nodes, and no other is left.
func (r *run) podsRun(ctx context.Context, image string) error {
	return eventually(ctx, patience, func() error {
		var pods *corev1.PodList
		_, err := r.try(ctx, 1, func(ctx context.Context, server int) (err error) {
			pods, err = r.clients[server].CoreV1().Pods(r.in("web")).List(ctx, metav1.ListOptions{})
			return err
		})
		if err != nil {
			return err
		}
		running := 0
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning && pod.Spec.NodeName != "" &&
				pod.Spec.Containers[0].Image == image && pod.DeletionTimestamp == nil {
				running++
			}
		}
		if running != r.size.pods || len(pods.Items) != r.size.pods {
			return fmt.Errorf("of %d pods %d run %s; wanted %d", len(pods.Items), running, image, r.size.pods)
		}
		return nil
	})
}

func deleteDeployment(ctx context.Context, r *run) error {
	return r.removeNamespaces(ctx, r.in("web"))
}

const perNamespace = 5

// namespaces: half of them go, and with them all that is in them; the others keep what they have.
func namespaces(ctx context.Context, r *run) error {
	var going, staying []string
	for i := range r.size.namespaces {
		name := fmt.Sprintf("%s-%d", r.in("space"), i)
		if err := r.create(ctx, i, name); err != nil {
			return err
		}
		for object := range perNamespace {
			if err := r.createMap(ctx, i, name, fmt.Sprintf("map-%d", object)); err != nil {
				return err
			}
		}
		if i%2 == 0 {
			going = append(going, name)
		} else {
			staying = append(staying, name)
		}
	}
	if err := r.removeNamespaces(ctx, going...); err != nil {
		return err
	}
	for _, name := range staying {
		listed, err := r.kubectl(ctx, "", "get", "configmaps", "-n", name, "-o", "name")
		if err != nil {
			return err
		}
		if found := strings.Count(listed, "configmap/map-"); found != perNamespace {
			return fmt.Errorf("%s has %d ConfigMaps of %d", name, found, perNamespace)
		}
	}
	return r.removeNamespaces(ctx, staying...)
}

// removeNamespaces waits until nothing of them is left in the storage, either.
func (r *run) removeNamespaces(ctx context.Context, names ...string) error {
	delete := append([]string{"delete", "namespace", "--ignore-not-found", "--timeout=8m"}, names...)
	if _, err := r.kubectl(ctx, "", delete...); err != nil {
		return err
	}
	for _, name := range names {
		for _, kind := range []string{"configmaps", "pods", "namespaces"} {
			prefix := "/registry/" + kind + "/" + name + "/"
			if kind == "namespaces" {
				prefix = "/registry/namespaces/" + name
			}
			left, err := r.stored(ctx, prefix)
			if err != nil {
				return err
			}
			if kind != "namespaces" && len(left.Kvs) > 0 || kind == "namespaces" && holdsKey(left, prefix) {
				return errors.New(name + " is gone, and some of its " + kind + " are in the storage")
			}
		}
	}
	return nil
}
