// Command up starts a Kubernetes control plane with fake nodes on three members, or on the cluster that
// ETCD_ENDPOINTS names (with ETCD_CACERT, ETCD_CERT and ETCD_KEY, as etcdctl's variables are called
// without CTL), and keeps it until Ctrl-C.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"orrery.invalid/kubernetes/plane"
)

func main() {
	server := flag.String("server", "", "the `binary` of the members")
	binaries := flag.String("binaries", "", "the `directory` of Kubernetes' programs")
	home := flag.String("home", "", "`directory` for data and logs; a temporary one by default")
	nodes := flag.Int("nodes", 3, "how many fake nodes there are")
	servers := flag.Int("api-servers", 1, "how many API servers there are")
	flag.Parse()
	config := plane.Config{Binaries: *binaries, APIServers: *servers, Nodes: *nodes}
	if err := run(*server, *home, config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(server, named string, config plane.Config) error {
	ctx, end := signal.NotifyContext(context.Background(),
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer end()
	home, remove, err := plane.MakeHome(named)
	if err != nil {
		return err
	}
	defer remove()
	config.Home = home
	if endpoints := os.Getenv("ETCD_ENDPOINTS"); endpoints != "" {
		config.Storage = plane.Storage{
			Endpoints: strings.Split(endpoints, ","),
			Bundle:    os.Getenv("ETCD_CACERT"),
			Client:    plane.Pair{Certificate: os.Getenv("ETCD_CERT"), Key: os.Getenv("ETCD_KEY")},
		}
	} else {
		members, err := plane.StartMembers(ctx, server, home, 3)
		if err != nil {
			return err
		}
		defer members.Stop()
		config.Storage = members.Storage()
	}
	fmt.Println("starting a control plane on", strings.Join(config.Storage.Endpoints, ","))
	started, err := plane.Start(ctx, config)
	if err != nil {
		return err
	}
	defer started.Stop()

	kubeconfig := started.APIServers[0].Kubeconfig
	show := exec.Command(started.Kubectl(), "--kubeconfig="+kubeconfig, "get", "nodes")
	show.Stdout, show.Stderr = os.Stdout, os.Stderr
	if err := show.Run(); err != nil {
		return err
	}
	fmt.Printf("\nIt runs until Ctrl-C; data and logs are in %s. In another terminal:\n", home)
	fmt.Printf("  export KUBECONFIG=%s\n  alias kubectl=%s\n", kubeconfig, started.Kubectl())
	fmt.Println("  kubectl create deployment hello --image=hello --replicas=5; kubectl get pods -o wide")
	<-ctx.Done()
	fmt.Println("stopping")
	return nil
}
